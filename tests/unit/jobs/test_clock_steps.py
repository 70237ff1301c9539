"""Jobs and leases while the machine's clock steps back by a day or forward by a year."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.jobs import repository
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import JobStatus, Subscription
from relab.jobs.queue import JobQueue
from relab.jobs.runner import JobRunner
from relab.jobs.worker import Sweeper
from relab.storage import Database
from support.clocks import MovableClock
from support.storage.migrated import migrate

DAY_S = 86_400.0
LEASE_S = 15.0


class World:
    """A job queue, and workers that share a clock moved by the test."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.done = database, MovableClock(), 0
        self.fails = False
        self.queue = JobQueue(database, self.clock, EmbeddedBackend())

    def worker(self, owner: str) -> JobRunner:
        return JobRunner(
            self.database, self.clock, [Subscription("work", lambda _: self._work())], lease_s=LEASE_S, owner=owner
        )

    def enqueue(self, max_attempts: int = 3) -> str:
        with self.database.write() as unit:
            return self.queue.enqueue(unit, "work", {}, max_attempts=max_attempts)

    def claim(self, owner: str) -> None:
        """Lease a job for a worker that then dies or is slow."""
        now = self.clock.us
        with self.database.write() as unit:
            until = now + int(LEASE_S * 1_000_000)
            assert repository.claim(unit.session, job_id=None, owner=owner, now=now, lease_until=until)

    def _work(self) -> None:
        if self.fails:
            raise RuntimeError("not yet")
        self.done += 1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database.open(f"sqlite:///{tmp_path}/jobs.db")
    migrate(database)
    yield World(database)
    database.close()


def test_pending_job_starts_although_the_clock_was_set_back(world: World) -> None:
    world.enqueue()
    world.clock.move(-DAY_S)
    worker = world.worker("new")

    worker.sweep(keep_done_s=DAY_S)

    assert worker.run_next()
    assert world.done == 1


def test_failed_job_is_retried_although_the_clock_was_set_back(world: World) -> None:
    job_id, worker = world.enqueue(), world.worker("same")
    world.fails = True
    assert worker.run_next()
    world.fails = False
    world.clock.move(-DAY_S)

    worker.sweep(keep_done_s=DAY_S)

    assert worker.run_next()
    assert world.queue.get(job_id).status is JobStatus.DONE


def test_job_of_a_dead_worker_is_taken_over_although_the_clock_was_set_back(world: World) -> None:
    job_id, worker = world.enqueue(), world.worker("new")
    world.claim("dead")
    world.clock.move(-DAY_S)

    worker.sweep(keep_done_s=DAY_S)
    assert not worker.run_next(), "the worker may be alive: its lease has not ended yet"
    world.clock.move(2 * LEASE_S + 61)

    assert worker.run_next()
    assert world.queue.get(job_id).status is JobStatus.DONE


def test_job_on_its_last_attempt_is_parked_although_the_clock_was_set_back(world: World) -> None:
    job_id, worker = world.enqueue(max_attempts=1), world.worker("new")
    world.claim("dead")
    world.clock.move(-DAY_S)

    worker.sweep(keep_done_s=DAY_S)
    world.clock.move(2 * LEASE_S + 61)
    worker.sweep(keep_done_s=DAY_S)

    assert world.queue.get(job_id).status is JobStatus.PARKED


def test_live_worker_keeps_its_job_when_the_clock_is_set_back(world: World) -> None:
    job_id = world.enqueue()
    world.claim("slow")
    world.clock.move(-DAY_S)
    world.worker("other").sweep(keep_done_s=DAY_S)

    with world.database.write() as unit:
        until = world.clock.us + int(LEASE_S * 1_000_000)
        assert repository.extend_lease(unit.session, job_id, "slow", until)
    assert not world.worker("other").run_next()
    with world.database.write() as unit:
        assert repository.finish(unit.session, job_id, "slow", world.clock.us)


def test_job_is_recorded_once_when_the_clock_is_set_forward(world: World) -> None:
    job_id = world.enqueue()
    world.claim("slow")
    world.clock.move(365 * DAY_S)

    # The lease has expired by this clock, so another worker runs the job too: delivery is at least once.
    assert world.worker("other").run_next()
    with world.database.write() as unit:
        assert not repository.finish(unit.session, job_id, "slow", world.clock.us)

    job = world.queue.get(job_id)
    assert job.status == JobStatus.DONE
    assert job.attempts == 2
    assert job.lease_owner is None


def test_retry_time_is_unchanged_without_a_clock_step(world: World) -> None:
    job_id, worker = world.enqueue(), world.worker("same")
    world.fails = True
    assert worker.run_next()
    before = world.queue.get(job_id)

    worker.sweep(keep_done_s=DAY_S)

    assert world.queue.get(job_id) == before
    assert not worker.run_next(), "the pause before the next attempt holds"


def test_sweep_lease_is_taken_over_after_the_clock_was_set_back(world: World) -> None:
    swept: list[str] = []

    def sweeper(owner: str) -> Sweeper:
        return Sweeper(world.database, world.clock, owner, lambda: swept.append(owner), every_s=5)

    sweeper("dead")()
    assert world.queue.worker_lives()
    sweeper("beside it")()
    assert swept == ["dead"], "the lease holds"
    world.clock.move(-DAY_S)

    assert not world.queue.worker_lives()
    sweeper("new")()

    assert swept == ["dead", "new"]
    assert world.queue.worker_lives()


def test_sweeper_continues_after_the_clock_was_set_back(world: World) -> None:
    swept: list[str] = []
    for step_s in (0, -DAY_S, 365 * DAY_S):
        world.clock.move(step_s)
        Sweeper(world.database, world.clock, "same", lambda: swept.append("same"), every_s=5)()

    assert swept == ["same"] * 3
