"""The job queue in each mode, with real worker processes: retries, parking, leases, kills, lanes and limits."""

from __future__ import annotations

import os
import signal

import pytest

from relab.core.ids import new_id
from relab.jobs.errors import JobNotFoundError
from relab.jobs.models import JobStatus, Lane
from rig.waiting import wait_until
from support.jobs.installation import LONG_LEASE_S, Installation
from support.storage.transactions import roll_back


def test_a_job_runs_once_and_is_done(staffed: Installation) -> None:
    job_id, key = staffed.enqueue("note")
    job = staffed.settled(job_id, JobStatus.DONE)
    assert staffed.journal.lines(key) == ["ran"]
    assert job.attempts == 1
    assert job.error is None
    assert job.lease_owner is None
    assert job.lease_until is None
    assert job.finished_at is not None


def test_a_job_whose_transaction_was_rolled_back_never_runs(staffed: Installation) -> None:
    job_id = new_id()
    roll_back(staffed.database, lambda unit: staffed.queue.enqueue(unit, "note", {"key": "rolled-back"}, job_id=job_id))
    for _ in range(3):
        staffed.settled(staffed.enqueue("note")[0], JobStatus.DONE)
    assert staffed.journal.lines("rolled-back") == []
    with pytest.raises(JobNotFoundError, match=job_id):
        staffed.queue.get(job_id)


def test_a_job_that_fails_is_tried_again_until_it_succeeds(staffed: Installation) -> None:
    until = staffed.folder / "mended"
    job_id, key = staffed.enqueue("fail-until", until=str(until), max_attempts=100)
    wait_until(lambda: staffed.queue.get(job_id).error == "RuntimeError: it broke")
    until.touch()
    job = staffed.settled(job_id, JobStatus.DONE)
    assert staffed.journal.lines(key) == ["ran"] * job.attempts
    assert job.attempts >= 2
    assert job.error is None


def test_job_that_always_fails_is_parked_with_its_error_and_its_listener_informed(staffed: Installation) -> None:
    job_id, key = staffed.enqueue("fail", times=9, max_attempts=2)
    job = staffed.settled(job_id, JobStatus.PARKED)
    assert job.attempts == 2
    assert job.error == "RuntimeError: it broke"
    assert job.lease_owner is None
    assert staffed.journal.lines(key) == ["ran", "ran", "parked RuntimeError: it broke"]


def test_a_permanent_error_parks_at_once(staffed: Installation) -> None:
    job_id, key = staffed.enqueue("refuse")
    job = staffed.settled(job_id, JobStatus.PARKED)
    assert job.attempts == 1
    assert job.error == "PermanentJobError: never"
    assert staffed.journal.lines(key) == ["ran", "parked PermanentJobError: never"]


def test_a_job_without_a_handler_is_parked_with_its_name(staffed: Installation) -> None:
    job_id, _ = staffed.enqueue("unheard-of", max_attempts=1)
    job = staffed.settled(job_id, JobStatus.PARKED)
    assert job.error == "UnknownHandlerError: This worker has no handler for jobs named 'unheard-of'."


def test_parked_job_runs_again_on_retry(staffed: Installation) -> None:
    job_id, key = staffed.enqueue("fail", times=2, max_attempts=1)
    staffed.settled(job_id, JobStatus.PARKED)
    staffed.queue.retry(job_id)
    job = staffed.settled(job_id, JobStatus.DONE)
    assert staffed.journal.lines(key) == ["ran", "parked RuntimeError: it broke", "ran"]
    assert job.attempts == 1
    assert job.error is None


def test_a_job_longer_than_its_lease_stays_with_its_worker(staffed: Installation) -> None:
    until = staffed.folder / "enough"
    job_id, key = staffed.enqueue("hold", until=str(until))
    job = staffed.settled(job_id, JobStatus.RUNNING)
    assert job.lease_until is not None
    first_lease = job.lease_until
    # After its first lease the worker still holds the job, although another worker is idle.
    wait_until(lambda: (staffed.queue.get(job_id).lease_until or 0) > first_lease + LONG_LEASE_S * 1_000_000)
    until.touch()
    assert staffed.settled(job_id, JobStatus.DONE).attempts == 1
    begun, ended = staffed.journal.lines(key)
    assert begun.replace("begun", "ended") == ended


def test_two_workers_share_many_jobs_and_run_each_once(staffed: Installation) -> None:
    jobs = [staffed.enqueue("note") for _ in range(40)]
    for job_id, key in jobs:
        assert staffed.settled(job_id, JobStatus.DONE).attempts == 1
        assert staffed.journal.lines(key) == ["ran"]


def test_installation_has_a_live_worker(staffed: Installation) -> None:
    assert wait_until(staffed.queue.worker_lives)


def test_the_job_of_a_killed_worker_is_run_by_another_when_the_lease_is_over(installation: Installation) -> None:
    until = installation.folder / "enough"
    job_id, key = installation.enqueue("hold", until=str(until))
    with installation.worker() as first:
        wait_until(lambda: installation.journal.lines(key), what="the first attempt")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert installation.queue.get(job_id).status is JobStatus.RUNNING
    with installation.worker() as second:
        until.touch()
        job = installation.settled(job_id, JobStatus.DONE)
    assert job.attempts == 2
    assert installation.journal.lines(key) == [f"begun {first.pid}", f"begun {second.pid}", f"ended {second.pid}"]


def test_job_that_kills_every_worker_is_parked_and_its_listener_informed(installation: Installation) -> None:
    job_id, key = installation.enqueue("die", max_attempts=2)
    for _ in range(2):
        with installation.worker() as worker:
            assert worker.wait(timeout=30) == -signal.SIGKILL
    with installation.worker() as survivor:
        job = installation.settled(job_id, JobStatus.PARKED)
        later, _ = installation.enqueue("note")
        installation.settled(later, JobStatus.DONE)
        assert survivor.poll() is None
    assert job.attempts == 2
    assert job.error is not None
    assert "worker died" in job.error
    events = [line.split()[0] for line in installation.journal.lines(key)]
    assert events == ["begun", "begun", "parked"]


def test_stopping_worker_finishes_its_job_and_claims_no_other(installation: Installation) -> None:
    until = installation.folder / "enough"
    job_id, key = installation.enqueue("hold", until=str(until))
    with installation.worker() as worker:
        wait_until(lambda: installation.journal.lines(key), what="the job having begun")
        next_id, _ = installation.enqueue("note")
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        until.touch()
        assert worker.wait(timeout=30) == 0
    assert installation.queue.get(job_id).status is JobStatus.DONE
    assert installation.queue.get(next_id).status is JobStatus.PENDING


def test_idle_worker_stops_on_request(installation: Installation) -> None:
    with installation.worker() as worker:
        wait_until(installation.queue.worker_lives)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0


def test_job_of_a_lower_lane_delays_a_higher_one_by_at_most_itself(installation: Installation) -> None:
    until = installation.folder / "enough"
    running, running_key = installation.enqueue("hold", lane=Lane.BACKGROUND, until=str(until))
    with installation.worker() as worker:
        wait_until(lambda: installation.journal.lines(running_key), what="the job having begun")
        later = [installation.enqueue("note", lane=lane) for lane in (*reversed(Lane), *Lane)]
        until.touch()
        for job_id, _ in [(running, ""), *later]:
            installation.settled(job_id, JobStatus.DONE)
        assert worker.poll() is None
    keys = {key: installation.queue.get(job_id).lane for job_id, key in later}
    order = [keys[key] for key in installation.journal.key_order() if key in keys]
    assert order == [lane for lane in Lane for _ in range(2)]


def test_worker_serves_only_its_lanes(installation: Installation) -> None:
    jobs = {lane: installation.enqueue("note", lane=lane)[0] for lane in Lane}
    with installation.worker([Lane.BACKGROUND]):
        installation.settled(jobs[Lane.BACKGROUND], JobStatus.DONE)
        later, _ = installation.enqueue("note", lane=Lane.BACKGROUND)
        installation.settled(later, JobStatus.DONE)
    assert installation.queue.get(jobs[Lane.INTERACTIVE]).status is JobStatus.PENDING
    assert installation.queue.get(jobs[Lane.LONG]).status is JobStatus.PENDING


def test_job_over_its_time_limit_is_interrupted_and_counts_as_failed(staffed: Installation) -> None:
    job_id, key = staffed.enqueue("sleep", lane=Lane.LONG, max_attempts=1)
    job = staffed.settled(job_id, JobStatus.PARKED)
    assert job.error is not None
    assert job.error.startswith("JobTimeoutError: ")
    assert [line.split()[0] for line in staffed.journal.lines(key)] == ["begun", "parked"]


def test_all_handlers_of_a_name_run_and_run_again_if_one_fails(staffed: Installation) -> None:
    job_id, key = staffed.enqueue("shared", times=2)
    job = staffed.settled(job_id, JobStatus.DONE)
    # Each of two attempts runs both handlers, which share one count of lines.
    assert staffed.journal.lines(key) == ["ran", "ran", "ran", "ran"]
    assert job.attempts == 2
