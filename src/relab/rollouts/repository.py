"""Queries over rollouts, their windows and leases. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update

from relab.rollouts.tables import RolloutLeaseRow, RolloutRow, RolloutStopRow, RolloutWindowRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

_COLUMNS = tuple(RolloutRow.__table__.c)


def add(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a rollout; `values` holds every column of `rollouts` by name."""
    session.execute(insert(table_of(RolloutRow)).values(dict(values)))


def change(session: DatabaseSession, rollout_id: str, **values: Any) -> None:
    """Set the columns `values` of a rollout."""
    session.execute(update(table_of(RolloutRow)).where(RolloutRow.rollout_id == rollout_id).values(**values))


def get(session: DatabaseSession, rollout_id: str) -> Any | None:
    """Return the row of a rollout, with the columns of the table `rollouts`; None if there is no such rollout."""
    return session.execute(select(*_COLUMNS).where(RolloutRow.rollout_id == rollout_id)).one_or_none()


def list_rollouts(session: DatabaseSession, *, before: str | None, limit: int) -> Sequence[Any]:
    """Return at most `limit` rows of rollouts, newest first.

    Only rollouts with an id below `before` are returned; None: rollouts with any id.
    """
    statement = select(*_COLUMNS).order_by(RolloutRow.rollout_id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(RolloutRow.rollout_id < before)
    return session.execute(statement).all()


def count_by_verdict(session: DatabaseSession) -> dict[tuple[str, str | None], int]:
    """Return `{(status, verdict): number of stored rollouts}`; the verdict is None before the judgement."""
    kinds = (RolloutRow.status, RolloutRow.verdict)
    found = session.execute(select(*kinds, func.count()).group_by(*kinds))
    return {(status, verdict): number for status, verdict, number in found}


def list_of_target(session: DatabaseSession, target: str) -> Sequence[Any]:
    """Return the rows of all rollouts of a target, newest first."""
    statement = select(*_COLUMNS).where(RolloutRow.target == target).order_by(RolloutRow.rollout_id.desc())
    return session.execute(statement).all()


def list_open(session: DatabaseSession) -> Sequence[Any]:
    """Return the rows of the open rollouts, oldest first.

    A rollout is open if its flags must still be restored, whether it is over or not. A rollout that a `lab` command
    executes is open until it is over, even if its flags are unchanged: no worker continues it after a crash.
    """
    is_open_command = and_(RolloutRow.is_job.is_(False), RolloutRow.status.in_(["queued", "running"]))
    statement = (
        select(*_COLUMNS)
        .where(or_(RolloutRow.open_change.is_not(None), is_open_command))
        .order_by(RolloutRow.rollout_id)
    )
    return session.execute(statement).all()


def put_window(session: DatabaseSession, rollout_id: str, number: int, document: Mapping[str, Any]) -> None:
    """Insert or replace a rollout's window (measurement) with the number `number`, from 0; `document` is its JSON."""
    statement = insert_into(session, table_of(RolloutWindowRow)).values(
        rollout_id=rollout_id, number=number, document=dict(document)
    )
    replaced = {"document": statement.excluded.document}
    session.execute(statement.on_conflict_do_update(index_elements=["rollout_id", "number"], set_=replaced))


def windows(session: DatabaseSession, rollout_id: str) -> list[dict[str, Any]]:
    """Return the windows (measurements) of a rollout, each an `ArmWindow` as JSON, in order of their numbers."""
    statement = (
        select(RolloutWindowRow.document)
        .where(RolloutWindowRow.rollout_id == rollout_id)
        .order_by(RolloutWindowRow.number)
    )
    return list(session.execute(statement).scalars())


def put_stop(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a request to stop a rollout; do nothing if a request is stored already.

    `values` holds every column of the table `rollout_stops` by name.
    """
    statement = insert_into(session, table_of(RolloutStopRow)).values(dict(values))
    session.execute(statement.on_conflict_do_nothing(index_elements=["rollout_id"]))


def stop_of(session: DatabaseSession, rollout_id: str) -> Any | None:
    """Return the request to stop a rollout, with the columns `at`, `actor` and `note`.

    Return None if no stop was requested.
    """
    columns = (RolloutStopRow.at, RolloutStopRow.actor, RolloutStopRow.note)
    return session.execute(select(*columns).where(RolloutStopRow.rollout_id == rollout_id)).one_or_none()


def take_lease(session: DatabaseSession, values: Mapping[str, Any], *, is_dead: str, now: int, latest: int) -> bool:
    """Acquire the lease of a target in one statement; return whether this was possible.

    It is possible if no lease is stored, if the stored lease has expired or ends later than `latest`, or if its owner
    is dead.

    Args:
        session: the session of the transaction.
        values: every column of `rollout_leases`, by name.
        is_dead: a prefix. Each owner whose name begins with it is dead. `%` and `_` are not wildcards in it.
        now: the current time, in microseconds since 1970.
        latest: the latest end that a lease can have now, in microseconds since 1970. A lease with a later end was
            stored before the clock was set back, and counts as expired.
    """
    statement = insert_into(session, table_of(RolloutLeaseRow)).values(dict(values))
    statement = statement.on_conflict_do_update(
        index_elements=["target_key"],
        set_={name: values[name] for name in ("owner", "rollout_id", "until")},
        where=or_(
            RolloutLeaseRow.owner.startswith(is_dead, autoescape=True),
            RolloutLeaseRow.until <= now,
            # Such a lease was stored before the clock was set back.
            RolloutLeaseRow.until > latest,
        ),
    )
    return session.execute(statement.returning(RolloutLeaseRow.target_key)).one_or_none() is not None


def extend_lease(session: DatabaseSession, target_key: str, owner: str, until: int) -> bool:
    """Extend the lease of a target to the time `until`; return False if `owner` does not hold the lease.

    `until` is in microseconds since 1970.
    """
    statement = (
        update(table_of(RolloutLeaseRow))
        .where(RolloutLeaseRow.target_key == target_key, RolloutLeaseRow.owner == owner)
        .values(until=until)
        .returning(RolloutLeaseRow.target_key)
    )
    return session.execute(statement).one_or_none() is not None


def release_lease(session: DatabaseSession, target_key: str, owner: str) -> None:
    """Delete the lease of a target if `owner` holds it."""
    mine = (RolloutLeaseRow.target_key == target_key, RolloutLeaseRow.owner == owner)
    session.execute(delete(table_of(RolloutLeaseRow)).where(*mine))


def lease_holder(session: DatabaseSession, target_key: str) -> str | None:
    """Return the id of the rollout that has the lease of a target, even an expired lease; None without a lease."""
    statement = select(RolloutLeaseRow.rollout_id).where(RolloutLeaseRow.target_key == target_key)
    return session.execute(statement).scalar_one_or_none()
