"""Promotion of pending jobs to a more urgent lane, and counts of unfinished jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import Lane, Subscription
from relab.jobs.queue import JobQueue
from relab.jobs.runner import JobRunner
from relab.storage import Database
from support.clocks import MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def queue(database: Database, clock: MovableClock) -> JobQueue:
    return JobQueue(database, clock, EmbeddedBackend())


def enqueue(database: Database, queue: JobQueue, lane: Lane, name: str = "work") -> str:
    with database.write() as unit:
        return queue.enqueue(unit, name, {}, lane=lane)


def promote(database: Database, queue: JobQueue, job_id: str) -> None:
    with database.write() as unit:
        queue.promote(unit, job_id, Lane.INTERACTIVE)


def test_promoted_job_runs_before_older_jobs_of_its_former_lane(
    database: Database, queue: JobQueue, clock: MovableClock
) -> None:
    ran: list[str] = []
    first = enqueue(database, queue, Lane.BACKGROUND)
    clock.move(1)
    second = enqueue(database, queue, Lane.BACKGROUND)

    promote(database, queue, second)

    def work(_: Mapping[str, Any]) -> None:
        ran.append(next(job.job_id for job in queue.list() if job.status == "running"))

    runner = JobRunner(database, clock, [Subscription("work", work)], lease_s=15)
    while runner.run_next():
        pass
    assert ran == [second, first]


def test_job_that_is_done_is_not_promoted(database: Database, queue: JobQueue, clock: MovableClock) -> None:
    job_id = enqueue(database, queue, Lane.BACKGROUND)
    JobRunner(database, clock, [Subscription("work", lambda _: None)], lease_s=15).run_next()

    promote(database, queue, job_id)

    assert queue.get(job_id).lane is Lane.BACKGROUND
    assert queue.get(job_id).status == "done"


def test_unfinished_jobs_are_counted_by_name_and_lane(database: Database, queue: JobQueue, clock: MovableClock) -> None:
    enqueue(database, queue, Lane.BACKGROUND)
    enqueue(database, queue, Lane.BACKGROUND)
    enqueue(database, queue, Lane.BACKGROUND, "other")
    enqueue(database, queue, Lane.INTERACTIVE)
    assert queue.count_unfinished("work", Lane.BACKGROUND) == 2
    counted: list[int] = []

    def work(_: Mapping[str, Any]) -> None:
        counted.append(queue.count_unfinished("work", Lane.BACKGROUND))

    runner = JobRunner(database, clock, [Subscription("work", work)], lease_s=15, lanes=(Lane.BACKGROUND,))
    runner.run_next()

    assert counted == [2]
    assert queue.count_unfinished("work", Lane.BACKGROUND) == 1
