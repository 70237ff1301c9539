"""Responders that stop at a moment and wait to be killed: `python -m support.shops.standing_child`.

Each input line, a JSON object, starts one responder as a fork of this process, which has loaded all modules. The output
has each one's process id, `there` (it has stopped at its moment), and `ended` with its exit code.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import json
import os
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from relab.core.logging import configure_logging
from relab.incidents import runtime
from relab.incidents.actions.client import ActionsClient
from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.models import Snapshot
from relab.incidents.polling.poller import Poller
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.response import graph as graphs
from relab.incidents.response.situation import SituationReader
from relab.incidents.service import IncidentService, WatchedTarget
from relab.incidents.settings import ResponderSettings
from relab.incidents.tracing.background_writer import BackgroundWriter
from relab.incidents.tracing.probe_events import RecordingProbeClient
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.knowledge.library import shipped_shelf
from relab.knowledge.service import KnowledgeService
from relab.progress.signal import PollingSignal
from relab.storage import Database
from relab.telemetry.service import TelemetryService
from support.shops.served import SharedClock
from support.shops.small import hasty

POLL_S = 0.01
INSIDE = {
    "asked": (ActionsClient, "execute", "begins"),
    "done": (ActionsClient, "execute", "ends"),
    "waits": (SituationReader, "may_act_without_approval", "begins"),
}
"""Moments in a node: an action is stored, not requested; it is done, not stored; an approval is requested."""


class TickingPoller(Poller):
    """A poller that advances the clock by a second with each poll, with a long time limit for busy machines."""

    def __init__(self, asker: Any, clock: SharedClock, *, interval_s: float) -> None:
        super().__init__(asker, clock, interval_s=max(interval_s, 30.0))
        self._shared = clock

    async def poll(self) -> Snapshot:
        self._shared.move(1.0)
        return await super().poll()


class HastyProbes(RecordingProbeClient):
    """Probes that repeat their requests without a pause."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._probes = {
            probe.name: replace(probe, requests=tuple(replace(ask, pause_s=0.0) for ask in probe.requests))
            for probe in PROBES.values()
        }


class HastyScribe(BackgroundWriter):
    """A writer of agent runs that writes often enough for an incident that lasts a second."""

    def writing(self, every_s: float = 0.05) -> AbstractAsyncContextManager[None]:
        return super().writing(every_s)


def tell(line: str) -> None:
    print(line, flush=True)


def stand_still() -> None:
    """Stop the whole process, including its polls, until it is killed."""
    tell("there")
    sys.stdin.readline()


def arrange(node: str, moment: str) -> None:
    """Make this process stop at a moment: at the start or end of a node, or within it."""
    nodes = (graphs.AssessmentNodes, graphs.PlanningNodes, graphs.ExecutionNodes, graphs.ClosingNodes)
    kind, name, edge = INSIDE.get(moment) or (next(kind for kind in nodes if hasattr(kind, node)), node, moment)
    inner = getattr(kind, name)

    @functools.wraps(inner)
    async def standing(*args: Any, **more: Any) -> Any:
        if edge == "begins":
            stand_still()
        found = await inner(*args, **more)
        stand_still()
        return found

    setattr(kind, name, standing)


def settings_of(autonomy: str) -> ResponderSettings:
    made = hasty(
        Policy(autonomy=Autonomy(autonomy), cooldown_s=0.0), poll_interval_s=POLL_S, use_incident_history=False
    )
    # On a busy machine a probe may take as long as many polls.
    return replace(made, verification=replace(made.verification, effect_timeout_s=120.0, cause_timeout_s=60.0))


async def respond(given: dict[str, str]) -> None:
    runtime.Poller = TickingPoller  # type: ignore[misc]
    runtime.RecordingProbeClient = HastyProbes  # type: ignore[misc]
    runtime.BackgroundWriter = HastyScribe  # type: ignore[misc]
    home, books, clock = Path(given["home"]), Path(given["books"]), SharedClock(Path(given["clock"]))
    database = Database.open(given["database"])
    shipped = [book.cause for book in shipped_shelf().runbooks]
    service = IncidentService(
        database,
        clock,
        PollingSignal(),
        lambda: KnowledgeService(database, folder=books, home_folder=books, without=shipped),
        TelemetryService(database, clock, JobQueue(database, clock, EmbeddedBackend())),
        home=home,
        watched=lambda: WatchedTarget(
            given["target"], given["url"], given["url"], SecretStr(given["token"]), settings_of(given["autonomy"])
        ),
    )
    stop = asyncio.Event()
    async with service.responding():
        # A line on standard input stops the responder, and so does the end of its parent.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        await stop.wait()
        sys.stdin.readline()
    database.close()


def load() -> None:
    """Load all modules that would otherwise be loaded at the first use."""
    for name in ("anyio._backends._asyncio", "langchain_core.tracers.context"):
        importlib.import_module(name)
    shipped_shelf()
    httpx.AsyncClient()
    nothing: Any = None
    graphs.build_graph(nothing)
    # No loaded object is garbage: without a collection, forks do not copy the pages with reference counts.
    gc.collect()
    gc.freeze()


def main() -> None:
    # Only lines for the test may reach the output.
    configure_logging("WARNING", json_lines=False)
    load()
    while line := sys.stdin.readline():
        if (pid := os.fork()) == 0:
            given = json.loads(line)
            tell(str(os.getpid()))
            if given["node"]:
                arrange(given["node"], given["moment"])
            asyncio.run(respond(given))
            # Deleting all loaded modules would take longer than an incident.
            os._exit(0)
        tell(f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")


if __name__ == "__main__":
    main()
