"""Build a responder from its parts, keep its loop running, and close its connections at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from langsmith import tracing_context

from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.core.logging import get_logger
from relab.incidents.actions.client import ActionsClient
from relab.incidents.actions.errors import ActionServerError
from relab.incidents.capabilities import unknown_classes
from relab.incidents.checkpoints import checkpoints
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.detector import Detector
from relab.incidents.polling.feed import PollFeed
from relab.incidents.polling.poller import Poller
from relab.incidents.postmortem.signal_writer import SignalWriter
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.response.context import PollState, ResponseContext
from relab.incidents.response.graph import build_graph
from relab.incidents.response.responder import Responder
from relab.incidents.storage.log import IncidentLog
from relab.incidents.target import WatchedTarget, action_token, target_name
from relab.incidents.tracing.background_writer import BackgroundWriter
from relab.incidents.tracing.probe_events import RecordingProbeClient
from relab.incidents.tracing.recorder import RunRecorder
from relab.knowledge.service import KnowledgeService
from relab.storage import Database
from relab.telemetry.service import TelemetryService

_STOP_TIMEOUT_S: Final = 2.0
"""How long a running poll may take after a request to stop the responder, in seconds."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResponderServices:
    """The services that a responder needs besides its target.

    Attributes:
        telemetry: the service that stores each incident as an agent run.
        home: the folder for the responder's checkpoints if the database is SQLite.
    """

    database: Database
    clock: Clock
    log: IncidentLog
    knowledge: KnowledgeService
    telemetry: TelemetryService
    home: Path


@asynccontextmanager
async def running_responder(watched: WatchedTarget, means: ResponderServices) -> AsyncIterator[Responder]:
    """Watch a target and respond to its incidents while the `async with` block runs; yield the responder.

    Raises:
        ConfigurationError: an address is not valid, an excluded runbook does not exist, a required token is missing, or
            PostgreSQL is not set up to store checkpoints.
        RunbookFolderError: the folder of runbooks in the settings cannot be read.
        UnavailableError: PostgreSQL cannot be reached, or the file of checkpoints cannot be opened.
    """
    token = action_token(watched)
    await asyncio.to_thread(means.knowledge.check)
    if watched.gateway is not None:
        # Load the model's libraries now, so that an incident does not wait for them.
        threading.Thread(target=watched.gateway.preload, name="preload-model", daemon=True).start()
    asker, actions = (
        ProbeTransport(watched.url, watched.actions_url, token=token),
        ActionsClient(watched.actions_url, token),
    )
    async with checkpoints(means.database, means.home) as saver:
        watch, settings = PollState(PollFeed(), Baseline()), watched.settings
        world = ResponseContext(
            watched.name,
            watch,
            RecordingProbeClient(asker, means.log, means.clock, lambda: responder.incident_id),
            actions,
            means.knowledge,
            means.log,
            means.clock,
            settings,
            gateway=watched.gateway,
        )
        responder = Responder(
            world,
            build_graph(world, saver),
            Poller(asker, means.clock, interval_s=settings.poll_interval_s),
            Detector(settings.detection, watch.baseline),
            owner=f"{socket.gethostname()}:{os.getpid()}:{new_id()}",
        )
        recorder = RunRecorder(means.log, means.telemetry, means.clock, watched.name)
        scribe = BackgroundWriter(responder, watch.feed, recorder, SignalWriter(means.log, means.clock))
        # Turn LangSmith tracing off, whatever the environment says: observations of a target must not leave this process.
        with tracing_context(enabled=False):
            async with (
                scribe.writing(),
                _checking_actions(
                    actions,
                    target_name(watched.actions_url),
                    settings.policy.autonomy_by_class,
                    settings.poll_interval_s,
                ),
                _kept_running(responder, settings.poll_interval_s),
            ):
                yield responder


@asynccontextmanager
async def _checking_actions(
    actions: ActionsClient, name: str, classes: Collection[str], again_after_s: float
) -> AsyncIterator[None]:
    """While the block runs, check whether the action server can be used, and log problems.

    The check requests the server's catalogue of actions until the server has answered once. Each kind of failure is
    logged once.

    Args:
        actions: the client of the server.
        name: the name of the server, for the log.
        classes: the classes of actions, such as `restart`, that the settings name. A class without an action in the
            catalogue is logged.
        again_after_s: the time between two requests, in seconds.
    """

    async def check() -> None:
        logged: set[str] = set()
        while True:
            try:
                catalogue = await actions.catalogue()
            except ActionServerError as error:
                if error.code not in logged:
                    logged.add(error.code)
                    _log.warning("action_server_unusable", server=name, reason=error.message, remedy=error.remedy)
                await asyncio.sleep(again_after_s)
                continue
            if logged:
                _log.info("action_server_answers", server=name, actions=len(catalogue.actions))
            if found := unknown_classes(catalogue, classes):
                _log.warning("autonomy_for_unknown_class", setting="RELAB_INCIDENTS__AUTONOMY_BY_CLASS", classes=found)
            return

    task = asyncio.create_task(check(), name="actions")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def _kept_running(responder: Responder, again_after_s: float) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(_run(responder, stop, again_after_s), name="responder")
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait([task], timeout=_STOP_TIMEOUT_S)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("responder_failed", exc_info=error)


async def _run(responder: Responder, stop: asyncio.Event, again_after_s: float) -> None:
    while not stop.is_set():
        try:
            await responder.run(stop)
        except Exception:  # noqa: BLE001 whatever a poll met, the target is not left alone for the night
            _log.exception("responder_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), again_after_s)
