"""Job leases against a simple model: any order of claims, results, expiries and sweeps gives the model's state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete

from relab.core.ids import new_id
from relab.jobs import repository
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import LANES, JobStatus, Lane
from relab.jobs.queue import JobQueue
from relab.jobs.tables import JobRow
from relab.storage import Database
from support.clocks import MovableClock
from support.storage.migrated import migrate

LEASE_US = 10
WORKERS = st.sampled_from(["ann", "bob", "cyd"])
PICK = st.integers(0, 10)


@dataclass
class ModelJob:
    """The model's state of one job."""

    job_id: str
    max_attempts: int
    run_after: int
    lane: Lane = Lane.BACKGROUND
    status: JobStatus = JobStatus.PENDING
    attempts: int = 0
    owner: str | None = None
    lease_until: int = 0

    def is_runnable(self, now: int) -> bool:
        """Return whether the job is pending and due, or abandoned with attempts left."""
        if self.status is JobStatus.PENDING:
            return self.run_after <= now
        return self.is_abandoned(now) and self.attempts < self.max_attempts

    def is_abandoned(self, now: int) -> bool:
        """Return whether the job is running under an expired lease."""
        return self.status is JobStatus.RUNNING and self.lease_until < now

    def is_held_by(self, worker: str) -> bool:
        """Return whether the job is running for this worker."""
        return self.status is JobStatus.RUNNING and self.owner == worker


class LeaseMachine(RuleBasedStateMachine):
    """Workers that act in any order while time passes."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.clock = MovableClock(us=1_000)
        self.queue = JobQueue(self.database, self.clock, EmbeddedBackend())
        self.jobs: list[ModelJob] = []
        with self.database.write() as unit:
            unit.session.execute(delete(JobRow))

    def pick(self, number: int) -> ModelJob:
        """Return one of the jobs, or an unknown job if the model has no jobs."""
        return self.jobs[number % len(self.jobs)] if self.jobs else ModelJob(new_id(), 1, 0)

    @rule(max_attempts=st.integers(1, 3), lane=st.sampled_from(LANES))
    def enqueue(self, max_attempts: int, lane: Lane) -> None:
        with self.database.write() as unit:
            job_id = self.queue.enqueue(unit, "work", {}, lane=lane, max_attempts=max_attempts)
        self.jobs.append(ModelJob(job_id, max_attempts, self.clock.us, lane))

    @rule(us=st.integers(1, 2 * LEASE_US))
    def time_passes(self, us: int) -> None:
        self.clock.us += us

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        now = self.clock.us
        waiting = sorted(
            (job for job in self.jobs if job.is_runnable(now)),
            key=lambda job: (LANES.index(job.lane), job.run_after, job.job_id),
        )
        with self.database.write() as unit:
            claimed = repository.claim(unit.session, job_id=None, owner=worker, now=now, lease_until=now + LEASE_US)
        assert (claimed.job_id if claimed else None) == (waiting[0].job_id if waiting else None)
        if waiting:
            job = waiting[0]
            job.status, job.owner, job.lease_until = JobStatus.RUNNING, worker, now + LEASE_US
            job.attempts += 1

    @rule(worker=WORKERS, number=PICK)
    def extend(self, worker: str, number: int) -> None:
        job, until = self.pick(number), self.clock.us + LEASE_US
        with self.database.write() as unit:
            held = repository.extend_lease(unit.session, job.job_id, worker, until)
        assert held == job.is_held_by(worker)
        if held:
            job.lease_until = until

    @rule(worker=WORKERS, number=PICK)
    def finish(self, worker: str, number: int) -> None:
        job = self.pick(number)
        with self.database.write() as unit:
            finished = repository.finish(unit.session, job.job_id, worker, self.clock.us)
        assert finished == job.is_held_by(worker)
        if finished:
            job.status, job.owner = JobStatus.DONE, None

    @rule(worker=WORKERS, number=PICK, pause_us=st.integers(0, LEASE_US))
    def release(self, worker: str, number: int, pause_us: int) -> None:
        job, run_after = self.pick(number), self.clock.us + pause_us
        with self.database.write() as unit:
            released = repository.release(unit.session, job.job_id, worker, run_after=run_after, error="x")
        assert released == job.is_held_by(worker)
        if released:
            job.status, job.owner, job.run_after = JobStatus.PENDING, None, run_after

    @rule(worker=WORKERS, number=PICK)
    def park(self, worker: str, number: int) -> None:
        job = self.pick(number)
        with self.database.write() as unit:
            parked = repository.park(unit.session, job.job_id, worker, now=self.clock.us, error="x")
        assert parked == job.is_held_by(worker)
        if parked:
            job.status, job.owner = JobStatus.PARKED, None

    @rule(worker=WORKERS)
    def take_exhausted(self, worker: str) -> None:
        now = self.clock.us
        exhausted = [job for job in self.jobs if job.is_abandoned(now) and job.attempts >= job.max_attempts]
        with self.database.write() as unit:
            taken = repository.take_exhausted(unit.session, owner=worker, now=now, lease_until=now + LEASE_US)
        assert sorted(job.job_id for job in taken) == sorted(job.job_id for job in exhausted)
        for job in exhausted:
            job.owner, job.lease_until = worker, now + LEASE_US

    @rule(number=PICK)
    def retry_by_hand(self, number: int) -> None:
        job = self.pick(number)
        with self.database.write() as unit:
            reset = repository.reset(unit.session, job.job_id, self.clock.us)
        assert reset == (job.lane if job.status is JobStatus.PARKED else None)
        if reset:
            job.status, job.attempts, job.run_after = JobStatus.PENDING, 0, self.clock.us

    @rule(number=PICK)
    def drop(self, number: int) -> None:
        job = self.pick(number)
        with self.database.write() as unit:
            dropped = repository.drop(unit.session, job.job_id)
        assert dropped == (job in self.jobs and job.status is not JobStatus.RUNNING)
        if dropped:
            self.jobs.remove(job)

    @invariant()
    def table_and_model_agree(self) -> None:
        stored = {job.job_id: (job.status, job.attempts, job.lease_owner) for job in self.queue.list(limit=1_000)}
        assert stored == {job.job_id: (job.status, job.attempts, job.owner) for job in self.jobs}
        assert all(job.attempts <= job.max_attempts for job in self.jobs)


def test_no_order_of_events_breaks_a_lease(tmp_path: Path) -> None:
    LeaseMachine.database = Database.open(f"sqlite:///{tmp_path}/model.db")
    migrate(LeaseMachine.database)
    run_state_machine_as_test(LeaseMachine, settings=settings(max_examples=12, stateful_step_count=25, deadline=None))
    LeaseMachine.database.close()
