"""Database queries that read and write kill switches, leases and baselines. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import case, or_, select, update

from relab.incidents.storage.tables import BaselineRow, ResponderLeaseRow, SwitchRow
from relab.storage.base import Base, table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

_SWITCH = tuple(SwitchRow.__table__.c)
_LEASE = tuple(ResponderLeaseRow.__table__.c)


def switches(session: DatabaseSession, targets: Collection[str] | None) -> Sequence[Any]:
    """Return the rows of the kill switches of these targets, by target, without the targets that have no row.

    None stands for all targets that have a row.

    The switch of all targets is stored under the target `*`.
    """
    statement = select(*_SWITCH).order_by(SwitchRow.target)
    if targets is not None:
        statement = statement.where(SwitchRow.target.in_(sorted(targets)))
    return session.execute(statement).all()


def put_switch(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert or replace a kill switch, which pauses the responder on a target or on all targets.

    `values` maps each column name of the table of switches to its value.
    """
    _put(session, SwitchRow, values)


def take_lease(session: DatabaseSession, values: Mapping[str, Any], *, now: int, latest: int) -> Any | None:
    """Acquire or renew a lease and return its row; return None while another owner holds it.

    Args:
        session: the session of the transaction.
        values: `target`, `owner` and `until` of the lease.
        now: the current time, in microseconds since 1970.
        latest: the latest valid end of a lease, in microseconds since 1970. A lease that ends later counts as expired.
    """
    # With two statements, two processes that acquire a new lease at the same time could violate a constraint.
    statement = insert_into(session, table_of(ResponderLeaseRow)).values(**values, term=1)
    mine = ResponderLeaseRow.owner == values["owner"]
    statement = statement.on_conflict_do_update(
        index_elements=["target"],
        set_={
            "owner": values["owner"],
            "until": values["until"],
            "term": ResponderLeaseRow.term + case((mine, 0), else_=1),
        },
        where=or_(mine, ResponderLeaseRow.until <= now, ResponderLeaseRow.until > latest),
    )
    return session.execute(statement.returning(*_LEASE)).one_or_none()


def release_lease(session: DatabaseSession, target: str, owner: str) -> None:
    """End the lease of a target if `owner` holds it.

    The row is kept, because it counts how often the owner has changed.
    """
    mine = (ResponderLeaseRow.target == target, ResponderLeaseRow.owner == owner)
    session.execute(update(table_of(ResponderLeaseRow)).where(*mine).values(until=0))


def get_lease(session: DatabaseSession, target: str) -> Any | None:
    """Return the row of a target's lease, valid or expired, and lock it until the transaction ends.

    Return None if the target has no row.
    """
    statement = select(*_LEASE).where(ResponderLeaseRow.target == target).with_for_update()
    return session.execute(statement).one_or_none()


def list_leases(session: DatabaseSession, *, now: int, latest: int) -> list[Any]:
    """Return the rows of the leases that are valid at `now`, sorted by target.

    A valid lease ends after `now`, and at `latest` or earlier. A later end is not possible, unless the clock was set back
    after the lease was acquired. Times are in microseconds since 1970.
    """
    holds = (ResponderLeaseRow.until > now, ResponderLeaseRow.until <= latest)
    return list(session.execute(select(*_LEASE).where(*holds).order_by(ResponderLeaseRow.target)))


def leased_targets(session: DatabaseSession) -> list[str]:
    """Return the targets of all leases, valid or expired."""
    return list(session.execute(select(ResponderLeaseRow.target)).scalars())


def put_baseline(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert or replace the baseline (usual values) of a target; `values` maps column names of the table to values."""
    _put(session, BaselineRow, values)


def get_baseline(session: DatabaseSession, target: str) -> dict[str, Any] | None:
    """Return the stored baseline of a target (the usual values of its signals); None if none is stored."""
    return session.execute(select(BaselineRow.content).where(BaselineRow.target == target)).scalar_one_or_none()


def _put(session: DatabaseSession, entity: type[Base], values: Mapping[str, Any]) -> None:
    statement = insert_into(session, table_of(entity)).values(**values)
    replaced = {name: statement.excluded[name] for name in values if name != "target"}
    session.execute(statement.on_conflict_do_update(index_elements=["target"], set_=replaced))
