"""The job runner on both databases, with a movable clock: leases, attempts, back-off, sweeps and retention."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from relab.core.clock import SystemClock
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.errors import JobNotFoundError, JobStateError, PermanentJobError
from relab.jobs.models import Job, JobStatus, Subscription
from relab.jobs.queue import JobQueue
from relab.jobs.runner import JobRunner, backoff_s
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from rig.waiting import wait_until
from support.clocks import MovableClock

LEASE_S = 10.0
DAY_S = 86_400.0

Handler = Callable[[Mapping[str, Any]], None]


class Desk:
    """A job queue and a clock for a test, and runners that use both."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = MovableClock()
        self.queue = JobQueue(database, self.clock, EmbeddedBackend())
        self.parked: list[tuple[str, str]] = []

    def runner(self, handler: Handler, *, listener: Callable[[Job, str], None] | None = None) -> JobRunner:
        """Return a new runner that runs jobs named `work` with `handler`."""
        told = listener or (lambda job, error: self.parked.append((job.job_id, error)))
        return JobRunner(self.database, self.clock, [Subscription("work", handler, told)], lease_s=LEASE_S)

    def enqueue(self, *, max_attempts: int = 3, **args: Any) -> str:
        """Queue a job named `work` in a separate transaction, and return its id."""
        with self.database.write() as unit:
            return self.queue.enqueue(unit, "work", args, max_attempts=max_attempts)


@pytest.fixture
def desk(database: Database) -> Desk:
    """A desk on each back end."""
    return Desk(database)


def ignore(args: Mapping[str, Any]) -> None:
    """Succeed."""


def break_down(args: Mapping[str, Any]) -> None:
    """Fail."""
    raise RuntimeError("it broke")


def test_the_oldest_job_runs_first_and_gets_its_arguments(desk: Desk) -> None:
    ran: list[Any] = []
    for number in range(5):
        desk.enqueue(number=number, nested={"list": [1, None, "ü"]})
        desk.clock.move(0.001 if number % 2 else 0)
    runner = desk.runner(ran.append)
    while runner.run_next():
        pass
    assert ran == [{"number": number, "nested": {"list": [1, None, "ü"]}} for number in range(5)]
    assert not runner.has_work()


def test_runner_runs_only_the_requested_job(desk: Desk) -> None:
    first, second = desk.enqueue(), desk.enqueue()
    runner = desk.runner(ignore)
    assert runner.run_next(second)
    assert not runner.run_next(second)
    assert not runner.run_next("no-such-job")
    assert desk.queue.get(first).status is JobStatus.PENDING


def test_the_pauses_between_attempts_grow_and_are_kept(desk: Desk) -> None:
    job_id = desk.enqueue(max_attempts=4)
    runner = desk.runner(break_down)
    for attempt, pause_s in enumerate((1.0, 2.0, 4.0), start=1):
        assert runner.run_next()
        job = desk.queue.get(job_id)
        assert job.status == JobStatus.PENDING
        assert job.attempts == attempt
        assert job.error == "RuntimeError: it broke"
        assert job.run_after == desk.clock.us + pause_s * 1_000_000
        desk.clock.move(pause_s - 0.000_001)
        assert not runner.has_work()
        assert not runner.run_next()
        desk.clock.move(0.000_001)
        assert runner.has_work()
    assert desk.parked == []
    assert runner.run_next()
    assert desk.queue.get(job_id).status is JobStatus.PARKED
    assert desk.parked == [(job_id, "RuntimeError: it broke")]


def test_no_pause_is_longer_than_a_minute() -> None:
    assert [backoff_s(attempts) for attempts in (0, 1, 2, 6, 7, 1_000)] == [1.0, 1.0, 2.0, 32.0, 60.0, 60.0]


def test_lease_ends_after_its_last_microsecond(desk: Desk) -> None:
    job_id = desk.enqueue()
    other = desk.runner(ignore)

    def outlive_the_lease(args: Mapping[str, Any]) -> None:
        desk.clock.move(LEASE_S)
        assert not other.has_work()
        assert not other.run_next()
        desk.clock.move(0.000_001)
        assert other.has_work()
        assert other.run_next()

    desk.runner(outlive_the_lease).run_next()
    job = desk.queue.get(job_id)
    assert job.status == JobStatus.DONE
    assert job.attempts == 2


@pytest.mark.parametrize("outcome", [ignore, break_down])
def test_runner_that_lost_its_lease_records_nothing(desk: Desk, outcome: Handler) -> None:
    job_id = desk.enqueue()
    seen: list[Job] = []

    def successor(args: Mapping[str, Any]) -> None:
        seen.append(desk.queue.get(job_id))
        raise PermanentJobError("no")

    def zombie(args: Mapping[str, Any]) -> None:
        desk.clock.move(LEASE_S + 1)
        assert desk.runner(successor).run_next()
        outcome(args)

    desk.runner(zombie).run_next()
    job = desk.queue.get(job_id)
    assert job.status == JobStatus.PARKED
    assert job.error == "PermanentJobError: no"
    assert job.attempts == 2
    assert seen[0].attempts == 2


def test_runner_that_lost_its_lease_does_not_touch_the_running_job(desk: Desk) -> None:
    job_id = desk.enqueue()
    holders: list[str | None] = []

    def zombie(args: Mapping[str, Any]) -> None:
        """Lose the lease, and return during the attempt of the next runner."""
        desk.clock.move(LEASE_S + 1)
        back.set()
        assert ended.wait(10)

    def successor(args: Mapping[str, Any]) -> None:
        ended.set()
        zombies.result()
        job = desk.queue.get(job_id)
        holders.append(job.lease_owner)
        assert job.status is JobStatus.RUNNING

    back, ended = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        zombies = pool.submit(desk.runner(zombie).run_next)
        assert back.wait(10)
        runner = desk.runner(successor)
        assert runner.run_next()
    assert holders == [runner.owner]
    assert desk.queue.get(job_id).status is JobStatus.DONE


def test_sweep_parks_a_job_whose_last_allowed_attempt_lost_its_lease(desk: Desk) -> None:
    job_id = desk.enqueue(max_attempts=1)
    sweeper = desk.runner(ignore)

    def vanish(args: Mapping[str, Any]) -> None:
        sweeper.sweep(keep_done_s=DAY_S)
        assert desk.queue.get(job_id).status is JobStatus.RUNNING
        desk.clock.move(LEASE_S + 1)
        assert not sweeper.run_next()
        sweeper.sweep(keep_done_s=DAY_S)
        sweeper.sweep(keep_done_s=DAY_S)

    desk.runner(vanish).run_next()
    job = desk.queue.get(job_id)
    assert job.status == JobStatus.PARKED
    assert job.attempts == 1
    assert job.finished_at == desk.clock.us
    assert [told for told, _ in desk.parked] == [job_id]
    assert "last allowed attempt" in str(job.error)


def test_next_sweep_parks_a_job_whose_sweep_failed(desk: Desk) -> None:
    job_id = desk.enqueue(max_attempts=1)
    told: list[str] = []

    def lose_the_database(job: Job, error: str) -> None:
        told.append(job.job_id)
        if len(told) == 1:
            raise DatabaseUnavailableError("gone")

    def vanish(args: Mapping[str, Any]) -> None:
        desk.clock.move(LEASE_S + 1)
        sweeper = desk.runner(ignore, listener=lose_the_database)
        with pytest.raises(DatabaseUnavailableError):
            sweeper.sweep(keep_done_s=DAY_S)
        assert desk.queue.get(job_id).status is JobStatus.RUNNING

    desk.runner(vanish).run_next()
    # The first worker returned, but the sweep had already claimed the job.
    assert desk.queue.get(job_id).status is JobStatus.RUNNING
    desk.clock.move(LEASE_S + 1)
    desk.runner(ignore, listener=lose_the_database).sweep(keep_done_s=DAY_S)
    assert desk.queue.get(job_id).status is JobStatus.PARKED
    assert told == [job_id, job_id]


def test_failing_listener_does_not_prevent_parking(desk: Desk) -> None:
    def listener(job: Job, error: str) -> None:
        raise KeyError("rca_run_id")

    failing, dying = desk.enqueue(max_attempts=1), desk.enqueue(max_attempts=1)
    assert desk.runner(break_down, listener=listener).run_next()

    def vanish(args: Mapping[str, Any]) -> None:
        desk.clock.move(LEASE_S + 1)
        desk.runner(ignore, listener=listener).sweep(keep_done_s=DAY_S)

    desk.runner(vanish).run_next()
    for job_id, reason in ((failing, "it broke"), (dying, "The worker died")):
        job = desk.queue.get(job_id)
        assert job.status is JobStatus.PARKED
        assert reason in str(job.error)
        assert "a listener of work failed: KeyError: 'rca_run_id'" in str(job.error)


@pytest.mark.parametrize("message", ["x" * 100_000, "nul \x00 inside", "half a pair \ud800", ""])
def test_an_error_with_any_text_can_be_stored(desk: Desk, message: str) -> None:
    def fail(args: Mapping[str, Any]) -> None:
        raise RuntimeError(message)

    job_id = desk.enqueue(max_attempts=1)
    assert desk.runner(fail).run_next()
    error = desk.queue.get(job_id).error
    assert error is not None
    assert error.startswith("RuntimeError: " + message[:4])
    assert len(error) <= 4_000


def test_job_runs_again_after_its_lease_if_the_database_was_unavailable(desk: Desk) -> None:
    def lose_the_database(args: Mapping[str, Any]) -> None:
        raise DatabaseUnavailableError("gone")

    job_id = desk.enqueue()
    with pytest.raises(DatabaseUnavailableError):
        desk.runner(lose_the_database).run_next()
    assert desk.queue.get(job_id).status is JobStatus.RUNNING
    desk.clock.move(LEASE_S + 1)
    assert desk.runner(ignore).run_next()
    assert desk.queue.get(job_id).attempts == 2


def test_the_heartbeat_extends_the_lease_while_the_handler_runs(database: Database) -> None:
    queue = JobQueue(database, SystemClock(), EmbeddedBackend())

    def wait_for_beats(args: Mapping[str, Any]) -> None:
        leases: set[int | None] = set()

        def three_beats() -> bool:
            leases.add(queue.get(job_id).lease_until)
            return len(leases) > 3

        wait_until(three_beats)

    with database.write() as unit:
        job_id = queue.enqueue(unit, "work", {})
    threads = threading.active_count()
    JobRunner(database, SystemClock(), [Subscription("work", wait_for_beats)], lease_s=0.5).run_next()
    assert queue.get(job_id).status is JobStatus.DONE
    assert threading.active_count() == threads


def test_only_a_parked_job_can_be_retried_and_it_gets_all_its_attempts(desk: Desk) -> None:
    job_id = desk.enqueue(max_attempts=1)
    with pytest.raises(JobStateError) as caught:
        desk.queue.retry(job_id)
    assert caught.value.code == "job_state"
    assert f"{job_id} is pending" in caught.value.message
    desk.runner(break_down).run_next()
    desk.queue.retry(job_id)
    job = desk.queue.get(job_id)
    assert job.status == JobStatus.PENDING
    assert job.attempts == 0
    assert job.error is None
    assert job.finished_at is None
    assert job.run_after == desk.clock.us
    desk.runner(ignore).run_next()
    with pytest.raises(JobStateError) as caught:
        desk.queue.retry(job_id)
    assert caught.value.code == "job_state"
    assert "is done" in caught.value.message
    with pytest.raises(JobNotFoundError, match="no-such"):
        desk.queue.retry("no-such")


def test_any_job_except_a_running_one_can_be_dropped(desk: Desk) -> None:
    def try_to_drop(args: Mapping[str, Any]) -> None:
        with pytest.raises(JobStateError) as caught:
            desk.queue.drop(running)
        assert caught.value.code == "job_state"
        assert f"{running} is running" in caught.value.message

    running = desk.enqueue()
    desk.runner(try_to_drop).run_next()
    pending, parked = desk.enqueue(), desk.enqueue(max_attempts=1)
    desk.runner(break_down).run_next(parked)
    for job_id in (running, pending, parked):
        desk.queue.drop(job_id)
        with pytest.raises(JobNotFoundError):
            desk.queue.get(job_id)
    with pytest.raises(JobNotFoundError):
        desk.queue.drop(pending)
    assert not desk.runner(ignore).has_work()


def test_only_old_done_jobs_are_pruned(desk: Desk) -> None:
    old_done, old_parked, late_done = desk.enqueue(), desk.enqueue(max_attempts=1), desk.enqueue()
    desk.runner(ignore).run_next(old_done)
    desk.runner(break_down).run_next(old_parked)
    desk.clock.move(DAY_S)
    desk.runner(ignore).run_next(late_done)
    old_pending = desk.enqueue()
    runner = desk.runner(ignore)
    runner.sweep(keep_done_s=DAY_S)
    assert len(desk.queue.list()) == 4
    desk.clock.move(0.000_001)
    runner.sweep(keep_done_s=DAY_S)
    assert {job.job_id for job in desk.queue.list()} == {old_parked, late_done, old_pending}


def test_counts_and_list_show_the_status_of_jobs(desk: Desk) -> None:
    assert desk.queue.counts().model_dump() == {
        "pending": 0, "running": 0, "done": 0, "parked": 0, "oldest_pending_s": 0.0,
    }  # fmt: skip
    done, parked, first = desk.enqueue(), desk.enqueue(max_attempts=1), desk.enqueue()
    desk.runner(ignore).run_next(done)
    desk.runner(break_down).run_next(parked)
    desk.clock.move(2.5)
    second = desk.enqueue()
    retried = desk.enqueue()
    desk.runner(break_down).run_next(retried)

    def look(args: Mapping[str, Any]) -> None:
        assert desk.queue.counts().running == 1

    counts = desk.queue.counts()
    assert counts.pending == 3
    assert counts.done == 1
    assert counts.parked == 1
    assert counts.oldest_pending_s == 2.5
    assert [job.job_id for job in desk.queue.list(limit=4)] == [retried, second, first, parked]
    assert [job.job_id for job in desk.queue.list(status=JobStatus.DONE)] == [done]
    desk.runner(look).run_next()


def test_many_workers_never_run_one_job_at_the_same_time(database: Database) -> None:
    queue = JobQueue(database, SystemClock(), EmbeddedBackend())
    running: set[str] = set()
    finished: list[str] = []
    guard = threading.Lock()

    def exclusive(args: Mapping[str, Any]) -> None:
        with guard:
            assert args["key"] not in running
            running.add(args["key"])
        queue.counts()
        with guard:
            running.remove(args["key"])
            finished.append(args["key"])

    def work() -> None:
        runner = JobRunner(database, SystemClock(), [Subscription("work", exclusive)], lease_s=60)
        barrier.wait()
        while len(finished) < 60:
            runner.run_next()

    with database.write() as unit:
        for number in range(60):
            queue.enqueue(unit, "work", {"key": str(number)})
    barrier = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work) for _ in range(6)]:
            done.result()
    assert sorted(finished, key=int) == [str(number) for number in range(60)]
    assert {job.attempts for job in queue.list(status=JobStatus.DONE)} == {1}
