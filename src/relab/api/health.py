"""Routes for health checks: liveness (the process responds) and readiness (the database and the job queue work).

The routes of liveness are async: they need no thread, because all threads may wait for a database that does not answer.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from relab import __version__
from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.http.access import public
from relab.http.deps import ServicesDep
from relab.storage.schema import require_current

_log = get_logger(__name__)

router = APIRouter(tags=["health"])


class ServiceStatus(BaseModel):
    """The response of `GET /`: always `ok`, and the name of the service."""

    status: str
    service: str


class Health(BaseModel):
    """The response of `GET /healthz`: always `ok`, and the version of relab."""

    status: str
    version: str


class Readiness(BaseModel):
    """The response of `GET /readyz`: `ok` or `unavailable`, and the state of each part, such as `database`.

    The state of a part is `ok` or the code of its error.
    """

    status: str
    checks: dict[str, str]


@router.get("/", dependencies=[public()], summary="Show that the service is up")
async def get_root(services: ServicesDep) -> ServiceStatus:
    """Return `ok` and the name of the service (the setting `RELAB_SERVICE_NAME`); nothing else is checked."""
    return ServiceStatus(status="ok", service=services.settings.service_name)


@router.get("/healthz", dependencies=[public()], summary="Liveness: this process responds")
async def get_healthz() -> Health:
    """Return `ok` as long as the process can respond; no other part is checked."""
    return Health(status="ok", version=__version__)


@router.get("/health", dependencies=[public()], summary="Liveness: another name of /healthz")
async def get_health() -> Health:
    """Return `ok` as long as the process can respond, as `GET /healthz` does; no other part is checked."""
    return await get_healthz()


@router.get(
    "/readyz",
    dependencies=[public()],
    responses={503: {"model": Readiness, "description": "A part cannot be used"}},
    summary="Readiness: the database and the queue can be used",
)
def get_readyz(response: Response, services: ServicesDep) -> Readiness:
    """Return the state of the database, its schema, its disk and the job queue; 503 if one of them cannot be used.

    The disk is checked with a write, at most once a second. While only the disk fails, reads still work.
    """
    checks: dict[str, str] = {}
    for name, check in (
        ("database", services.database.ping),
        ("schema", lambda: require_current(services.database)),
        ("disk", services.database.check_writable),
        ("queue", services.job_backend.ping),
    ):
        try:
            check()
            checks[name] = "ok"
        except RelabError as error:
            # The code, not the message: a public route must not reveal hosts and versions.
            checks[name] = error.code
            _log.warning("not_ready", check=name, code=error.code, error=str(error))
    ready = all(state == "ok" for state in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ok" if ready else "unavailable", checks=checks)
