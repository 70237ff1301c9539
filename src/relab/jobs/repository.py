"""Queries over jobs and leases. Functions take the session of a transaction; times are microseconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Update, and_, delete, func, insert, or_, select, update

from relab.jobs.models import LANES, Job, JobCounts, JobStatus, Lane
from relab.jobs.tables import JobRow, LeaseRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

_NO_LEASE: Final[Mapping[str, None]] = {"lease_owner": None, "lease_until": None}
_COLUMNS = tuple(column for column in JobRow.__table__.c if column.name != "announced_at")


def add(session: DatabaseSession, values: dict[str, Any]) -> None:
    """Insert a job; `values` holds the columns of the table `jobs` by name."""
    session.execute(insert(table_of(JobRow)).values(values))


def get(session: DatabaseSession, job_id: str) -> Job | None:
    """Return the job with this id; None if it does not exist."""
    row = session.execute(select(*_COLUMNS).where(JobRow.job_id == job_id)).one_or_none()
    return None if row is None else Job.model_validate(row, from_attributes=True)


def list_jobs(session: DatabaseSession, status: JobStatus | None, limit: int) -> list[Job]:
    """Return up to `limit` jobs, newest first; `status` restricts them to jobs of this status (None: all jobs)."""
    statement = select(*_COLUMNS).order_by(JobRow.job_id.desc()).limit(limit)
    if status is not None:
        statement = statement.where(JobRow.status == status)
    return [Job.model_validate(row, from_attributes=True) for row in session.execute(statement)]


def has_runnable(session: DatabaseSession, now: int, lanes: Sequence[Lane] = LANES) -> bool:
    """Return whether a job of these lanes (urgencies) is runnable at `now` (in µs since 1970).

    A job is runnable if it is pending and due, or if it is running with an expired lease and attempts left.
    """
    statement = select(or_(*(select(JobRow.job_id).where(each).exists() for each in _runnable(now, lanes))))
    return bool(session.execute(statement).scalar_one())


def claim(
    session: DatabaseSession,
    *,
    job_id: str | None,
    owner: str,
    now: int,
    lease_until: int,
    lanes: Sequence[Lane] = LANES,
) -> Job | None:
    """Lease a runnable job to a worker, count the attempt and return the job; None if no such job is runnable.

    Args:
        session: the session of the transaction.
        job_id: the job to claim. None: the oldest runnable job of the first lane in `lanes` that has a runnable job.
        owner: the name of the worker.
        now: the current time, in microseconds since 1970.
        lease_until: the end of the lease, in microseconds since 1970.
        lanes: the lanes (urgencies) to search, most urgent first; ignored with a job id.
    """
    if job_id is not None:
        found = _runnable_job(session, now, job_id)
    else:
        found = next((job for lane in lanes if (job := _first_runnable(session, now, lane))), None)
    if found is None:
        return None
    statement = (
        update(table_of(JobRow))
        .where(JobRow.job_id == found)
        .values(
            status=JobStatus.RUNNING,
            attempts=JobRow.attempts + 1,
            lease_owner=owner,
            lease_until=lease_until,
        )
        .returning(*_COLUMNS)
    )
    return Job.model_validate(session.execute(statement).one(), from_attributes=True)


def extend_lease(session: DatabaseSession, job_id: str, owner: str, lease_until: int) -> bool:
    """Extend a job's lease to `lease_until` (in µs since 1970); return False if `owner` no longer holds it."""
    return _change_held(session, job_id, owner, lease_until=lease_until)


def finish(session: DatabaseSession, job_id: str, owner: str, now: int) -> bool:
    """Mark a job as done at `now` (in µs since 1970); return False if `owner` no longer holds its lease."""
    return _change_held(session, job_id, owner, status=JobStatus.DONE, finished_at=now, error=None, **_NO_LEASE)


def release(session: DatabaseSession, job_id: str, owner: str, *, run_after: int, error: str) -> bool:
    """Release the lease of a failed job, so that it is retried at `run_after` (in µs since 1970).

    `error` is stored with the job. Return False if `owner` no longer holds the lease.
    """
    values = {"status": JobStatus.PENDING, "run_after": run_after, "error": error, "announced_at": None}
    return _change_held(session, job_id, owner, **values, **_NO_LEASE)


def park(session: DatabaseSession, job_id: str, owner: str, *, now: int, error: str) -> bool:
    """Park a failed job until a person retries or drops it; return False if `owner` no longer holds the job's lease.

    `now` (in µs since 1970) is stored as the time at which the job ended, `error` as the reason.
    """
    return _change_held(session, job_id, owner, status=JobStatus.PARKED, finished_at=now, error=error, **_NO_LEASE)


def take_exhausted(session: DatabaseSession, *, owner: str, now: int, lease_until: int) -> list[Job]:
    """Give `owner` the leases of the running jobs with an expired lease and no attempts left; return these jobs.

    The caller must then park the jobs (store them as failed until a person retries or drops them).

    Args:
        session: the session of the transaction.
        owner: the worker that gets the leases.
        now: the current time, in microseconds since 1970.
        lease_until: the end of the new leases, in microseconds since 1970.
    """
    statement = (
        update(table_of(JobRow))
        .where(_exhausted(now))
        .values(lease_owner=owner, lease_until=lease_until)
        .returning(*_COLUMNS)
    )
    return [Job.model_validate(row, from_attributes=True) for row in session.execute(statement)]


def mend_times(session: DatabaseSession, *, now: int, latest_start: int, latest_lease: int, lease_until: int) -> int:
    """Correct jobs whose times are too far in the future because the clock was set back; return their number.

    All times are in microseconds since 1970.

    Args:
        session: the session of the transaction.
        now: the current time. It becomes the `run_after` of each corrected pending job.
        latest_start: a pending job is corrected if its `run_after` is later.
        latest_lease: a running job is corrected if its lease ends later.
        lease_until: the end of the lease of each corrected running job.
    """
    # No backoff ends after `latest_start`, and no lease that is acquired now ends after `latest_lease`.
    pending = (
        update(table_of(JobRow))
        .where(JobRow.status == JobStatus.PENDING, JobRow.run_after > latest_start)
        .values(run_after=now, announced_at=None)
    )
    # A worker that is alive extends the lease before its new end.
    running = (
        update(table_of(JobRow))
        .where(JobRow.status == JobStatus.RUNNING, JobRow.lease_until > latest_lease)
        .values(lease_until=lease_until, announced_at=None)
    )
    return sum(len(session.execute(each.returning(JobRow.job_id)).all()) for each in (pending, running))


def take_unannounced(
    session: DatabaseSession, now: int, announced_before: int, limit: int
) -> Sequence[tuple[str, Lane]]:
    """Return `(job id, lane)` of the runnable jobs that were not announced to workers since `announced_before`.

    For each lane (urgency), at most `limit` jobs are returned, the ones with the oldest announcements first. The
    function stores `now` as the `announced_at` of the returned jobs. Times are in microseconds since 1970.
    """
    jobs: list[tuple[str, Lane]] = []
    for lane in LANES:
        candidates = (
            select(JobRow.job_id)
            .where(
                or_(*_runnable(now, (lane,))),
                # If `announced_at` is in the future, the clock was set back since.
                or_(JobRow.announced_at.is_(None), JobRow.announced_at < announced_before, JobRow.announced_at > now),
            )
            # The ids of recently announced jobs may still wait in the broker's queue.
            .order_by(JobRow.announced_at.nulls_first(), JobRow.run_after, JobRow.job_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        jobs += [(job_id, lane) for job_id in session.execute(candidates).scalars()]
    if jobs:
        ids = [job_id for job_id, _ in jobs]
        session.execute(update(table_of(JobRow)).where(JobRow.job_id.in_(ids)).values(announced_at=now))
    return jobs


def reset(session: DatabaseSession, job_id: str, now: int) -> Lane | None:
    """Make a parked job (one that failed permanently) pending again, and return its lane (urgency).

    The attempts of the job are counted from 0 again, and it may start at `now` (in µs since 1970) or later. If the job
    is not parked, change nothing and return None.
    """
    statement = (
        update(table_of(JobRow))
        .where(JobRow.job_id == job_id, JobRow.status == JobStatus.PARKED)
        .values(
            status=JobStatus.PENDING,
            attempts=0,
            run_after=now,
            finished_at=None,
            error=None,
            announced_at=None,
        )
    )
    lane = session.execute(statement.returning(JobRow.lane)).scalar_one_or_none()
    return None if lane is None else Lane(lane)


def drop(session: DatabaseSession, job_id: str) -> bool:
    """Delete a job that is not running; return False if it is running or does not exist."""
    statement = delete(table_of(JobRow)).where(JobRow.job_id == job_id, JobRow.status != JobStatus.RUNNING)
    return session.execute(statement.returning(JobRow.job_id)).one_or_none() is not None


def prune_done(session: DatabaseSession, finished_before: int) -> None:
    """Delete the jobs that succeeded before `finished_before` (in µs since 1970); parked (failed) jobs are kept."""
    session.execute(
        delete(table_of(JobRow)).where(
            JobRow.status == JobStatus.DONE,
            # The last line implies the next two conditions, but only these can use the index; without them, every
            # sweep would read all done jobs.
            JobRow.lane.in_(LANES),
            JobRow.run_after < finished_before,
            JobRow.finished_at < finished_before,
        )
    )


def promote(session: DatabaseSession, job_id: str, lane: Lane, now: int) -> bool:
    """Move a pending job to a lane (urgency); return False if the job is not pending.

    The caller must announce the job to workers after the commit. `now` (in µs since 1970) is stored as the time of
    this announcement.
    """
    statement = (
        update(table_of(JobRow))
        .where(JobRow.job_id == job_id, JobRow.status == JobStatus.PENDING)
        .values(lane=lane, announced_at=now)
    )
    return _changed(session, statement)


def count_unfinished(session: DatabaseSession, name: str, lane: Lane) -> int:
    """Return the number of pending and running jobs with this name in a lane (urgency)."""
    statement = select(func.count()).where(
        JobRow.status.in_((JobStatus.PENDING, JobStatus.RUNNING)), JobRow.lane == lane, JobRow.name == name
    )
    return session.execute(statement).scalar_one()


def count(session: DatabaseSession, now: int) -> JobCounts:
    """Return the number of jobs by status, and for how long the oldest pending job has been due (0: no job is due).

    `now` is the current time, in microseconds since 1970.
    """
    statement = select(JobRow.status, func.count()).group_by(JobRow.status)
    by_status: dict[str, Any] = {row[0]: row[1] for row in session.execute(statement)}
    oldest = session.execute(
        select(func.min(JobRow.run_after)).where(
            JobRow.status == JobStatus.PENDING, JobRow.lane.in_(LANES), JobRow.run_after <= now
        )
    ).scalar_one()
    waited = (now - oldest) / 1_000_000 if oldest else 0.0
    return JobCounts(**by_status, oldest_pending_s=waited)


def take_lease(session: DatabaseSession, name: str, owner: str, now: int, until: int) -> bool:
    """Acquire or renew a lease until the time `until`; return False if another owner holds the lease at `now`.

    A lease whose remaining time is more than twice the requested time counts as expired. It was stored before the
    clock was set back.

    Args:
        session: the session of the transaction.
        name: the name of the lease.
        owner: the name of the process that acquires or renews the lease.
        now: the current time, in microseconds since 1970.
        until: the end of the lease, in microseconds since 1970.
    """
    # One upsert, so that two processes that acquire the lease at the same time violate no constraint.
    statement = insert_into(session, table_of(LeaseRow)).values(name=name, owner=owner, until=until)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={"owner": owner, "until": until},
        # A lease that lasts so long was taken before the clock was set back.
        where=or_(LeaseRow.owner == owner, LeaseRow.until <= now, LeaseRow.until > now + 2 * (until - now)),
    )
    return session.execute(statement.returning(LeaseRow.name)).one_or_none() is not None


def is_leased(session: DatabaseSession, name: str, now: int, latest: int) -> bool:
    """Return whether any process holds the lease with this name at `now`.

    `latest` is the latest end of a lease that is acquired at `now`. A lease that ends later counts as expired: it was
    acquired before the clock was set back. Both times are in microseconds since 1970.
    """
    # A lease that ends later was taken before the clock was set back.
    statement = select(LeaseRow.name).where(LeaseRow.name == name, LeaseRow.until > now, LeaseRow.until <= latest)
    return session.execute(statement).first() is not None


def _runnable_job(session: DatabaseSession, now: int, job_id: str) -> str | None:
    """Lock the job with this id and return the id; return None if it is not runnable."""
    statement = select(JobRow.job_id).where(JobRow.job_id == job_id, or_(*_runnable(now, LANES)))
    # Wait for another transaction that locks the job, instead of skipping the job: it may be that of `take_unannounced`,
    # which does not run it. A skipped job would have to be announced again, and less urgent jobs would overtake it.
    return session.execute(statement.with_for_update()).scalar_one_or_none()


def _first_runnable(session: DatabaseSession, now: int, lane: Lane) -> str | None:
    """Lock the oldest runnable job of this lane (urgency) that no other worker has locked; return its id, or None."""
    # One query for each way to be runnable: it reads the index in its order up to the first job. One query for both
    # would read and sort all runnable jobs of the lane.
    oldest: list[tuple[int, str]] = []
    for condition in _runnable(now, (lane,)):
        statement = select(JobRow.run_after, JobRow.job_id).where(condition)
        statement = statement.order_by(JobRow.run_after, JobRow.job_id).limit(1).with_for_update(skip_locked=True)
        oldest += [(run_after, job_id) for run_after, job_id in session.execute(statement)]
    return min(oldest)[1] if oldest else None


def _runnable(now: int, lanes: Sequence[Lane]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return two conditions on rows of the table of jobs; a job is runnable if one of them holds.

    - The job is pending and due.
    - The job is running, but its lease has expired, and it has attempts left.
    """
    # Each condition needs the status and the lane, like the index of the table, so that the database uses this index.
    lane = JobRow.lane.in_(lanes)
    return (
        and_(JobRow.status == JobStatus.PENDING, lane, JobRow.run_after <= now),
        and_(
            JobRow.status == JobStatus.RUNNING,
            lane,
            JobRow.lease_until < now,
            JobRow.attempts < JobRow.max_attempts,
        ),
    )


def _exhausted(now: int) -> ColumnElement[bool]:
    return and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_until < now, JobRow.attempts >= JobRow.max_attempts)


def _change_held(session: DatabaseSession, job_id: str, owner: str, **values: Any) -> bool:
    """Set columns of a running job; change nothing and return False if `owner` does not hold its lease."""
    held = (JobRow.job_id == job_id, JobRow.lease_owner == owner, JobRow.status == JobStatus.RUNNING)
    return _changed(session, update(table_of(JobRow)).where(*held).values(**values))


def _changed(session: DatabaseSession, statement: Update) -> bool:
    return session.execute(statement.returning(JobRow.job_id)).one_or_none() is not None
