"""Random failures of the action server, the database, the clock and the responder: the rules for actions always hold.

A storm is a list of moves; each request to the action server takes the next one. The test checks the rules at each
action request, and again after the storm.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentStatus
from support.shops.books import CURE, write_books
from support.shops.small import RUIN, Means, Watching, a_shop, hasty, learnt, watching
from support.shops.ways import GoOn, Way, cut, is_act, is_undo, key_of, lie, lost, said
from support.storage.flaky_databases import FlakyDatabase, FlakySaver

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

MAX_ACTIONS = 2
STAYS_AWAY_POLLS = 12
ANSWERS = {
    "garbage": (200, b"\xff\xfe"),
    "another record": (200, {"ok": True, "record": {"record_id": "1", "action": "x", "actor": "y", "target": "z"}}),
    "error": (500, b""),
    "redirect": (302, b""),
    "busy": (409, {"code": "in_progress"}),
    "too many": (429, {"code": "too_many"}),
    "denied": (403, {"code": "forbidden"}),
    "refused": (409, {"code": "precondition_failed"}),
    "stopped": (503, {"code": "stopped"}),
}
DOINGS = ["pause", "resume", "stop server", "start server", "operator", "database away", "leap", "leap back"]
TO_THE_ACT = ["pass"] * 8
"""The requests of a responder before its action: one at the start, four to plan, three for the last check."""
WAYS = ["unreachable", "lost", "pause and lose", "cut", "lie", "kill", "kill after"]
MOVES = st.lists(st.sampled_from(["pass", "pass", "pass", *ANSWERS, *DOINGS, *WAYS]), max_size=45)
_numbers = itertools.count()


@dataclass
class Storm:
    """Applies moves to requests, and checks the rules for actions.

    Attributes:
        is_killed: whether the current responder is to be killed and replaced by another one.
        broken: the rules that did not hold.
    """

    means: Means
    database: FlakyDatabase
    moves: list[str]
    answers: list[bool]
    is_killed: bool = False
    broken: list[str] = field(default_factory=list)
    asked: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = IncidentLog(self.database)

    async def meet(self, request: httpx.Request, go_on: GoOn) -> httpx.Response:
        """Check a request, and apply the next move to it."""
        if self.is_killed:
            # The process that sends this request counts as killed.
            await asyncio.Event().wait()
        if is_act(request) or is_undo(request):
            self._check(request)
        move = self.moves.pop(0) if self.moves else "pass"
        if move in ANSWERS:
            return said(*ANSWERS[move])
        if move == "unreachable":
            raise httpx.ConnectError("nobody is there")
        if move == "pause and lose":
            self._do("pause")
            return await lost(request, go_on)
        if move in {"lost", "cut", "lie"}:
            ways = {"lost": lost, "cut": cut, "lie": lie if is_act(request) else lost}
            return await ways[move](request, go_on)
        if move in {"kill", "kill after"}:
            if move == "kill after":
                await go_on()
            self.is_killed = True
            await asyncio.Event().wait()
        self._do(move)
        return await go_on()

    def _do(self, move: str) -> None:
        shop, target, now_us = self.means.shop, self.means.target, self.means.shop.clock.now_us()
        if move == "database away":
            self.database.is_away = True
        elif move in {"leap", "leap back"}:
            shop.clock.move(7_200 if move == "leap" else -7_200)
        elif move == "operator":
            shop.do("ann", "b", 1 + shop.valves.read().get("b", 0) % 2)
        elif move in {"stop server", "start server"}:
            shop.actions.switch(stopped=move == "stop server", by="ada")
        elif move in {"pause", "resume"} and not self.database.is_away:
            switch = self.log.switches.pause if move == "pause" else self.log.switches.resume
            switch(target, by="ada", at_us=now_us)

    def _check(self, request: httpx.Request) -> None:
        """Check the rules for the request of an action or of an undo."""
        away, self.database.is_away = self.database.is_away, False
        try:
            self._rule(not self.log.switches.state(self.means.target).is_paused, "asked for while paused")
            if is_undo(request):
                record_id = request.url.path.split("/")[-2]
                acts = self.log.actions.of_target(self.means.target, since_us=0)
                self._rule(any(act.undoes == record_id for act in acts), "an undo that is not written down")
                return
            act = self.log.actions.get(key_of(request))
            self._rule(act.status == "asked", f"asked for again though it is {act.status}")
            self.asked.setdefault(f"{act.incident_id} {act.tried}", set()).add(act.key)
            if self.means.settings.policy.autonomy is Autonomy.APPROVE:
                self._rule(act.approved_by == "ada", "asked for without an approval")
        finally:
            self.database.is_away = away

    def check_all(self) -> None:
        """Check the rules after the storm."""
        acts = self.log.actions.of_target(self.means.target, since_us=0)
        for incident_id, count in Counter(act.incident_id for act in acts if act.counts).items():
            self._rule(count <= MAX_ACTIONS, f"{count} acts for {incident_id}")
        # An action that certainly did not start may be requested once more under another key.
        begun = {act.key for act in acts if act.counts}
        self._rule(all(len(keys & begun) <= 1 for keys in self.asked.values()), f"the same by two keys: {self.asked}")
        keys = Counter(record.key for record in self.means.shop.actions.audit.newest(500) if record.key)
        self._rule(all(count == 1 for count in keys.values()), f"done more than once: {keys}")
        known = {act.key for act in acts}
        self._rule(keys.keys() <= known, "done without being written down")

    def _rule(self, holds: bool, said_: str) -> None:
        if not holds:
            self.broken.append(said_)

    def calm(self) -> None:
        """End the storm: make all parts available again, and turn off the kill switches."""
        self.moves.clear()
        self.database.is_away = False
        self.means.shop.actions.switch(stopped=False, by="ada")
        self.log.switches.resume(self.means.target, by="ada", at_us=self.means.shop.clock.now_us())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storms")


def with_people(running: Watching, storm: Storm) -> Callable[[], Incident | bool | None]:
    """Return a check whether the responder is killed or all incidents have ended; it answers requests as people do."""
    away_since = -1

    def found() -> Incident | bool | None:
        nonlocal away_since
        if storm.is_killed:
            return True
        if storm.database.is_away:
            away_since = running.responder.polls if away_since < 0 else away_since
            if running.responder.polls > away_since + STAYS_AWAY_POLLS:
                storm.database.is_away, away_since = False, -1
            return None
        now_us = running.world.clock.now_us()
        for request in running.log.approvals.pending(now_us=now_us, target=running.world.target):
            approved = storm.answers.pop(0) if storm.answers else False
            running.log.approvals.decide(request.approval_id, approved=approved, by="ada", now_us=now_us)
        incidents = running.incidents()
        ended = [each for each in incidents if each.is_over or each.status is IncidentStatus.ESCALATED]
        return incidents[-1] if incidents and len(ended) == len(incidents) else None

    return found


async def weather(storm: Storm, means: Means) -> None:
    """Run a storm over a shop, and check the rules."""
    is_broken = False
    for number in itertools.count():
        async with watching(means, f"responder {number}") as running:
            if not is_broken:
                await learnt(running)
                means.shop.broken.add("a")
                is_broken = True
            await running.until(with_people(running, storm), within_s=120)
            storm.database.is_away = False
        if not storm.is_killed:
            break
        storm.is_killed = False
    storm.calm()
    means.shop.broken.clear()
    means.shop.valves.path.unlink(missing_ok=True)
    async with watching(means, "last") as running:
        await running.until(lambda: running.log.current(means.target) is None)
    storm.check_all()
    assert storm.broken == []


@settings(max_examples=20, derandomize=True, suppress_health_check=list(HealthCheck))
@example([*TO_THE_ACT, "kill after"], [], Autonomy.ACT, CURE)
@example([*TO_THE_ACT, "kill", "pause"], [], Autonomy.ACT, CURE)
@example([*TO_THE_ACT, "pause and lose"], [], Autonomy.ACT, CURE)
@example([*TO_THE_ACT[1:], "pause"], [], Autonomy.ACT, CURE)
@example([*TO_THE_ACT[1:], "pause"], [True], Autonomy.APPROVE, CURE)
@example([*TO_THE_ACT, "cut", "leap"], [], Autonomy.ACT, RUIN)
@given(
    MOVES,
    st.lists(st.booleans(), max_size=4),
    st.sampled_from([Autonomy.ACT, Autonomy.ACT, Autonomy.APPROVE]),
    st.sampled_from([CURE, CURE, RUIN, 5]),
)
def test_rules_for_actions_hold_in_any_storm(
    folder: Path, flaky: FlakyDatabase, moves: list[str], answers: list[bool], autonomy: Autonomy, turn: int
) -> None:
    place = folder / str(next(_numbers))
    policy = Policy(autonomy=autonomy, cooldown_s=0.0, max_actions_per_incident=MAX_ACTIONS)
    flaky.is_away = False
    with a_shop(place / "shop") as shop:
        way = Way(shop.app)
        books = write_books(place / "books", [turn])
        means = Means(shop, flaky, FlakySaver(flaky), books, replace(hasty(policy), max_stand_downs=3), way=way)
        storm = Storm(means, flaky, list(moves), list(answers))
        way.meet = storm.meet
        asyncio.run(weather(storm, means))
