"""A small world for scenarios: a real chaos server, and a service that is healthy without an active fault."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi.responses import JSONResponse

from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.models import InjectionPhase
from relab.testbed.chaos.server import create_app
from rig.servers import free_port
from rig.waiting import wait_until
from support.testbed.leaks import leak_manager

WELL: dict[str, Any] = {
    "type": "probe",
    "name": "the house is dry",
    "tolerance": {"type": "jsonpath", "target": "body", "path": "$.state", "expect": "dry"},
    "provider": {"type": "http", "url": "${url}/house", "timeout": 5},
}


def drip(**more: Any) -> dict[str, Any]:
    """Return a scenario's action that injects a drip."""
    return {"type": "action", "name": "let it drip", "provider": post("/api/v1/break/drip"), **more}


def post(path: str, **more: Any) -> dict[str, Any]:
    """Return a provider that posts to a path of the chaos server."""
    return {"type": "http", "url": f"${{url}}{path}", "method": "POST", **more}


def stop_drip() -> dict[str, Any]:
    """Return the rollback of a drip."""
    return {"type": "action", "name": "stop the drip", "provider": post("/api/v1/break/drip/stop")}


def document(**parts: Any) -> dict[str, Any]:
    """Return a scenario of this world."""
    return {
        "title": "A drip",
        "description": "Something drips.",
        "configuration": {"url": {"type": "env", "key": "WORLD_URL"}},
        "steady-state-hypothesis": {"title": "It is dry", "probes": [WELL]},
        "method": [drip()],
        "rollbacks": [stop_drip()],
        **parts,
    }


@dataclass
class World:
    """A running world.

    Attributes:
        log: the calls of the injectors.
    """

    url: str
    manager: ChaosManager
    log: list[str]

    def phases(self) -> list[InjectionPhase]:
        """Return the phase of each injection, newest first."""
        return [injection.phase for injection in self.manager.list()]


@contextmanager
def world() -> Iterator[World]:
    """Run a world while the block runs."""
    log: list[str] = []
    manager = leak_manager(log)
    app = create_app(manager)

    @app.get("/house")
    def house() -> JSONResponse:
        is_wet = any(injection.phase is InjectionPhase.ACTIVE for injection in manager.list())
        return JSONResponse({"state": "wet" if is_wet else "dry"})

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, name="world")
    thread.start()
    try:
        wait_until(lambda: server.started, what="the world")
        yield World(f"http://127.0.0.1:{port}", manager, log)
    finally:
        server.should_exit = True
        thread.join()
        manager.close()
