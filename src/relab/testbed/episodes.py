"""Check the secrets in requests between the processes of a testbed, and provide the route that ends an episode.

An episode is one test of a responder. Some servers keep running when the testbed is reset for a new episode: the
supervisor sends each of them a POST with its secret, so that they drop the state of the previous episode. A second
secret protects the chaos server while a responder is measured: only the program that injects faults (the breaker) knows
it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request

from relab.core.errors import ForbiddenError
from relab.testbed.callers import refuse_pages

SECRET_VARIABLE: Final = "RELAB_TESTBED_SECRET"  # noqa: S105 a name
SECRET_HEADER: Final = "X-Testbed-Secret"  # noqa: S105 a name
BREAKER_VARIABLE: Final = "RELAB_TESTBED_BREAKER_SECRET"
BREAKER_HEADER: Final = "X-Breaker-Secret"


class NotTheBreakerError(ForbiddenError):
    """A request to the chaos server lacks the secret of the program that injects faults (the breaker).

    The chaos server requires this secret while a responder is measured.
    """

    code = "not_the_breaker"


class NotTheSupervisorError(ForbiddenError):
    """A request that announces a new episode (a test of a responder) lacks the supervisor's secret."""

    code = "not_the_supervisor"


def breaker() -> Callable[[Request, str], None]:
    """Return a FastAPI dependency that requires the secret of the program that injects faults.

    The secret is the value of the environment variable `RELAB_TESTBED_BREAKER_SECRET` at the time of this call. A
    request without this secret is rejected with `NotTheBreakerError`.

    If the variable is not set, no secret is required. A request is then rejected with `PageRefusedError` only if it may
    come from a web page, or if its header `Host` does not name this machine.
    """
    secret = os.environ.get(BREAKER_VARIABLE, "")

    def check(request: Request, x_breaker_secret: Annotated[str, Header(max_length=200)] = "") -> None:
        if not secret:
            refuse_pages(request.headers, remedy="Call it as localhost or 127.0.0.1 from a program.")
        elif not hmac.compare_digest(x_breaker_secret.encode("utf-8", "replace"), secret.encode()):
            raise NotTheBreakerError("Only the program that measures responders on this testbed may inject faults.")

    return check


def episode_end_route(on_episode_end: Callable[[], None]) -> APIRouter:
    """Return the route `POST /forget`, which the supervisor calls before a new episode (a test of a responder).

    The route rejects requests without the supervisor's secret, which this function reads from the environment.

    Args:
        on_episode_end: drops the state of the previous episode; runs in a thread, so it may block.
    """
    router = APIRouter()
    secret = os.environ.get(SECRET_VARIABLE, "")

    @router.post("/forget", include_in_schema=False)
    def begin(x_testbed_secret: Annotated[str, Header(max_length=200)] = "") -> dict[str, bool]:
        given = x_testbed_secret.encode("utf-8", "replace")
        if not secret or not hmac.compare_digest(given, secret.encode()):
            raise NotTheSupervisorError("Only the supervisor of the testbed may begin an episode.")
        on_episode_end()
        return {"ok": True}

    return router
