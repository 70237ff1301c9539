"""A responder in this process on a separate database, composed as in the product."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from relab.core.clock import SystemClock
from relab.incidents.actions.client import ActionsClient
from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.detector import Detector
from relab.incidents.polling.feed import PollFeed
from relab.incidents.polling.poller import Poller
from relab.incidents.probes.client import ProbeClient
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.response.context import PollState, ResponseContext
from relab.incidents.response.graph import build_graph
from relab.incidents.response.responder import Responder
from relab.incidents.settings import ResponderSettings, settings_for
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentPage
from relab.knowledge.service import KnowledgeService
from relab.storage import Database
from support.storage.migrated import migrate

Found = TypeVar("Found")
TARGET = "shop"


@dataclass
class Running:
    """A running responder."""

    responder: Responder
    world: ResponseContext

    @property
    def log(self) -> IncidentLog:
        """The incident log of the responder."""
        return self.world.log

    def incidents(self) -> IncidentPage:
        """Return all incidents of the responder's target."""
        return self.log.list_incidents(target=TARGET)

    def only(self) -> Incident:
        """Return the only incident of the responder's target."""
        (found,) = self.incidents().items
        return self.log.get(found.incident_id)

    async def until(self, condition: Callable[[], Found | None], *, within_s: float = 120.0, what: str = "it") -> Found:
        """Return the condition's first true value, while the responder runs."""
        async with asyncio.timeout(within_s):
            while True:
                value = await asyncio.to_thread(condition)
                if value:
                    return value
                await asyncio.sleep(0.1)
        raise AssertionError(what)

    def story(self, incident_id: str) -> list[str]:
        """Return one line of text per event of the timeline."""
        return [f"{event.kind}: {event.message}" for event in self.log.read_after(incident_id)]


@asynccontextmanager
async def responding(
    home: Path,
    target_url: str,
    actions_url: str,
    token: str,
    *,
    policy: Policy,
    settings: Callable[[ResponderSettings], ResponderSettings] = lambda made: made,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Running]:
    """Run a responder that polls every second; a second start with the same home continues the first."""
    database = await asyncio.to_thread(_database, home)
    knowledge = KnowledgeService(database, folder=None, home_folder=home / "knowledge")
    made = settings(settings_for(1.0, policy=policy))
    asker, actions = ProbeTransport(target_url, actions_url, token=token), ActionsClient(actions_url, token)
    async with AsyncSqliteSaver.from_conn_string(str(home / "checkpoints.db")) as saver:
        watch = PollState(PollFeed(), Baseline())
        clock = SystemClock()
        world = ResponseContext(
            TARGET, watch, ProbeClient(asker), actions, knowledge, IncidentLog(database), clock, made, pause=pause
        )
        poller = Poller(asker, clock, interval_s=made.poll_interval_s)
        detector = Detector(made.detection, watch.baseline)
        responder = Responder(world, build_graph(world, saver), poller, detector, owner=f"test-{id(world)}")
        stop = asyncio.Event()
        task = asyncio.create_task(responder.run(stop))
        try:
            yield Running(responder, world)
        finally:
            stop.set()
            await task
            database.close()


def _database(home: Path) -> Database:
    home.mkdir(parents=True, exist_ok=True)
    found = Database.open(f"sqlite:///{home / 'relab.db'}")
    migrate(found)
    return found


def acting() -> Policy:
    """Return a policy that acts without approval."""
    return Policy(autonomy=Autonomy.ACT, cooldown_s=2.0)
