"""Read the clusters of failed runs."""

from __future__ import annotations

from relab.core.cursor import NUMBER_AND_ID, decode_cursor, encode_cursor
from relab.rca.clusters import repository as queries
from relab.rca.clusters.models import ClusterPage, FailureCluster
from relab.rca.clusters.repository import ClusterFilter
from relab.rca.models import Category
from relab.storage import Database
from relab.storage.session import DatabaseSession


class ClusterReader:
    """Reads clusters: groups of failed runs that share a cause.

    Args:
        database: the database of the analyses.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_run(self, agent_run_id: str) -> FailureCluster | None:
        """Return the cluster (failed runs with one cause) of a run; None if the run did not fail or is not analysed."""
        with self._database.read() as session:
            cluster = queries.cluster_of(session, agent_run_id)
            if cluster is None:
                return None
            return _cluster(session, cluster, queries.count(session, cluster), ClusterFilter())

    def count_by_category(self) -> list[tuple[str, int, int]]:
        """Return `(category, number of clusters, number of runs)` for each category; a cluster's runs share a cause."""
        with self._database.read() as session:
            return queries.count_by_category(session)

    def list(
        self,
        *,
        agent_name: str | None = None,
        category: Category | None = None,
        since_us: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> ClusterPage:
        """Return a page of clusters (runs with one cause), the largest first. A filter that is None excludes nothing.

        Args:
            agent_name: only failures of this agent.
            category: only failures of this category.
            since_us: only failures of runs that started at or after this time, in microseconds since 1970.
            cursor: `next_cursor` of the previous page; None for the first page.
            limit: the maximum number of clusters.

        Raises:
            InvalidCursorError: the cursor is not from a previous page.
        """
        wanted = ClusterFilter(agent_name, category, since_us)
        after = None if cursor is None else decode_cursor(cursor, NUMBER_AND_ID)
        with self._database.read() as session:
            found = queries.largest(session, wanted, limit + 1, after)
            items = [_cluster(session, row.cluster, row.runs, wanted) for row in found[:limit]]
            clusters, runs = queries.totals(session, wanted)
        last = found[limit - 1] if len(found) > limit else None
        return ClusterPage(
            items=[item for item in items if item is not None],
            clusters=clusters,
            runs=runs,
            next_cursor=None if last is None else encode_cursor((last.runs, last.cluster)),
        )


def _cluster(session: DatabaseSession, cluster: str, runs: int, wanted: ClusterFilter) -> FailureCluster | None:
    """Return a cluster (runs with one cause) with its first and its last run; None if its runs were deleted meanwhile.

    Args:
        session: the session of the transaction.
        cluster: the key of the cluster.
        runs: the number of its runs.
        wanted: the filter of the query that found the cluster.
    """
    first = queries.end_of(session, cluster, wanted, is_last=False)
    last = queries.end_of(session, cluster, wanted, is_last=True)
    if first is None or last is None:
        return None
    return FailureCluster(
        cluster=cluster,
        category=Category(last.category),
        line=last.line,
        runs=runs,
        agents=tuple(queries.agents_of(session, cluster, wanted)),
        first_run=first.run_id,
        first_at=first.started_at,
        first_version=first.agent_version,
        last_run=last.run_id,
        last_at=last.started_at,
        last_version=last.agent_version,
    )
