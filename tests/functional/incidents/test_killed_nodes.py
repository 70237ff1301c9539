"""Kill -9 in each node of the graph, on either database: the next responder finishes the incident once."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from relab.core.clock import SystemClock
from relab.core.errors import NotFoundError
from relab.incidents.actions.policy import SETTLE_TIMEOUT_S, Autonomy
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.detection.baseline import MIN_POLLS
from relab.incidents.response.graph import build_graph
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import EventKind, Incident, IncidentOutcome, IncidentStatus
from relab.incidents.tracing.projection import agent_run_id
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.telemetry.models import AgentRun, RunStatus
from relab.telemetry.service import TelemetryService
from rig.children import Child, child, read_line, send_line
from rig.waiting import wait_until
from support.shops.books import CURE, write_books
from support.shops.served import ServedShop, a_served_shop
from support.storage.migrated import create_migrated, migrate

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

ACTING = ("monitor", "detect", "gather", "diagnose", "investigate", "plan", "execute", "verify", "learn")
AUTONOMY = dict.fromkeys(ACTING, Autonomy.ACT) | {
    "approve": Autonomy.APPROVE, "escalate": Autonomy.OBSERVE, "watch": Autonomy.OBSERVE,
}  # fmt: skip
"""The autonomy for each node with which an incident passes through the node."""
WITHIN = [("execute", "asked"), ("execute", "done"), ("approve", "waits")]
MOMENTS = [*itertools.product(AUTONOMY, ("begins", "ends")), *WITHIN]
BY_PEOPLE = [("approve", "ends"), ("watch", "ends")]
"""The moments that an incident reaches only if people act."""
LEARNT_POLLS = MIN_POLLS + 2
LEASE_S = 20.0
"""Seconds after which the lease of a killed responder has expired."""
_numbers = itertools.count()


@dataclass
class Scene:
    """A shop, its successive responders, and the people who approve and repair.

    Attributes:
        forks: the process that starts responders.
        given: the arguments of each responder.
        is_at_work: whether a responder has not ended yet.
    """

    served: ServedShop
    database: Database
    forks: Child
    given: dict[str, str]
    is_at_work: bool = False
    log: IncidentLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = IncidentLog(self.database)
        clock = SystemClock()
        self.telemetry = TelemetryService(self.database, clock, JobQueue(self.database, clock, EmbeddedBackend()))

    @contextmanager
    def responder(self, node: str = "", moment: str = "") -> Iterator[int]:
        """Start a responder and yield its process id; kill it at the end of the block if it still runs."""
        send_line(self.forks, json.dumps({**self.given, "node": node, "moment": moment}))
        pid = int(self._heard())
        try:
            yield pid
        finally:
            # The next responder can start only when this one has ended, also after a failed test.
            while self.is_at_work:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._heard()

    def told(self, line: str) -> None:
        """Check that the next line of a responder is this one."""
        assert self._heard() == line

    def _heard(self) -> str:
        line = read_line(self.forks)
        self.is_at_work = not line.startswith("ended")
        return line

    def only(self) -> Incident:
        """Return the only incident of the target."""
        (found,) = self.log.list_incidents(target=self.given["target"]).items
        return self.log.get(found.incident_id)

    def people(self) -> IncidentStatus | None:
        """Approve a request or repair an escalated incident; return the incident's earlier status, else None."""
        found = self.log.current(self.given["target"])
        if found is None:
            return None
        if found.status is IncidentStatus.ESCALATED:
            self.served.shop.broken.clear()
            return found.status
        now_us = self.served.clock.now_us()
        for request in self.log.approvals.pending(now_us=now_us, target=found.target):
            self.log.approvals.decide(request.approval_id, approved=True, by="ann", now_us=now_us)
            return found.status
        return None

    def is_over(self) -> bool:
        """Return whether the incident has ended, also in telemetry; approve and repair meanwhile."""
        self.people()
        found = self.only()
        with suppress(NotFoundError):
            return found.is_over and self.run_of(found).ended_at is not None
        return False

    def run_of(self, incident: Incident) -> AgentRun:
        """Return the agent run of an incident."""
        return self.telemetry.load(agent_run_id(incident.incident_id))[0]

    def story(self) -> str:
        """Return the timeline, for the output of a failed test."""
        return "\n".join(f"{event.kind}: {event.message}" for event in self.log.read_after(self.only().incident_id))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def module_scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("killed")
    url = f"sqlite:///{home / 'relab.db'}"
    if request.param == "postgres":
        url = create_migrated(request.getfixturevalue("postgres"), f"killed_{os.getpid()}")
    database = Database.open(url)
    migrate(database)
    with a_served_shop(home / "shop") as served, child("support.shops.standing_child") as forks:
        given = {
            "database": url, "home": str(home), "books": str(write_books(home / "books")), "url": served.url,
            "clock": str(home / "shop" / "clock"), "token": served.shop.tokens["responder"],
        }  # fmt: skip
        yield Scene(served, database, forks, given)
    database.close()


@pytest.fixture
def scene(module_scene: Scene) -> Scene:
    module_scene.served.reset()
    module_scene.given["target"] = f"shop-{next(_numbers)}"
    return module_scene


def gone_through(scene: Scene, node: str, moment: str, *, away_s: float) -> Incident:
    """Kill a responder in a node, start another one after `away_s` seconds, and return the incident that has ended."""
    scene.given["autonomy"] = AUTONOMY[node]
    with scene.responder(node, moment) as pid:
        wait_until(lambda: scene.served.polls >= LEARNT_POLLS, what="polls of a shop with which all is well")
        scene.served.shop.broken.add("a")
        if (node, moment) in BY_PEOPLE:
            wait_until(scene.people, what="people to be asked")
        scene.told("there")
        # Closing the incident is its last step, at the end of `learn`.
        assert scene.only().is_over == ((node, moment) == ("learn", "ends"))
        os.kill(pid, signal.SIGKILL)
        scene.told("ended -9")
    scene.served.clock.move(away_s)
    with scene.responder():
        try:
            wait_until(scene.is_over, what="the end of the incident")
        finally:
            print(scene.story())
        send_line(scene.forks, "stop")
        scene.told("ended 0")
    return scene.only()


@pytest.mark.parametrize(("node", "moment"), [pytest.param(*each, id="-".join(each)) for each in MOMENTS])
def test_started_action_is_finished_and_not_repeated_after_a_kill(scene: Scene, node: str, moment: str) -> None:
    ended = gone_through(scene, node, moment, away_s=LEASE_S)
    if AUTONOMY[node] is Autonomy.OBSERVE:
        was_handed_over(scene, ended)
    else:
        was_mended(scene, ended)


def test_action_that_never_started_is_planned_again(scene: Scene) -> None:
    ended = gone_through(scene, "execute", "asked", away_s=SETTLE_TIMEOUT_S + LEASE_S)
    lost, done = scene.log.actions.of_incident(ended.incident_id)
    assert ended.outcome == IncidentOutcome.RESOLVED
    assert lost.status == ActionStatus.REFUSED
    assert done.effect == RepairResult.VERIFIED
    assert scene.served.keys == [done.key]
    assert scene.served.done == [done.key]


def was_mended(scene: Scene, ended: Incident) -> None:
    """Check in the server, the timeline and the agent run that one action has repaired the fault."""
    (act,) = scene.log.actions.of_incident(ended.incident_id)
    assert ended.outcome == IncidentOutcome.RESOLVED
    assert ended.diagnosis == "valve_a_shut"
    assert act.status == ActionStatus.SUCCEEDED
    assert act.effect == RepairResult.VERIFIED
    assert scene.served.shop.valves.read() == {"a": CURE}
    assert scene.served.keys == [act.key]
    assert scene.served.done == [act.key]
    assert scene.served.undos == []
    assert [event["act"]["key"] for event in events(scene, ended, EventKind.ACT_ASKED)] == [act.key]
    assert [len(events(scene, ended, kind)) for kind in ("planned", "verified")] == [1, 1]
    assert len(scene.log.approvals.of_incident(ended.incident_id)) == (scene.given["autonomy"] == Autonomy.APPROVE)
    run = scene.run_of(ended)
    assert run.status is RunStatus.SUCCESS
    assert [call.tool_name for call in run.tool_calls if not call.tool_name.startswith("look:")] == [act.action]


def was_handed_over(scene: Scene, ended: Incident) -> None:
    """Check that each diagnosis of the incident was escalated once, that no action was executed, and that its end was detected."""
    assert ended.outcome == IncidentOutcome.PASSED
    assert events(scene, ended, EventKind.ACT_ASKED) == []
    assert scene.served.keys == []
    assert scene.served.done == []
    assert scene.served.undos == []
    # A second signal of the fault may arrive after the diagnosis; each further diagnosis is escalated once, too.
    assert len(events(scene, ended, "escalated")) == 1 + len(events(scene, ended, "looks_again"))
    assert scene.run_of(ended).status is not RunStatus.SUCCESS


def events(scene: Scene, incident: Incident, kind: str) -> list[Any]:
    return [event.content for event in scene.log.read_after(incident.incident_id) if event.kind == kind]


def test_every_node_of_the_graph_has_a_case() -> None:
    world: Any = None
    assert set(AUTONOMY) == set(build_graph(world).nodes) - {"__start__"}
