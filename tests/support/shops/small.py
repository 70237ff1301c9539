"""A small shop and its real responder: target and action server run in this process, with a clock that polls advance.

The action server is the real one; its action turns two valves. A valve in the wrong position makes a dependency of the
target fail. The responder is the real one too, with its database, its graph, its polls and its probes.
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
    """A clock that is `behind_s` seconds behind another clock."""

    clock: MovableClock
    behind_s: float = 0.0

    def now_us(self) -> int:
        """Return the time in microseconds."""
        return self.clock.now_us() - int(self.behind_s * 1_000_000)


@dataclass
class Shop:
    """The target, its valves, and its action server.

    Attributes:
        server_clock: the action server's clock.
        told_clock: the clock of the timestamps that the target reports.
        broken: the valves that make a dependency fail until they are in the right position.
        cure: the right position of a valve.
        unfelt: the valves that make no request fail.
        p95_ms: the P95 latency of requests.
        requests: the number of requests that the figures cover.
        word: the health status that the target reports while no valve is shut.
        lies: responses that replace the true ones, by path; an exception is raised, a function is called.
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
    requests: int = 100
    word: str = "healthy"
    lies: dict[str, Any] = field(default_factory=dict)

    def do(self, who: str, component: str, to: int) -> None:
        """Turn a valve in the name of an actor."""
        self.actions.perform("turn_valve", {"component": component, "to": to}, actor=who)

    def grumble(self, *failing: str) -> None:
        """Make the target report itself as degraded, with failures of unknown dependencies."""
        told = self.truth()[HEALTH]
        # Without a timestamp the numbers do not become stale.
        del told["timestamp"]
        others = {name: {"ok": False} for name in failing}
        self.lies[HEALTH] = told | {"health_status": "degraded", "dependencies": told["dependencies"] | others}

    def failing(self) -> list[str]:
        """Return the broken valves whose position is wrong."""
        stand = self.valves.read()
        return [part for part in sorted(self.broken) if stand.get(part) != self.cure]

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Return the target's response to a request."""
        told = self.lies.get(request.url.path, self.truth().get(request.url.path))
        if callable(told):
            told = told()
        if isinstance(told, Exception):
            raise told
        if isinstance(told, bytes):
            return httpx.Response(200, content=told)
        return httpx.Response(404 if told is None else 200, json=told or {})

    def truth(self) -> dict[str, Any]:
        """Return the true responses of the target, by path."""
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
            "requests": self.requests,
            "requests_per_second": self.requests / 2,
        }
        return {
            HEALTH: health,
            "/api/v1/metrics": metrics,
            "/api/v1/pool/status": {"timestamp": now, "pool_health": "healthy", "utilization_pct": 10.0},
            "/api/v1/logs": {"logs": [], "cursor": "0"},
        }


@contextmanager
def a_shop(folder: Path, limits: ActionLimits | None = None) -> Iterator[Shop]:
    """Yield a healthy shop."""
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
        """Return the result of a read of the log, which is repeated only after a write.

        Conditions are evaluated hundreds of times per second, mostly without a write in between.
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
        """Return the incidents of the target, oldest first."""
        return list(self.stored(self._incidents_of, self.world.target))

    def events(self, incident: Incident) -> list[TimelineEvent]:
        """Return the timeline of an incident."""
        return list(self.stored(self.log.read_after, incident.incident_id))

    def _incidents_of(self, target: str) -> list[Incident]:
        items = self.log.list_incidents(target=target).items
        return [self.log.get(item.incident_id) for item in reversed(items)]

    def story(self) -> str:
        """Return all timelines as text, for the message of a failed test."""
        events = [event for each in self.incidents() for event in self.events(each)]
        return "\n".join(f"{event.kind}: {event.message}" for event in events)

    def answer(self, incident: Incident, *, approved: bool, by: str = "ann") -> None:
        """Approve or deny, as a person, the newest approval request of an incident."""
        question, _ = self.log.approvals.of_incident(incident.incident_id)[-1]
        self.log.approvals.decide(question.approval_id, approved=approved, by=by, now_us=self.world.clock.now_us())

    async def until(self, condition: Callable[[], Found | None], *, within_s: float = 60.0) -> Found:
        """Return the condition's first true value, while the responder runs."""
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
    """A poller that advances the clock by a second with each poll."""

    shop: Shop
    may_poll: asyncio.Event
    is_held: asyncio.Event

    async def poll(self) -> Snapshot:
        """Wait until polls are allowed, advance the clock by a second and poll."""
        if not self.may_poll.is_set():
            self.is_held.set()
        await self.may_poll.wait()
        self.shop.clock.move(1.0)
        return await super().poll()


def hasty(policy: Policy, **changed: Any) -> ResponderSettings:
    """Return settings with which a responder polls without a pause; all other durations use the responder's clock."""
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
    """The environment of a responder: a database, checkpoints, and the transport to the action server.

    Attributes:
        way: the transport to the action server; None for the shop's own.
        may_poll: the responder's next poll waits until it is set.
        is_held: it is set as soon as a poll waits for `may_poll`. From then on, the responder does not renew its lease.
    """

    shop: Shop
    database: Database
    saver: BaseCheckpointSaver[Any]
    books: Path
    settings: ResponderSettings
    way: httpx.AsyncBaseTransport | None = None
    target: str = field(default_factory=lambda: f"shop-{next(_names)}")
    may_poll: asyncio.Event = field(default_factory=asyncio.Event)
    is_held: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_poll.set()

    async def pause(self, _seconds: float) -> None:
        """Give control to the event loop instead of waiting."""
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
    poller.shop, poller.may_poll, poller.is_held = shop, means.may_poll, means.is_held
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
    """Wait until the responder has learnt its baseline."""
    await running.until(lambda: running.world.watch.baseline.is_learnt)


def polled(running: Watching, count: int) -> Callable[[], bool]:
    """Return a condition that is true after more than `count` further polls."""
    polls = running.responder.polls
    return lambda: running.responder.polls > polls + count


def over(running: Watching) -> Callable[[], Incident | None]:
    """Return a function that returns the first incident once it has ended."""
    return lambda: next((each for each in running.incidents()[:1] if each.is_over), None)


def with_status(running: Watching, status: IncidentStatus) -> Callable[[], Incident | None]:
    """Return a function that returns the first incident with this status, once there is one."""
    return lambda: next((each for each in running.incidents() if each.status is status), None)


def unknown(means: Means, errors_pct: float) -> None:
    """Make requests fail for a reason that no runbook covers; 0 ends the failures."""
    shop = means.shop
    shop.lies.clear()
    if errors_pct:
        for path, told in shop.truth().items():
            if "error_rate" in told:
                # Without a timestamp the numbers do not become stale.
                timeless = {name: value for name, value in told.items() if name != "timestamp"}
                shop.lies[path] = timeless | {"error_rate": errors_pct}


async def escalated(running: Watching, means: Means, errors_pct: float = 30.0) -> Incident:
    """Open an incident that no runbook covers and return it once it is escalated."""
    await learnt(running)
    unknown(means, errors_pct)
    return await running.until(with_status(running, IncidentStatus.ESCALATED))
