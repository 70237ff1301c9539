"""A small shop and its real responder: target and action server answer in this process, with a clock that polls move.

The action server is the real one; what it acts on are two valves. One that does not stand as it should makes a dependency of
the target fail. The responder is the real one too, with its database, its graph, its polls and its looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from langgraph.checkpoint.base import BaseCheckpointSaver

from relab.core.clock import format_time
from relab.incidents.actions.client import ActionsClient, RequestLimits
from relab.incidents.actions.policy import Policy
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.detector import Detector
from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.polling.poller import Poller
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.client import ProbeClient
from relab.incidents.probes.models import ProbeServer
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.response.context import PollState, ResponseContext
from relab.incidents.response.graph import build_graph
from relab.incidents.response.responder import Responder
from relab.incidents.settings import ResponderSettings, settings_for
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentStatus, TimelineEvent
from relab.knowledge.library import shipped_shelf
from relab.knowledge.service import KnowledgeService
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import Looks
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.server import ActionServices, create_app
from relab.testbed.actions.service import ActionService
from relab.testbed.actions.tokens import Tokens
from support.clocks import MovableClock
from support.shops.books import CURE, PARTS
from support.storage.flaky_databases import FlakyDatabase
from support.testbed.action_servers import NOWHERE
from support.testbed.valves import TurnValve, Valves

Found = TypeVar("Found")
RUIN = 8
HEALTH = "/api/v1/health"
HASTE = RequestLimits(
    read_timeout_s=20.0, action_timeout_s=20.0, max_attempts=3, retry_pause_s=0.0, max_retry_after_s=0.0
)
_names = itertools.count()


@dataclass
class OtherClock:
    """A clock that is behind another one, or ahead of it."""

    clock: MovableClock
    behind_s: float = 0.0

    def now_us(self) -> int:
        """Return its time."""
        return self.clock.now_us() - int(self.behind_s * 1_000_000)


@dataclass
class Shop:
    """The service, as its users and its operators find it.

    Attributes:
        server_clock: the action server's.
        told_clock: the target's.
        broken: valves that do not stand as they should.
        cure: how they should.
        unfelt: those of them by which no request fails.
        p95_ms: how long its users wait.
        word: what the target calls itself while no valve is shut.
        lies: paths of the target with what it answers in place of the truth; an exception is raised, a function is called.
    """

    valves: Valves
    actions: ActionService
    app: Any
    tokens: dict[str, str]
    clock: MovableClock
    server_clock: OtherClock
    told_clock: OtherClock
    broken: set[str] = field(default_factory=set)
    cure: int = CURE
    unfelt: frozenset[str] = frozenset()
    p95_ms: float = 12.0
    word: str = "healthy"
    lies: dict[str, Any] = field(default_factory=dict)

    def do(self, who: str, component: str, to: int) -> None:
        """Turn a valve in the name of a person."""
        self.actions.perform("turn_valve", {"component": component, "to": to}, actor=who)

    def grumble(self, *failing: str) -> None:
        """Make the target report itself as degraded, with failures of unknown dependencies."""
        told = self.truth()[HEALTH]
        # It tells no time here, so its figures do not become old.
        del told["timestamp"]
        others = {name: {"ok": False} for name in failing}
        self.lies[HEALTH] = told | {"health_status": "degraded", "dependencies": told["dependencies"] | others}

    def failing(self) -> list[str]:
        """Return the valves that make a dependency fail."""
        stand = self.valves.read()
        return [part for part in sorted(self.broken) if stand.get(part) != self.cure]

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer for the target."""
        told = self.lies.get(request.url.path, self.truth().get(request.url.path))
        if callable(told):
            told = told()
        if isinstance(told, Exception):
            raise told
        if isinstance(told, bytes):
            return httpx.Response(200, content=told)
        return httpx.Response(404 if told is None else 200, json=told or {})

    def truth(self) -> dict[str, Any]:
        """Return the responses of the target, by path."""
        now, failing = format_time(self.told_clock.now_us()), self.failing()
        errors = 99.0 if RUIN in self.valves.read().values() else 40.0 if set(failing) - self.unfelt else 0.0
        health = {
            "timestamp": now,
            "health_status": "degraded" if failing else self.word,
            "error_rate": errors,
            "dependencies": {name: {"ok": part not in failing} for part, name in PARTS.items()},
            "workers": [{"worker": 0, "state": "running"}],
        }
        metrics = {
            "timestamp": now,
            "error_rate": errors,
            "p95_ms": self.p95_ms,
            "requests": 100,
            "requests_per_second": 50.0,
        }
        return {
            HEALTH: health,
            "/api/v1/metrics": metrics,
            "/api/v1/pool/status": {"timestamp": now, "pool_health": "healthy", "utilization_pct": 10.0},
            "/api/v1/logs": {"logs": [], "cursor": "0"},
        }


@contextmanager
def a_shop(folder: Path, limits: ActionLimits | None = None) -> Iterator[Shop]:
    """Yield a shop with which all is well."""
    folder.mkdir(parents=True, exist_ok=True)
    valves, clock = Valves(folder / "valves.json"), MovableClock()
    server_clock = OtherClock(clock)
    audit = AuditLog(folder / "actions.jsonl")
    guard = Guard(audit, limits or ActionLimits(max_per_window=500, max_per_part=500, cooldown_s=0))
    service = ActionService([TurnValve(valves)], audit, guard, server_clock)
    known = Tokens(folder / "tokens.json")
    tokens = {name: known.make(name, given) for name, given in {"responder": ["read", "act"], "ann": ["admin"]}.items()}
    app = create_app(ActionServices(service, known, TargetHealth(NOWHERE), Looks(Plant(folder / "none", NOWHERE))))
    try:
        yield Shop(valves, service, app, tokens, clock, server_clock, OtherClock(clock))
    finally:
        audit.close()


@dataclass
class Watching:
    """A responder that watches a shop."""

    responder: Responder
    world: ResponseContext
    task: asyncio.Task[None]
    database: Database
    _read: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    _read_at: int = -1

    @property
    def log(self) -> IncidentLog:
        """The incident log of the responder."""
        return self.world.log

    def stored(self, read: Callable[[str], Found], name: str) -> Found:
        """Return what a read of the log returns; it is repeated only after a write.

        Conditions are called hundreds of times a second, and nearly always nothing has been written since the last call.
        """
        if not isinstance(self.database, FlakyDatabase) or self.database.is_away:
            return read(name)
        if self._read_at != self.database.writes:
            self._read_at = self.database.writes
            self._read.clear()
        if (read, name) not in self._read:
            self._read[read, name] = read(name)
        found: Found = self._read[read, name]
        return found

    def incidents(self) -> list[Incident]:
        """Return its incidents, the first first."""
        return list(self.stored(self._incidents_of, self.world.target))

    def events(self, incident: Incident) -> list[TimelineEvent]:
        """Return the timeline of an incident."""
        return list(self.stored(self.log.read_after, incident.incident_id))

    def _incidents_of(self, target: str) -> list[Incident]:
        items = self.log.list_incidents(target=target).items
        return [self.log.get(item.incident_id) for item in reversed(items)]

    def story(self) -> str:
        """Return all timelines as text, for a test that fails."""
        events = [event for each in self.incidents() for event in self.events(each)]
        return "\n".join(f"{event.kind}: {event.message}" for event in events)

    def answer(self, incident: Incident, *, approved: bool, by: str = "ann") -> None:
        """Say yes or no, as a person, to the question that was asked last of an incident."""
        question, _ = self.log.approvals.of_incident(incident.incident_id)[-1]
        self.log.approvals.decide(question.approval_id, approved=approved, by=by, now_us=self.world.clock.now_us())

    async def until(self, condition: Callable[[], Found | None], *, within_s: float = 60.0) -> Found:
        """Return the condition's first true value; the responder works meanwhile."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    with contextlib.suppress(DatabaseUnavailableError):
                        value = condition()
                        if value:
                            return value
                    await asyncio.sleep(0.005)
        except TimeoutError as error:
            raise AssertionError(f"it did not come to that:\n{self.story()}") from error


class TickingPoller(Poller):
    """A second passes with each poll."""

    shop: Shop
    may_poll: asyncio.Event

    async def poll(self) -> Snapshot:
        """Advance the clock by a second and poll."""
        await self.may_poll.wait()
        self.shop.clock.move(1.0)
        return await super().poll()


def hasty(policy: Policy, **changed: Any) -> ResponderSettings:
    """Return settings by which a responder polls without a pause; all other durations use its clock."""
    made = settings_for(1.0, policy=policy)
    verification = replace(
        made.verification,
        min_healthy_s=3.0,
        min_quiet_s=6.0,
        min_healthy_polls=3,
        effect_timeout_s=12.0,
        cause_timeout_s=6.0,
        recovery_timeout_s=60.0,
        metrics_window_s=2.0,
        min_worse_s=2.0,
    )
    given: dict[str, Any] = {
        "poll_interval_s": 0.002,
        "verification": verification,
        "approval_valid_s": 600.0,
        **changed,
    }
    return replace(made, **given)


@dataclass
class Means:
    """The environment of any responder: a database, checkpoints, and the transport to the action server.

    Attributes:
        way: of requests to the action server; by default to the shop's own.
        pause: instead of waiting.
    """

    shop: Shop
    database: Database
    saver: BaseCheckpointSaver[Any]
    books: Path
    settings: ResponderSettings
    way: httpx.AsyncBaseTransport | None = None
    target: str = field(default_factory=lambda: f"shop-{next(_names)}")
    may_poll: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_poll.set()

    async def pause(self, _seconds: float) -> None:
        """Give the others a turn."""
        await asyncio.sleep(0.002)


@asynccontextmanager
async def watching(means: Means, name: str = "first") -> AsyncIterator[Watching]:
    """Run a responder; a second start with the same environment continues the first."""
    shop, direct = means.shop, httpx.ASGITransport(means.shop.app)
    shipped = [book.cause for book in shipped_shelf().runbooks]
    knowledge = KnowledgeService(means.database, folder=means.books, home_folder=means.books, without=shipped)
    nothing = httpx.MockTransport(lambda _: httpx.Response(404))
    transports = {ProbeServer.TARGET: httpx.MockTransport(shop.answer), ProbeServer.ACTIONS: nothing}
    asker = ProbeTransport("http://shop", "http://actions", token=shop.tokens["responder"], transports=transports)
    actions = ActionsClient(
        "http://actions", shop.tokens["responder"], HASTE, pause=means.pause, transport=means.way or direct
    )
    probes = {
        probe.name: replace(probe, requests=tuple(replace(ask, pause_s=0.0) for ask in probe.requests))
        for probe in PROBES.values()
    }
    watch = PollState(PollFeed(), Baseline())
    world = ResponseContext(
        means.target, watch, ProbeClient(asker, probes=probes), actions, knowledge, IncidentLog(means.database), shop.clock,
        means.settings, pause=means.pause,
    )  # fmt: skip
    poller = TickingPoller(asker, shop.clock, interval_s=1.0)
    poller.shop, poller.may_poll = shop, means.may_poll
    detector = Detector(means.settings.detection, watch.baseline)
    responder = Responder(world, build_graph(world, means.saver), poller, detector, owner=f"{means.target}:{name}")
    stop = asyncio.Event()
    task = asyncio.create_task(responder.run(stop), name=f"responder {name}")
    try:
        yield Watching(responder, world, task, means.database)
    finally:
        means.may_poll.set()
        stop.set()
        await asyncio.wait([task], timeout=30)
        task.cancel()
        await asyncio.wait([task])


async def learnt(running: Watching) -> None:
    """Wait until it has learnt its baseline."""
    await running.until(lambda: running.world.watch.baseline.is_learnt)


def polled(running: Watching, count: int) -> Callable[[], bool]:
    """Return a condition that is true after so many more polls."""
    polls = running.responder.polls
    return lambda: running.responder.polls > polls + count


def over(running: Watching) -> Callable[[], Incident | None]:
    """Return a function that gives the first incident once it is over."""
    return lambda: next((each for each in running.incidents()[:1] if each.is_over), None)


def with_status(running: Watching, status: IncidentStatus) -> Callable[[], Incident | None]:
    """Return a function that gives the first incident with a status, once there is one."""
    return lambda: next((each for each in running.incidents() if each.status is status), None)


def unknown(means: Means, errors_pct: float) -> None:
    """Let requests fail for a reason that no runbook knows, or end that with 0."""
    shop = means.shop
    shop.lies.clear()
    if errors_pct:
        for path, told in shop.truth().items():
            if "error_rate" in told:
                # It tells no time here, so its figures do not become old.
                timeless = {name: value for name, value in told.items() if name != "timestamp"}
                shop.lies[path] = timeless | {"error_rate": errors_pct}


async def escalated(running: Watching, means: Means, errors_pct: float = 30.0) -> Incident:
    """Have an incident given to people, of a cause that nobody knows."""
    await learnt(running)
    unknown(means, errors_pct)
    return await running.until(with_status(running, IncidentStatus.ESCALATED))
