"""Queries over the stored failures of runs: one failure for each failed run, with the key of its cluster.

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVarTuple

from sqlalchemy import Select, and_, delete, func, insert, or_, select, update

from relab.rca.tables import RcaFailureRow
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.session import DatabaseSession

_MAX_AGENTS: Final = 20

Columns = TypeVarTuple("Columns")


class ClusterFilter(NamedTuple):
    """A filter of failed runs; a run must match every field that is not None.

    Attributes:
        agent_name: the name of the run's agent.
        category: the category of the run's failure.
        since_us: the earliest start of the run, in microseconds since 1970.
    """

    agent_name: str | None = None
    category: str | None = None
    since_us: int | None = None


class ClusterRow(NamedTuple):
    """The key of a cluster (failed runs with one cause), and the number of its runs."""

    cluster: str
    runs: int


class ClusterEnd(NamedTuple):
    """The first or the last failed run of a cluster, with the columns of its failure (see `RcaFailureRow`)."""

    run_id: str
    started_at: int
    agent_version: str | None
    category: str
    line: str


def save(session: DatabaseSession, values: dict[str, Any]) -> None:
    """Store the failure of a run, given as `{column: value}`. It replaces an older failure of the same run."""
    table = table_of(RcaFailureRow)
    changed = session.execute(update(table).where(table.c.run_id == values["run_id"]).values(**values))
    if not changed.rowcount:
        session.execute(insert(table).values(**values))


def remove(session: DatabaseSession, run_id: str) -> None:
    """Delete the stored failure of a run; called when the newest analysis of the run finds no failure."""
    session.execute(delete(table_of(RcaFailureRow)).where(RcaFailureRow.run_id == run_id))


def delete_of(session: DatabaseSession, rca_run_ids: Iterable[str]) -> None:
    """Delete the failures that were found by the analyses with the given ids."""
    for ids in chunks(rca_run_ids):
        session.execute(delete(table_of(RcaFailureRow)).where(RcaFailureRow.rca_run_id.in_(ids)))


def largest(
    session: DatabaseSession, wanted: ClusterFilter, limit: int, after: tuple[int, str] | None = None
) -> list[ClusterRow]:
    """Return at most `limit` clusters (runs with one cause), largest first. Only failed runs that match `wanted` count.

    `after` is `(number of runs, key)` of the last cluster of the previous page; None for the first page.
    """
    number = func.count()
    statement = _filtered(select(RcaFailureRow.cluster, number), wanted).group_by(RcaFailureRow.cluster)
    if after is not None:
        runs, cluster = after
        statement = statement.having(or_(number < runs, and_(number == runs, RcaFailureRow.cluster > cluster)))
    found = session.execute(statement.order_by(number.desc(), RcaFailureRow.cluster).limit(limit))
    return [ClusterRow(cluster, runs) for cluster, runs in found]


def totals(session: DatabaseSession, wanted: ClusterFilter) -> tuple[int, int]:
    """Count the failed runs that match `wanted`; return `(number of their clusters, number of runs)`."""
    statement = _filtered(select(func.count(RcaFailureRow.cluster.distinct()), func.count()), wanted)
    clusters, runs = session.execute(statement).one()
    return clusters, runs


def count(session: DatabaseSession, cluster: str) -> int:
    """Return the number of failed runs in a cluster (runs that share a cause); `cluster` is its key."""
    return session.execute(
        select(func.count()).select_from(RcaFailureRow).where(RcaFailureRow.cluster == cluster)
    ).scalar_one()


def end_of(session: DatabaseSession, cluster: str, wanted: ClusterFilter, *, is_last: bool) -> ClusterEnd | None:
    """Return the first failed run of a cluster, by the start of the runs; if `is_last` is true, return the last one.

    A cluster is the failed runs that share a cause; `cluster` is its key. Only runs that match `wanted` are considered.
    Return None if there is no such run.
    """
    row = RcaFailureRow
    order = (row.started_at.desc(), row.run_id.desc()) if is_last else (row.started_at, row.run_id)
    columns = (table_of(row).c[name] for name in ClusterEnd._fields)
    statement = _filtered(select(*columns), wanted).where(row.cluster == cluster).order_by(*order).limit(1)
    found = session.execute(statement).one_or_none()
    return None if found is None else ClusterEnd._make(found)


def agents_of(session: DatabaseSession, cluster: str, wanted: ClusterFilter) -> list[str]:
    """Return the names of the agents that have runs in a cluster (runs with one cause), sorted, at most 20.

    Only failed runs that match `wanted` are considered.
    """
    name = RcaFailureRow.agent_name
    statement = _filtered(select(name).distinct(), wanted).where(RcaFailureRow.cluster == cluster)
    return list(session.execute(statement.order_by(name).limit(_MAX_AGENTS)).scalars())


def cluster_of(session: DatabaseSession, run_id: str) -> str | None:
    """Return the key of the cluster (failed runs that share a cause) of a run; None if the run is in no cluster."""
    return session.execute(select(RcaFailureRow.cluster).where(RcaFailureRow.run_id == run_id)).scalar_one_or_none()


def count_by_category(session: DatabaseSession) -> list[tuple[str, int, int]]:
    """Return `(category, number of clusters, number of runs)` for each category; a cluster's runs share a cause."""
    row = RcaFailureRow
    statement = select(row.category, func.count(row.cluster.distinct()), func.count()).group_by(row.category)
    return [(category, clusters, runs) for category, clusters, runs in session.execute(statement)]


def _filtered(statement: Select[*Columns], wanted: ClusterFilter) -> Select[*Columns]:
    if wanted.agent_name is not None:
        statement = statement.where(RcaFailureRow.agent_name == wanted.agent_name)
    if wanted.category is not None:
        statement = statement.where(RcaFailureRow.category == wanted.category)
    if wanted.since_us is not None:
        statement = statement.where(RcaFailureRow.started_at >= wanted.since_us)
    return statement
