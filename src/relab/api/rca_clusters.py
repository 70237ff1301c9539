"""Routes of clusters: failed runs that share a cause, according to their analyses."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from relab.access.models import Scope
from relab.api.agent_runs import Cursor, TimeText
from relab.core.clock import parse_time
from relab.http.deps import PageSize, ServicesDep
from relab.http.routes import scoped
from relab.rca.models import Category
from relab.rca.service import ClusterPage

router = APIRouter(tags=["root cause analysis"])


@router.get("/rca/clusters", **scoped(Scope.READ), summary="List failures of runs that share a cause")
def list_clusters(
    services: ServicesDep,
    agent_name: Annotated[str | None, Query(max_length=500, pattern=r"^[^\x00]*$")] = None,
    category: Category | None = None,
    started_after: TimeText = None,
    cursor: Cursor = None,
    limit: PageSize = 50,
) -> ClusterPage:
    """Return a page of clusters (groups of failed runs with a common cause), the cluster with the most runs first.

    Each cluster names its first and its last run. If a run was analysed repeatedly, only its newest analysis counts.
    The fields `clusters` and `runs` are totals over all pages.
    """
    since_us = None if started_after is None else parse_time(started_after)
    return services.rca.clusters.list(
        agent_name=agent_name, category=category, since_us=since_us, cursor=cursor, limit=limit
    )
