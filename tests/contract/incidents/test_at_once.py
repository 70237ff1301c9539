"""Concurrent processes on one target: one open incident, one decision, one lease, and a timeline without gaps."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select

from relab.incidents.actions.approvals import ApprovalDecidedError, Decision
from relab.incidents.actions.records import ActionStatus
from relab.incidents.models import Severity
from relab.incidents.storage import repository
from relab.incidents.storage.actions import StoredAction
from relab.incidents.storage.errors import ActionConflictError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentOutcome, Lease, NewEvent, Opened
from relab.incidents.storage.tables import IncidentRow
from relab.storage import Database
from support.incidents.acts import NOW_US
from support.incidents.logs import SECOND_US, anomaly, asked, at_once, opened, question

SEVERAL = 6


def test_one_of_several_openers_opens_and_the_others_join(log: IncidentLog, log_url: str, target: str) -> None:
    def open_one(number: int) -> Callable[[IncidentLog], Opened]:
        return lambda own: own.open(
            target, at_us=NOW_US, title=str(number), severity=Severity.WARNING, anomalies=[anomaly(f"s{number}")]
        )

    found = at_once(log_url, [open_one(number) for number in range(SEVERAL)])

    assert [each.created for each in found].count(True) == 1
    assert len({each.incident.incident_id for each in found}) == 1
    current = log.current(target)
    assert current is not None
    assert {each.signal for each in current.findings} == {f"s{number}" for number in range(SEVERAL)}
    assert [event.seq for event in log.read_after(current.incident_id)] == list(range(1, SEVERAL + 1))


def test_database_constraint_prevents_a_second_open_incident(
    log: IncidentLog, log_database: Database, target: str
) -> None:
    incident = opened(log, target)
    with log_database.write() as unit:
        row = repository.get(unit.session, incident.incident_id)
        assert row is not None
        second = {**row._mapping, "incident_id": f"{target}-second"}
        assert not repository.add_open(unit.session, second)
    with log_database.read() as session:
        of_target = select(func.count()).select_from(IncidentRow).where(IncidentRow.target == target)
        assert session.execute(of_target).scalar_one() == 1


def test_concurrent_opening_and_closing_loses_no_incident_and_no_event(
    log: IncidentLog, log_url: str, target: str
) -> None:
    def go_on(own: IncidentLog) -> list[Incident]:
        seen = []
        for number in range(5):
            made = own.open(target, at_us=NOW_US + number, title="Errors", severity=Severity.WARNING)
            seen.append(own.close(made.incident.incident_id, at_us=NOW_US + number, outcome=IncidentOutcome.PASSED))
        return seen

    found = at_once(log_url, [go_on] * 4)

    assert log.current(target) is None
    known = {item.incident_id for item in log.list_incidents(target=target, limit=100).items}
    assert known == {incident.incident_id for seen in found for incident in seen}
    for incident_id in known:
        assert [event.kind for event in log.read_after(incident_id)] == ["opened", "closed"]


def test_events_of_concurrent_writers_are_numbered_without_gaps(log: IncidentLog, log_url: str, target: str) -> None:
    incident_id = opened(log, target).incident_id

    def tell(name: str) -> Callable[[IncidentLog], list[int]]:
        def work(own: IncidentLog) -> list[int]:
            events = [NewEvent("looked", name, once=f"{number}") for number in range(8)]
            return [own.append(incident_id, event, at_us=NOW_US)[0].seq for event in events]

        return work

    found = at_once(log_url, [tell(f"w{number}") for number in range(4)])

    assert [event.seq for event in log.read_after(incident_id)] == list(range(1, 10))
    assert found == [list(range(2, 10))] * 4, "each thing is told once, and all are told where"


def test_one_of_several_writers_of_an_action_creates_it(log: IncidentLog, log_url: str, target: str) -> None:
    act = asked(opened(log, target).incident_id)

    def put(own: IncidentLog) -> StoredAction:
        return own.actions.put(act)

    found = at_once(log_url, [put] * SEVERAL)

    assert [each.created for each in found].count(True) == 1
    assert {each.act.key for each in found} == {act.key}
    assert len(log.read_after(act.incident_id)) == 2


def test_one_of_several_results_of_an_action_is_stored(log: IncidentLog, log_url: str, target: str) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)

    def finish(status: ActionStatus) -> Callable[[IncidentLog], ActionStatus | None]:
        def work(own: IncidentLog) -> ActionStatus | None:
            try:
                return own.actions.finish(act.key, status, at_us=NOW_US).status
            except ActionConflictError:
                return None

        return work

    found = at_once(log_url, [finish(status) for status in (ActionStatus.SUCCEEDED, ActionStatus.FAILED) * 3])

    held = {status for status in found if status is not None}
    assert held == {log.actions.get(act.key).status}
    assert found.count(None) == 3


def test_first_of_several_decisions_counts_and_a_rejection_is_never_lost(
    log: IncidentLog, log_url: str, target: str
) -> None:
    request = log.approvals.request(question(opened(log, target).incident_id, f"{target}-q"))

    def decide(name: str, approved: bool) -> Callable[[IncidentLog], Decision | None]:
        def work(own: IncidentLog) -> Decision | None:
            try:
                return own.approvals.decide(request.approval_id, approved=approved, by=name, now_us=NOW_US)
            except ApprovalDecidedError:
                return None

        return work

    at_once(log_url, [decide(f"w{number}", number % 2 == 0) for number in range(SEVERAL)])

    decision = log.approvals.get(request.approval_id)[1]
    assert decision is not None
    assert not decision.approved
    told = [event for event in log.read_after(request.incident_id) if event.kind == "approval_decided"]
    assert told[-1].content["decision"]["by"] == decision.by
    assert len(told) in {1, 2}, "a no, or a yes and the first no after it"


def test_equal_concurrent_decisions_are_stored_once(log: IncidentLog, log_url: str, target: str) -> None:
    request = log.approvals.request(question(opened(log, target).incident_id, f"{target}-q"))

    def decide(name: str) -> Callable[[IncidentLog], Decision]:
        return lambda own: own.approvals.decide(request.approval_id, approved=True, by=name, now_us=NOW_US)

    found = at_once(log_url, [decide(f"w{number}") for number in range(SEVERAL)])

    assert len({decision.by for decision in found}) == 1
    assert [event.kind for event in log.read_after(request.incident_id)][2:] == ["approval_decided"]


def test_one_of_several_candidates_gets_the_lease(log: IncidentLog, log_url: str, target: str) -> None:
    def take(name: str) -> Callable[[IncidentLog], Lease | None]:
        return lambda own: own.leases.take(target, name, now_us=NOW_US, until_us=NOW_US + SECOND_US)

    for round_ in range(3):
        found = at_once(log_url, [take(f"{round_}-{number}") for number in range(SEVERAL)])
        held = [lease for lease in found if lease is not None]
        assert len(held) == 1
        assert held[0].term == round_ + 1
        log.leases.release(target, held[0].owner)


class IncidentMachine(RuleBasedStateMachine):
    """Incidents of a few targets open and close in random order; a simple model predicts the open ones and events."""

    log: IncidentLog
    prefix: str
    games = 0

    def __init__(self) -> None:
        super().__init__()
        IncidentMachine.games += 1
        self.open: dict[str, str] = {}
        self.told: dict[str, int] = {}
        self.now = NOW_US

    def name(self, letter: str) -> str:
        """Return the target's name for a letter, unique to this run of the machine."""
        return f"{self.prefix}-{IncidentMachine.games}-{letter}"

    @rule(letter=st.sampled_from("ab"))
    def open_one(self, letter: str) -> None:
        self.now += 1
        target = self.name(letter)
        made = self.log.open(target, at_us=self.now, title="t", severity=Severity.WARNING)
        assert made.created == (target not in self.open)
        if made.created:
            self.open[target] = made.incident.incident_id
            self.told[made.incident.incident_id] = 1
        assert self.open[target] == made.incident.incident_id

    @rule(letter=st.sampled_from("ab"), events=st.integers(0, 3))
    def tell(self, letter: str, events: int) -> None:
        incident_id = self.open.get(self.name(letter))
        if incident_id is not None:
            self.log.append(incident_id, *[NewEvent("looked")] * events, at_us=self.now)
            self.told[incident_id] += events

    @rule(letter=st.sampled_from("ab"))
    def close(self, letter: str) -> None:
        incident_id = self.open.pop(self.name(letter), None)
        if incident_id is not None:
            self.log.close(incident_id, at_us=self.now, outcome=IncidentOutcome.PASSED)
            self.told[incident_id] += 1

    @invariant()
    def the_log_knows_what_the_model_knows(self) -> None:
        for letter in "ab":
            current = self.log.current(self.name(letter))
            assert (current and current.incident_id) == self.open.get(self.name(letter))
        assert self.log.latest_seqs(self.told) == self.told


def test_incidents_agree_with_a_simple_model(log: IncidentLog, target: str) -> None:
    IncidentMachine.log, IncidentMachine.prefix = log, target
    run_state_machine_as_test(IncidentMachine, settings=settings(max_examples=8, stateful_step_count=12, deadline=None))
