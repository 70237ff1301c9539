"""Routes of the history of builds: which tests are flaky or broken, and which failures share a cause."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from relab.access.models import Scope
from relab.builds.service import FailureGroupPage, HistoryStatus, JudgedTestPage
from relab.http.deps import PageSize, ServicesDep
from relab.http.routes import scoped

router = APIRouter(tags=["builds"])

_Project = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
_CONTINUES = "`next_before` of the previous page."
_BeforeTest = Annotated[str | None, Query(pattern=r"^[0-9a-f]{16}\.[^\x00]{0,200}$", description=_CONTINUES)]
_BeforeGroup = Annotated[str | None, Query(pattern=r"^[0-9]{1,16}\.[0-9a-f]{0,24}$", description=_CONTINUES)]


@router.get("/builds/tests", **scoped(Scope.READ), summary="List tests of builds with what their history says")
def list_tests(
    services: ServicesDep,
    project: _Project = None,
    status: HistoryStatus | None = None,
    before: _BeforeTest = None,
    limit: PageSize = 50,
) -> JudgedTestPage:
    """Return a page of tests that have failed, each with its status (such as flaky or broken) and evidence for it.

    Tests with the newest failures come first. Tests that never failed are listed only with `status=stable`. A page may
    have fewer tests than `limit` although another page follows.
    """
    return services.builds.history.list_tests(project=project, status=status, before=before, limit=limit)


@router.get("/builds/groups", **scoped(Scope.READ), summary="List groups of builds that failed for the same cause")
def list_groups(
    services: ServicesDep,
    project: _Project = None,
    before: _BeforeGroup = None,
    limit: PageSize = 50,
) -> FailureGroupPage:
    """Return a page of groups of builds that failed for the same cause; groups with the newest builds come first.

    With `project`, only the builds of that project are counted.
    """
    return services.builds.groups.list_groups(project=project, before=before, limit=limit)
