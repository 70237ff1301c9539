"""Queries over jobs. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Update, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from relab.jobs.models import Job, JobCounts, JobStatus
from relab.jobs.tables import JobRow, LeaseRow
from relab.storage.base import table_of

_COLUMNS = tuple(column for column in JobRow.__table__.c if column.name != "announced_at")


def add(session: Session, values: dict[str, Any]) -> None:
    """Insert a job."""
    session.execute(insert(table_of(JobRow)).values(values))


def get(session: Session, job_id: str) -> Job | None:
    """Return a job, or None."""
    row = session.execute(select(*_COLUMNS).where(JobRow.job_id == job_id)).one_or_none()
    return None if row is None else Job.model_validate(row, from_attributes=True)


def list_jobs(session: Session, status: JobStatus | None, limit: int) -> list[Job]:
    """Return the newest jobs."""
    statement = select(*_COLUMNS).order_by(JobRow.job_id.desc()).limit(limit)
    if status is not None:
        statement = statement.where(JobRow.status == status)
    return [Job.model_validate(row, from_attributes=True) for row in session.execute(statement)]


def has_runnable(session: Session, now: int) -> bool:
    """Return whether a worker would find something to do."""
    return session.execute(select(JobRow.job_id).where(_runnable(now)).limit(1)).first() is not None


def claim(session: Session, *, job_id: str | None, owner: str, now: int, lease_until: int) -> Job | None:
    """Lease a runnable job (the oldest, or `job_id`) to `owner` and count the attempt; None if there is none."""
    candidate = select(JobRow.job_id).where(_runnable(now))
    if job_id is not None:
        candidate = candidate.where(JobRow.job_id == job_id)
    candidate = candidate.order_by(JobRow.run_after, JobRow.job_id).limit(1).with_for_update(skip_locked=True)
    found = session.execute(candidate).scalar_one_or_none()
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


def extend_lease(session: Session, job_id: str, owner: str, lease_until: int) -> bool:
    """Extend the lease; False when `owner` no longer holds it."""
    return _changed(session, _held(job_id, owner).values(lease_until=lease_until))


def finish(session: Session, job_id: str, owner: str, now: int) -> bool:
    """Mark the job done; False when `owner` no longer holds it."""
    return _changed(
        session,
        _held(job_id, owner).values(
            status=JobStatus.DONE, finished_at=now, error=None, lease_owner=None, lease_until=None
        ),
    )


def release(session: Session, job_id: str, owner: str, *, run_after: int, error: str) -> bool:
    """Give the job back to be tried again at `run_after`; False when `owner` no longer holds it."""
    return _changed(
        session,
        _held(job_id, owner).values(
            status=JobStatus.PENDING,
            run_after=run_after,
            error=error,
            lease_owner=None,
            lease_until=None,
            announced_at=None,
        ),
    )


def park(session: Session, job_id: str, owner: str, *, now: int, error: str) -> bool:
    """Set the job aside for a person; False when `owner` no longer holds it."""
    return _changed(
        session,
        _held(job_id, owner).values(
            status=JobStatus.PARKED, finished_at=now, error=error, lease_owner=None, lease_until=None
        ),
    )


def take_exhausted(session: Session, *, owner: str, now: int, lease_until: int) -> list[Job]:
    """Lease the jobs whose last allowed attempt died with its worker to `owner`, to be parked by it."""
    statement = (
        update(table_of(JobRow))
        .where(_exhausted(now))
        .values(lease_owner=owner, lease_until=lease_until)
        .returning(*_COLUMNS)
    )
    return [Job.model_validate(row, from_attributes=True) for row in session.execute(statement)]


def mend_times(session: Session, *, now: int, latest_start: int, latest_lease: int, lease_until: int) -> int:
    """Bring back jobs whose times a clock that was set back has left in the future; return how many there were.

    Args:
        session: of the transaction.
        now: when such a pending job may start.
        latest_start: no pause before an attempt ends later than this.
        latest_lease: no lease that was taken or extended by the present clock ends later than this.
        lease_until: the end of such a lease from now on; a worker that is alive extends it before.
    """
    pending = (
        update(table_of(JobRow))
        .where(JobRow.status == JobStatus.PENDING, JobRow.run_after > latest_start)
        .values(run_after=now, announced_at=None)
    )
    running = (
        update(table_of(JobRow))
        .where(JobRow.status == JobStatus.RUNNING, JobRow.lease_until > latest_lease)
        .values(lease_until=lease_until, announced_at=None)
    )
    return sum(len(session.execute(each.returning(JobRow.job_id)).all()) for each in (pending, running))


def take_unannounced(session: Session, now: int, announced_before: int, limit: int) -> Sequence[str]:
    """Mark and return the ids of runnable jobs that no broker was told of since `announced_before`."""
    candidates = (
        select(JobRow.job_id)
        .where(
            _runnable(now),
            # Announced in the future: the clock was set back since.
            or_(JobRow.announced_at.is_(None), JobRow.announced_at < announced_before, JobRow.announced_at > now),
        )
        .order_by(JobRow.run_after, JobRow.job_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = session.execute(candidates).scalars().all()
    if ids:
        session.execute(update(table_of(JobRow)).where(JobRow.job_id.in_(ids)).values(announced_at=now))
    return ids


def reset(session: Session, job_id: str, now: int) -> bool:
    """Make a parked job pending again with all its attempts; False when it is not parked."""
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
    return _changed(session, statement)


def drop(session: Session, job_id: str) -> bool:
    """Delete a job that no worker holds; False when one does, or there is no such job."""
    statement = delete(table_of(JobRow)).where(JobRow.job_id == job_id, JobRow.status != JobStatus.RUNNING)
    return session.execute(statement.returning(JobRow.job_id)).one_or_none() is not None


def prune_done(session: Session, finished_before: int) -> None:
    """Delete jobs that were done before a time; parked ones stay."""
    session.execute(
        delete(table_of(JobRow)).where(
            JobRow.status == JobStatus.DONE,
            # Implied by the next line, but in the index: else every sweep would read all done jobs.
            JobRow.run_after < finished_before,
            JobRow.finished_at < finished_before,
        )
    )


def count(session: Session, now: int) -> JobCounts:
    """Count the jobs by status."""
    statement = select(JobRow.status, func.count()).group_by(JobRow.status)
    by_status: dict[str, Any] = {row[0]: row[1] for row in session.execute(statement)}
    oldest = session.execute(
        select(func.min(JobRow.run_after)).where(JobRow.status == JobStatus.PENDING, JobRow.run_after <= now)
    ).scalar_one()
    waited = (now - oldest) / 1_000_000 if oldest else 0.0
    return JobCounts(**by_status, oldest_pending_s=waited)


def take_lease(session: Session, name: str, owner: str, now: int, until: int) -> bool:
    """Take or keep the lease of a loop; False while another owner holds it.

    A lease that ends more than twice as late as the wanted one was taken before the clock was set back, and counts as
    ended. One statement, so that two who come first at the same moment cannot break a constraint.
    """
    dialect = session.get_bind().dialect.name
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(table_of(LeaseRow))
    statement = statement.values(name=name, owner=owner, until=until)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={"owner": owner, "until": until},
        where=or_(LeaseRow.owner == owner, LeaseRow.until <= now, LeaseRow.until > now + 2 * (until - now)),
    )
    return session.execute(statement.returning(LeaseRow.name)).one_or_none() is not None


def is_leased(session: Session, name: str, now: int, latest: int) -> bool:
    """Return whether a lease is held now; one that ends after `latest` was taken before the clock was set back."""
    statement = select(LeaseRow.name).where(LeaseRow.name == name, LeaseRow.until > now, LeaseRow.until <= latest)
    return session.execute(statement).first() is not None


def _runnable(now: int) -> ColumnElement[bool]:
    """Pending and due, or running under a lease that ran out with attempts left."""
    return or_(
        and_(JobRow.status == JobStatus.PENDING, JobRow.run_after <= now),
        and_(
            JobRow.status == JobStatus.RUNNING,
            JobRow.lease_until < now,
            JobRow.attempts < JobRow.max_attempts,
        ),
    )


def _exhausted(now: int) -> ColumnElement[bool]:
    return and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_until < now, JobRow.attempts >= JobRow.max_attempts)


def _held(job_id: str, owner: str) -> Update:
    return update(table_of(JobRow)).where(
        JobRow.job_id == job_id, JobRow.lease_owner == owner, JobRow.status == JobStatus.RUNNING
    )


def _changed(session: Session, statement: Update) -> bool:
    return session.execute(statement.returning(JobRow.job_id)).one_or_none() is not None
