"""The sweeper: one process sweeps at a time, failures are not hidden, and a clock that is set back does not stop it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from relab.core.clock import SystemClock
from relab.jobs import repository
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import Lane, Subscription
from relab.jobs.queue import JobQueue
from relab.jobs.runner import JobRunner
from relab.jobs.worker import Sweeper, sweeping, work_until
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.storage.transactions import transaction_waits

AT_ONCE_S = 0.000_001


def test_only_one_of_several_sweepers_works_until_its_lease_expires(database: Database) -> None:
    clock = MovableClock()
    queue = JobQueue(database, clock, EmbeddedBackend())
    swept: list[str] = []
    one, other = (
        Sweeper(database, clock, name, lambda name=name: swept.append(name), every_s=AT_ONCE_S)  # type: ignore[misc]
        for name in ("one", "other")
    )
    assert not queue.worker_lives()
    one()
    other()
    one()
    assert swept == ["one", "one"]
    assert queue.worker_lives()
    clock.move(3 * AT_ONCE_S)
    assert not queue.worker_lives()
    other()
    one()
    assert swept == ["one", "one", "other"]


def test_one_of_several_concurrent_first_sweepers_sweeps(database: Database) -> None:
    swept: list[int] = []

    def start(number: int) -> None:
        sweeper = Sweeper(database, SystemClock(), str(number), lambda: swept.append(number), every_s=60)
        barrier.wait()
        sweeper()

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(start, number) for number in range(8)]:
            done.result()
    assert len(swept) == 1


def test_a_sweeper_works_once_in_its_interval_even_if_the_clock_is_set_back(database: Database) -> None:
    clock, swept = MovableClock(), []
    often = Sweeper(database, clock, "me", lambda: swept.append("often"), every_s=AT_ONCE_S)
    often()
    clock.move(-86_400)
    often()
    assert swept == ["often", "often"]
    rarely = Sweeper(database, clock, "me", lambda: swept.append("rarely"), every_s=3_600)
    rarely()
    clock.move(7_200)
    rarely()
    assert swept == ["often", "often", "rarely"]


def test_sweeps_continue_during_a_long_job(database: Database) -> None:
    queue = JobQueue(database, SystemClock(), EmbeddedBackend())
    stop = threading.Event()
    sweeps: list[int] = []

    def long_job(_args: object) -> None:
        before = len(sweeps)
        wait_until(lambda: len(sweeps) > before + 3)
        stop.set()

    with database.write() as unit:
        queue.enqueue(unit, "long", {})
    runner = JobRunner(database, SystemClock(), [Subscription("long", long_job)], lease_s=60)
    work_until(stop, EmbeddedBackend(0.01), runner, lambda: sweeps.append(1), sweep_s=0.01)
    assert queue.counts().done == 1


def test_sweeps_continue_after_the_database_was_unavailable() -> None:
    stop = threading.Event()
    calls: list[int] = []

    def sweep() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise DatabaseUnavailableError("gone")

    with sweeping(sweep, stop, every_s=0.001):
        wait_until(lambda: len(calls) > 3)
        assert not stop.is_set()


def test_any_other_error_of_a_sweep_ends_the_worker(database: Database) -> None:
    def sweep() -> None:
        raise KeyError("a bug")

    runner = JobRunner(database, SystemClock(), [], lease_s=60)
    with pytest.raises(KeyError) as caught:
        work_until(threading.Event(), EmbeddedBackend(0.01), runner, sweep, sweep_s=0.01)
    assert caught.value.args == ("a bug",)


def test_pending_jobs_of_a_lower_lane_do_not_delay_announcements(database: Database) -> None:
    clock = MovableClock()
    queue = JobQueue(database, clock, EmbeddedBackend())

    def announced() -> set[str]:
        clock.move(1)
        now = clock.now_us()
        with database.write() as unit:
            return {job_id for job_id, _ in repository.take_unannounced(unit.session, now, now, limit=3)}

    with database.write() as unit:
        long = [queue.enqueue(unit, "train", {}, lane=Lane.LONG) for _ in range(4)]
        urgent = queue.enqueue(unit, "analyze", {}, lane=Lane.INTERACTIVE)

    first = announced()
    assert urgent in first
    assert first - {urgent} == set(long[:3])
    assert long[3] in announced()


def test_job_whose_announcement_is_just_repeated_is_claimed_all_the_same(database: Database) -> None:
    clock = MovableClock()
    queue = JobQueue(database, clock, EmbeddedBackend())
    with database.write() as unit:
        job_id = queue.enqueue(unit, "work", {})
    ran: list[object] = []
    runner = JobRunner(database, clock, [Subscription("work", ran.append)], lease_s=10)
    with ThreadPoolExecutor(1) as pool:
        with database.write() as unit:
            # Its transaction locks the jobs that it announces again.
            found = repository.take_unannounced(unit.session, clock.us, clock.us + 1, 10)
            claiming = pool.submit(runner.run_next, job_id)
            waits = claiming.running if database.is_sqlite else lambda: transaction_waits(database)
            wait_until(lambda: claiming.done() or waits(), what="the claim of the job")
        assert claiming.result()
    assert found == [(job_id, Lane.BACKGROUND)]
    assert ran == [{}]
