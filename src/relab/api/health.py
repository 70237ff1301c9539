"""What load balancers and people ask first."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Response
from pydantic import BaseModel

from relab import __version__
from relab.core.errors import RelabError
from relab.http.access import public
from relab.http.deps import ServicesDep
from relab.storage.schema import require_current

_log = structlog.get_logger(__name__)

router = APIRouter(tags=["health"])


class ServiceStatus(BaseModel):
    """The answer of `GET /`."""

    status: str
    service: str


class Health(BaseModel):
    """The process is alive."""

    status: str
    version: str


class Readiness(BaseModel):
    """Which parts can be used, by name; the value is `ok` or what is wrong."""

    status: str
    checks: dict[str, str]


@router.get("/", dependencies=[public()], summary="Say that the service is up")
def get_root(services: ServicesDep) -> ServiceStatus:
    """The seed's answer; the name is the setting `RELAB_SERVICE_NAME`."""
    return ServiceStatus(status="ok", service=services.settings.service_name)


@router.get("/healthz", dependencies=[public()], summary="Liveness: this process answers")
def get_healthz() -> Health:
    """Always ok while the process can answer; looks at nothing else."""
    return Health(status="ok", version=__version__)


@router.get("/health", dependencies=[public()], summary="Liveness: the seed's name of /healthz")
def get_health() -> Health:
    """The same as `GET /healthz`."""
    return get_healthz()


@router.get(
    "/readyz",
    dependencies=[public()],
    responses={503: {"model": Readiness, "description": "Some part cannot be used"}},
    summary="Readiness: database and queue can be used",
)
def get_readyz(response: Response, services: ServicesDep) -> Readiness:
    """503 while the database, its schema or the broker cannot be used, or nothing can be written (`disk`).

    A write is tried at most once a second. Reads may still be served then.
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
            # The code, not the message: a public route tells nothing of hosts and versions.
            checks[name] = error.code
            _log.warning("not_ready", check=name, code=error.code, error=str(error))
    ready = all(state == "ok" for state in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ok" if ready else "unavailable", checks=checks)
