"""The supervisor's API on its Unix socket. Every process that may open the socket (mode 0600) has full access."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from relab.core.atomic_files import is_disk_full
from relab.core.errors import InvalidInputError, RelabError, UnavailableError
from relab.core.http_statuses import http_status
from relab.core.logging import get_logger
from relab.core.validation import plain_message
from relab.testbed.errors import StartError
from relab.testbed.models import (
    ComponentStatus,
    ResourceLimits,
    SettingsChange,
    SettingsRollback,
    SettingsVersion,
    SignalRequest,
    TestbedStatus,
)
from relab.testbed.supervisor.settings_store import mask
from relab.testbed.supervisor.supervisor import Supervisor

_log = get_logger(__name__)


def create_app(supervisor: Supervisor, shut_down: Callable[[], None]) -> FastAPI:
    """Return the FastAPI app of the supervisor's API.

    Args:
        supervisor: controls the testbed.
        shut_down: called when a client requests the shutdown of the testbed; it must only begin the shutdown and
            return.
    """
    app = FastAPI(title="relab testbed supervisor", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RelabError, _problem_response)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(OSError, _unavailable)
    _add_components(app, supervisor)
    _add_settings(app, supervisor)

    @app.get("/status")
    async def status(hidden: bool = False) -> TestbedStatus:
        return supervisor.status(hidden=hidden)

    @app.get("/access")
    async def access() -> dict[str, Any]:
        return supervisor.access()

    @app.post("/reset")
    async def reset() -> TestbedStatus:
        await supervisor.reset()
        return supervisor.status()

    @app.post("/shutdown", status_code=202)
    async def shutdown() -> dict[str, str]:
        # The response is still sent: the server waits for it before it ends.
        shut_down()
        return {"phase": "stopping"}

    return app


def _add_components(app: FastAPI, supervisor: Supervisor) -> None:
    async def settled(name: str, found: list[ComponentStatus], wait_s: float) -> dict[str, Any]:
        """Return `{"components": [status of each component], "ready": whether all are ready}`.

        A component is ready if its state is `running`.

        Args:
            name: the name of a component, or of a group or program with several components.
            found: the current status of these components.
            wait_s: longest time in seconds to wait until the components are ready, at most 60; their status after this
                wait is returned. 0 to return `found` without waiting.
        """
        if wait_s > 0:
            await supervisor.wait_ready(supervisor.find(name), min(wait_s, 60.0))
            found = [item.status() for item in supervisor.find(name)]
        return {"components": found, "ready": all(item.state == "running" for item in found)}

    @app.get("/components")
    async def components(hidden: bool = False) -> dict[str, Any]:
        return {
            "components": supervisor.components(hidden=hidden),
            "limits_available": supervisor.status().limits_available,
            "phase": supervisor.phase,
        }

    @app.post("/components/{name}/start")
    async def start(name: str, wait_s: float = 0) -> dict[str, Any]:
        return await settled(name, await supervisor.start_components(name), wait_s)

    @app.post("/components/{name}/stop")
    async def stop(name: str, force: bool = False) -> dict[str, Any]:
        return {"components": await supervisor.stop_components(name, gently=not force)}

    @app.post("/components/{name}/restart")
    async def restart(name: str, force: bool = False, wait_s: float = 0) -> dict[str, Any]:
        return await settled(name, await supervisor.restart_components(name, gently=not force), wait_s)

    @app.post("/components/{name}/signal")
    async def signal(name: str, request: SignalRequest) -> dict[str, Any]:
        return {"components": supervisor.signal(name, request.signal, everyone=request.scope == "all")}

    @app.put("/components/{name}/limits")
    async def limits(name: str, wanted: ResourceLimits) -> dict[str, Any]:
        return {"components": supervisor.limit(name, wanted)}


def _add_settings(app: FastAPI, supervisor: Supervisor) -> None:
    async def settled(made: SettingsVersion, restart: bool) -> dict[str, Any]:
        if restart:
            await supervisor.restart_components("target")
        return {"version": made, "restarted": restart}

    @app.get("/settings")
    async def settings(reveal: bool = False) -> dict[str, Any]:
        found = supervisor.settings.current()
        return found if reveal else dict(mask(found))

    @app.get("/settings/history")
    async def history() -> dict[str, list[SettingsVersion]]:
        return {"versions": supervisor.settings.history()}

    @app.put("/settings")
    async def change(wanted: SettingsChange) -> dict[str, Any]:
        supervisor.require_settled()
        given = {"author": wanted.author, "note": wanted.note}
        if wanted.changes is not None and wanted.settings is None:
            made = supervisor.settings.merge(wanted.changes, **given, expected_version=wanted.expected_version)
        elif wanted.settings is not None and wanted.changes is None:
            made = supervisor.settings.replace(wanted.settings, **given, expected_version=wanted.expected_version)
        else:
            raise InvalidInputError("Give either `changes` or `settings`.")
        return await settled(made, wanted.restart)

    @app.post("/settings/rollback")
    async def roll_back(wanted: SettingsRollback) -> dict[str, Any]:
        supervisor.require_settled()
        made = supervisor.settings.roll_back(wanted.version, author=wanted.author, note=wanted.note)
        return await settled(made, wanted.restart)


class ControlServer(uvicorn.Server):
    """A uvicorn server that installs no signal handlers, because the supervisor has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Return a context manager that does nothing: uvicorn must not replace the supervisor's signal handlers."""
        yield


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Return a context manager that gives a listening Unix socket, open to this user only.

    At the end of the block, the socket is closed and its file is removed.

    Raises:
        OSError: the path is not available.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        made.listen(64)
        made.setblocking(False)
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def serving(app: FastAPI, at: socket.socket) -> Iterator[Callable[[], asyncio.Task[None]]]:
    """Return a context manager that serves the app on the socket `at` while its block runs.

    The value of the context manager is a function that begins the shutdown of the server. This function returns a task
    that ends when the server is down.
    """
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    server = ControlServer(config)
    task = asyncio.create_task(server.serve(sockets=[at]))

    def end() -> asyncio.Task[None]:
        server.should_exit = True
        return task

    try:
        yield end
    finally:
        end()


async def _problem_response(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RelabError)
    body: dict[str, Any] = {"code": error.code, "message": error.message, "remedy": error.remedy}
    if isinstance(error, StartError):
        body |= {"component": error.component, "log_tail": error.log_tail}
    return JSONResponse({"error": body}, status_code=http_status(error))


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    _log.error("request_failed", path=request.url.path, exc_info=error)
    reason = error.strerror or str(error) or type(error).__name__
    # Without the folder, because the answer can reach a responder.
    named = Path(error.filename).name if isinstance(error.filename, str) else None
    message = f"A file cannot be used: {reason} ({named})." if named else f"The operation failed: {reason}."
    remedy = "Free space on its disk, then try again." if is_disk_full(error) else None
    return await _problem_response(request, UnavailableError(message, remedy=remedy))


async def _wrong(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"field": ".".join(map(str, item["loc"][1:])), "message": plain_message(item["msg"])} for item in error.errors()
    ]
    message = "; ".join(f"{item['field'] or 'body'}: {item['message']}" for item in problems)
    body = {"code": "invalid_input", "message": message, "remedy": None, "problems": problems}
    return JSONResponse({"error": body}, status_code=422)
