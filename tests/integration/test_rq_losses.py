"""Jobs survive losses in RQ and Redis, and run once even if they are announced more than once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from redis import Redis
from rq import Queue
from rq.job import Job as RqJob

from relab.core.clock import SystemClock
from relab.jobs.backends.rq import RqBackend
from relab.jobs.errors import BrokerUnavailableError
from relab.jobs.models import DEFAULT_TIME_LIMITS_S, JobStatus, Lane
from rig.children import child
from rig.servers import RedisServer
from rig.waiting import wait_until
from support.jobs.installation import Installation, install
from support.storage.transactions import roll_back


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    server = RedisServer.create()
    yield server
    server.destroy()


@pytest.fixture
def installation(own_redis: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """An RQ queue on a separate Redis, without a worker."""
    with (
        structlog.testing.capture_logs(),
        install(tmp_path, make_postgres_url=None, redis_url=own_redis.url) as made,
    ):
        yield made


@pytest.fixture
def rq_queue(installation: Installation) -> Iterator[Queue]:
    """RQ's own view of the queue."""
    with Redis.from_url(installation.redis_url) as connection:
        yield Queue(f"{installation.queue_name}.{Lane.BACKGROUND}", connection=connection)


def reannounce(installation: Installation) -> None:
    """Announce pending jobs to RQ again, as the sweeper does."""
    installation.backend.reannounce(installation.database, SystemClock(), older_than_s=0)


def test_a_commit_announces_the_jobs_id_and_nothing_else(installation: Installation, rq_queue: Queue) -> None:
    job_id, _ = installation.enqueue("note")
    assert rq_queue.get_job_ids() == [job_id]
    carried = RqJob.fetch(job_id, connection=rq_queue.connection)
    assert carried.func_name == "support.jobs.handlers.run_job"
    assert carried.args == (job_id,)
    assert carried.kwargs == {}


def test_a_rolled_back_job_is_not_announced(installation: Installation, rq_queue: Queue) -> None:
    roll_back(installation.database, lambda unit: installation.queue.enqueue(unit, "note", {}))
    assert rq_queue.get_job_ids() == []


def test_job_queued_during_a_redis_outage_is_announced_afterwards(
    installation: Installation, own_redis: RedisServer, rq_queue: Queue
) -> None:
    own_redis.stop()
    with pytest.raises(BrokerUnavailableError, match="REDIS_URL"):
        installation.backend.ping()
    job_id, key = installation.enqueue("note")
    reannounce(installation)
    own_redis.start()
    installation.backend.ping()
    assert rq_queue.get_job_ids() == []
    reannounce(installation)
    assert rq_queue.get_job_ids() == [job_id]
    with installation.worker():
        installation.settled(job_id, JobStatus.DONE)
    assert installation.journal.lines(key) == ["ran"]


def test_only_flushed_jobs_are_announced_again(installation: Installation, rq_queue: Queue) -> None:
    jobs = [installation.enqueue("note")[0] for _ in range(3)]
    for _ in range(2):
        reannounce(installation)
        assert rq_queue.get_job_ids() == jobs
    rq_queue.connection.flushall()
    reannounce(installation)
    assert rq_queue.get_job_ids() == jobs


def test_recently_announced_job_is_not_announced_again(installation: Installation, rq_queue: Queue) -> None:
    installation.enqueue("note")
    rq_queue.connection.flushall()
    installation.backend.reannounce(installation.database, SystemClock(), older_than_s=60)
    assert rq_queue.get_job_ids() == []


def test_job_that_a_dead_rq_worker_had_taken_is_announced_again(installation: Installation, rq_queue: Queue) -> None:
    job_id, _ = installation.enqueue("note")
    # RQ's worker moves the id first, while its record of the job still has the status "queued".
    rq_queue.connection.lmove(rq_queue.key, rq_queue.intermediate_queue_key)
    assert RqJob.fetch(job_id, connection=rq_queue.connection).is_queued
    reannounce(installation)
    assert rq_queue.get_job_ids() == [job_id]


def test_a_broken_record_in_redis_does_not_stop_the_sweeper(installation: Installation, rq_queue: Queue) -> None:
    first, second = installation.enqueue("note")[0], installation.enqueue("note")[0]
    rq_queue.connection.flushall()
    # A late heartbeat of RQ leaves such a partial record of a deleted job.
    rq_queue.connection.hset(RqJob.key_for(first), "last_heartbeat", "2024-01-15T10:30:00Z")
    reannounce(installation)
    assert rq_queue.get_job_ids() == [first, second]


def test_a_job_that_is_announced_many_times_runs_once(installation: Installation, rq_queue: Queue) -> None:
    job_id, key = installation.enqueue("note")
    for _ in range(5):
        installation.backend.announce([job_id], Lane.BACKGROUND)
    assert rq_queue.get_job_ids() == [job_id] * 6
    with installation.worker(), installation.worker():
        installation.settled(job_id, JobStatus.DONE)
        wait_until(lambda: rq_queue.get_job_ids() == [])
    assert installation.journal.lines(key) == ["ran"]
    assert installation.queue.get(job_id).attempts == 1


@pytest.mark.full
def test_a_worker_outlives_an_outage_of_redis(installation: Installation, own_redis: RedisServer) -> None:
    with installation.worker() as worker:
        installation.settled(installation.enqueue("note")[0], JobStatus.DONE)
        held, _ = installation.enqueue("hold", until=str(installation.folder / "enough"))
        installation.settled(held, JobStatus.RUNNING)
        # Redis stops in the middle of a job, and is still down when the job ends.
        own_redis.stop()
        (installation.folder / "enough").touch()
        installation.settled(held, JobStatus.DONE)
        job_id, _ = installation.enqueue("note")
        own_redis.start()
        installation.settled(job_id, JobStatus.DONE)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(timeout=30) == 0


@pytest.mark.full
def test_a_worker_that_starts_before_redis_waits_for_it(installation: Installation, own_redis: RedisServer) -> None:
    own_redis.stop()
    job_id, _ = installation.enqueue("note")
    with installation.worker() as worker:
        # Meanwhile the worker does its housekeeping.
        wait_until(installation.queue.worker_lives)
        own_redis.start()
        installation.settled(job_id, JobStatus.DONE)
        assert worker.poll() is None


@pytest.mark.full
def test_a_worker_stops_although_redis_does_not_answer(installation: Installation, own_redis: RedisServer) -> None:
    assert own_redis.process is not None
    with installation.worker() as worker:
        installation.settled(installation.enqueue("note")[0], JobStatus.DONE)
        # A stopped process keeps its connections and does not answer, as a machine whose packets are lost.
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            worker.terminate()
            assert worker.wait(timeout=120) == 0
        finally:
            own_redis.process.send_signal(signal.SIGCONT)


@pytest.mark.full
def test_a_plain_rq_worker_runs_relabs_jobs(installation: Installation, own_redis: RedisServer) -> None:
    function = "relab.bootstrap.run_queued_job"
    backend = RqBackend(own_redis.url, installation.queue_name, function, DEFAULT_TIME_LIMITS_S)
    with installation.database.write() as unit:
        job_id = installation.queue.enqueue(unit, "no.such.job", {}, max_attempts=1)
    with Redis.from_url(own_redis.url) as connection:
        connection.flushall()
    backend.announce([job_id], Lane.INTERACTIVE)
    environment = {"DATABASE_URL": installation.database_url, "REDIS_URL": own_redis.url}
    arguments = ("worker", "--burst", "--url", own_redis.url, installation.queue_name)
    with child("rq.cli", *arguments, environment=environment) as worker:
        out, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, out
    job = installation.queue.get(job_id)
    assert job.status == JobStatus.PARKED
    assert job.attempts == 1
    assert "no handler for jobs named 'no.such.job'" in str(job.error)
    backend.close()
