"""Incidents: stored and read back, at most one open per target, updated, closed, listed, cut and deleted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.errors import IncidentNotFoundError, IncidentOverError, InvalidIncidentCursorError
from relab.incidents.storage.log import MAX_DOCUMENT_BYTES, IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, NewEvent, Phase
from support.incidents.acts import NOW_US
from support.incidents.logs import SECOND_US, anomaly, asked, opened, question

_numbers = itertools.count()


def test_new_incident_is_open_and_has_its_findings(log: IncidentLog, target: str) -> None:
    made = log.open(
        target, at_us=NOW_US, title="Errors rise", severity=Severity.WARNING, anomalies=[anomaly(), anomaly("pool")]
    )

    incident = made.incident
    assert made.created
    assert incident.status == IncidentStatus.OPEN
    assert incident.phase == Phase.DETECT
    assert incident.title == "Errors rise"
    assert incident.severity == Severity.DEGRADED, "as bad as the worst finding"
    assert incident.opened_at == NOW_US
    assert incident.closed_at is None
    assert incident.outcome is None
    assert [each.anomaly for each in incident.findings] == [anomaly(), anomaly("pool")]
    assert log.get(incident.incident_id) == incident == log.current(target)


def test_finding_has_the_worst_value_in_the_direction_in_which_the_signal_is_off(log: IncidentLog, target: str) -> None:
    def add(value: float, expected: float = 1.0) -> tuple[float | None, float | None]:
        given = anomaly(value=value, expected=expected)
        made = log.open(target, at_us=NOW_US, title="Errors", severity=Severity.DEGRADED, anomalies=[given])
        (finding,) = made.incident.findings
        return finding.anomaly.value, finding.worst.value

    assert add(60.0) == (60.0, 60.0)
    assert add(90.0) == (90.0, 90.0)
    assert add(30.0) == (30.0, 90.0)
    assert add(20.0, 50.0) == (20.0, 20.0)
    assert add(25.0, 50.0) == (25.0, 20.0)


def test_later_finding_joins_the_open_incident(log: IncidentLog, target: str) -> None:
    first = opened(log, target)
    later = NOW_US + SECOND_US
    worse = anomaly(severity=Severity.CRITICAL, value=90.0)

    second = log.open(
        target, at_us=later, title="Something else", severity=Severity.WARNING, anomalies=[worse, anomaly("pool")]
    )

    assert not second.created
    assert second.incident.incident_id == first.incident_id
    assert second.incident.title == "Errors"
    assert second.incident.severity == Severity.CRITICAL
    found = [(each.signal, each.value, each.count, each.first_at, each.last_at) for each in second.incident.findings]
    assert found == [("errors.pct", 90.0, 2, NOW_US, later), ("pool", 60.0, 1, later, later)]
    told = [event.kind for event in log.read_after(first.incident_id)]
    assert told == ["opened", "finding", "finding"]
    log.open(target, at_us=later, title="Again", severity=Severity.WARNING, anomalies=[worse])
    assert len(log.read_after(first.incident_id)) == 3, "the same once more is counted and not told"
    for severity in (Severity.WARNING, Severity.CRITICAL) * 3:
        log.open(target, at_us=later, title="Again", severity=severity, anomalies=[anomaly(severity=severity)])
    assert len(log.read_after(first.incident_id)) == 3, "what wavers is told of at its worst"


def test_another_target_and_a_later_time_have_incidents_of_their_own(log: IncidentLog, target: str) -> None:
    first = opened(log, target)
    other = opened(log, f"{target}-other")
    log.close(first.incident_id, at_us=NOW_US + 5, outcome=IncidentOutcome.PASSED)
    again = opened(log, target, at_us=NOW_US + 6)

    assert len({first.incident_id, other.incident_id, again.incident_id}) == 3
    current = log.current(target)
    assert current is not None
    assert current.incident_id == again.incident_id


def test_update_changes_only_the_named_fields(log: IncidentLog, target: str) -> None:
    incident = opened(log, target)
    symptoms = {"errors.pct": 60.5, "pool": "critical", "list": [1, None, True], "odd": {"é": "\u2028"}}

    changed = log.update(
        incident.incident_id,
        at_us=NOW_US + 1,
        phase=Phase.DIAGNOSE,
        diagnosis="connection_pool_leak",
        probability=0.93,
        symptoms=symptoms,
        plan={"action": "restart-worker"},
        content={"thread": "t-1"},
    )
    assert changed.phase == Phase.DIAGNOSE
    assert changed.diagnosis == "connection_pool_leak"
    assert changed.probability == 0.93
    assert changed.symptoms == symptoms
    assert changed.plan == {"action": "restart-worker"}
    assert changed.content == {"thread": "t-1"}

    later = log.update(incident.incident_id, at_us=NOW_US + 2, recommendation="Look at the deploy.", plan=None)
    assert later.plan is None
    assert later.recommendation == "Look at the deploy."
    assert later.symptoms == symptoms
    assert later.updated_at == NOW_US + 2
    assert later.opened_at == NOW_US
    assert log.get(incident.incident_id) == later


def test_change_of_phase_or_status_adds_an_event_unless_the_caller_gives_one(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    log.update(incident_id, at_us=NOW_US, phase=Phase.ESCALATE, status=IncidentStatus.ESCALATED)
    log.update(incident_id, at_us=NOW_US, phase=Phase.ESCALATE)
    log.update(incident_id, at_us=NOW_US, phase=Phase.VERIFY, events=[NewEvent("looked", "It looks better.")])

    told = [(event.kind, event.message) for event in log.read_after(incident_id)][1:]
    assert told == [
        ("phase", "The phase changed from detect to escalate."),
        ("status", "The status changed from open to escalated."),
        ("looked", "It looks better."),
    ]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (IncidentOutcome.RESOLVED, IncidentStatus.RESOLVED),
        (IncidentOutcome.ESCALATED, IncidentStatus.CLOSED),
        (IncidentOutcome.PASSED, IncidentStatus.CLOSED),
        (IncidentOutcome.DISMISSED, IncidentStatus.CLOSED),
        (IncidentOutcome.CLOSED_BY_PERSON, IncidentStatus.CLOSED),
    ],
)
def test_end_of_an_incident_is_final(
    log: IncidentLog, target: str, outcome: IncidentOutcome, status: IncidentStatus
) -> None:
    incident_id = opened(log, target).incident_id

    closed = log.close(incident_id, at_us=NOW_US + 9, outcome=outcome, message="Well again.", content={"polls": 6})

    assert closed.status == status
    assert closed.outcome == outcome
    assert closed.closed_at == NOW_US + 9
    assert closed.is_over is True
    last = log.read_after(incident_id)[-1]
    assert last.message == "Well again."
    assert last.content == {"polls": 6, "outcome": outcome}
    assert last.is_terminal is True
    assert log.current(target) is None
    again = log.close(incident_id, at_us=NOW_US + 99, outcome=IncidentOutcome.DISMISSED)
    assert again == closed, "the first end holds, also for a node that runs twice"
    with pytest.raises(IncidentOverError):
        log.update(incident_id, at_us=NOW_US + 10, phase=Phase.EXECUTE)
    with pytest.raises(IncidentOverError):
        log.update(incident_id, at_us=NOW_US + 10, status=IncidentStatus.OPEN)
    with pytest.raises(IncidentOverError):
        log.actions.put(asked(incident_id))
    with pytest.raises(IncidentOverError):
        log.approvals.request(question(incident_id, f"q-{incident_id}"))
    noted = log.update(incident_id, at_us=NOW_US + 11, content={"postmortem": "…"})
    assert noted.content == {"postmortem": "…"}


def test_incident_ends_only_by_closing(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id

    with pytest.raises(ValueError, match="by closing it"):
        log.update(incident_id, at_us=NOW_US, status=IncidentStatus.RESOLVED)
    with pytest.raises(ValueError, match="close the incident"):
        log.append(incident_id, NewEvent("closed"), at_us=NOW_US)
    with pytest.raises(ValueError, match="is not a kind of event"):
        NewEvent("Not A Kind")
    assert log.get(incident_id).status is IncidentStatus.OPEN


@pytest.mark.parametrize("incident_id", ["none", "", "\x00", "\ud800", "x" * 1_000, "ü", "a\nb"])
def test_unknown_incident_is_not_found(log: IncidentLog, incident_id: str) -> None:
    with pytest.raises(IncidentNotFoundError):
        log.get(incident_id)
    with pytest.raises(IncidentNotFoundError):
        log.update(incident_id, at_us=NOW_US)
    with pytest.raises(IncidentNotFoundError):
        log.close(incident_id, at_us=NOW_US, outcome=IncidentOutcome.PASSED)
    with pytest.raises(IncidentNotFoundError):
        log.append(incident_id, NewEvent("looked"), at_us=NOW_US)
    assert log.read_after(incident_id) == []
    assert log.latest_seqs([incident_id]) == {}
    assert log.actions.of_incident(incident_id) == []
    assert log.approvals.of_incident(incident_id) == []


def test_pages_go_through_all_incidents_newest_first(log: IncidentLog, target: str) -> None:
    made = []
    for at in (5, 1, 3, 3, 9):
        incident = opened(log, target, at_us=NOW_US + at)
        made.append(log.close(incident.incident_id, at_us=NOW_US + 20, outcome=IncidentOutcome.PASSED))
    made.append(opened(log, target, at_us=NOW_US))

    found, cursor = [], None
    while True:
        page = log.list_incidents(target=target, cursor=cursor, limit=2)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break

    assert [item.opened_at - NOW_US for item in found] == [9, 5, 3, 3, 1, 0]
    assert {item.incident_id for item in found} == {incident.incident_id for incident in made}
    one = next(item for item in found if item.incident_id == made[0].incident_id)
    assert made[0].model_dump().items() >= one.model_dump().items()
    still = log.list_incidents(target=target, statuses=[IncidentStatus.OPEN, IncidentStatus.ESCALATED])
    assert [item.incident_id for item in still.items] == [made[-1].incident_id]


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", "-1.a", "1.\x00", "99999999999999999999.a", "1.\ud800"])
def test_invalid_cursor_is_rejected(log: IncidentLog, cursor: str) -> None:
    with pytest.raises(InvalidIncidentCursorError):
        log.list_incidents(cursor=cursor)


TEXT = st.text(st.characters(), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=15)
@given(words=st.lists(TEXT, min_size=4, max_size=4), document=st.dictionaries(TEXT, JSON, max_size=4))
@example(words=["\x00", "\ud800", "\udc00\ud800", "\ud83d\ude00"], document={"\x00": "\udfff", "n": float("nan")})
@example(words=["x" * 10_000] * 4, document={"big": 10**400, "inf": float("-inf"), "deep": [[[[[]]]]]})
def test_any_external_text_can_be_stored(log: IncidentLog, words: list[str], document: dict[str, object]) -> None:
    name, title, message, detail = words
    target = f"{next(_numbers)}-{name}"
    made = log.open(
        target,
        at_us=NOW_US,
        title=title,
        severity=Severity.WARNING,
        anomalies=[anomaly(detail, detail=detail, value=float("nan"), expected=float("inf"))],
    )
    incident_id = made.incident.incident_id
    changed = log.update(
        incident_id, at_us=NOW_US, title=title, diagnosis=detail, probability=float("nan"), symptoms=document,
        recommendation=message, content=document,
        events=[NewEvent("looked", message, document, evidence=[detail] * 300, once=detail)],
    )  # fmt: skip
    log.append(incident_id, NewEvent("looked", "again", once=detail), at_us=NOW_US)

    assert log.get(incident_id) == changed
    assert changed.probability is None
    assert log.current(target) == changed, "a name of any kind finds it again"
    event = log.read_after(incident_id, 1)[0]
    assert changed.last_seq == event.seq == 2, "told once"
    assert event.content == changed.symptoms
    assert len(event.message) <= 2_000
    assert len(event.evidence) == 201
    assert len(changed.title) <= 300
    assert changed.model_dump_json()
    log.close(incident_id, at_us=NOW_US, outcome=IncidentOutcome.PASSED, message=message)


def test_oversized_text_and_lists_are_cut_with_a_mark(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    flood = {"log": "x" * 3_000_000, "rows": [{"n": number} for number in range(100_000)]}

    changed = log.update(incident_id, at_us=NOW_US, symptoms=flood, recommendation="y" * 100_000)

    assert len(str(changed.symptoms)) < 2 * MAX_DOCUMENT_BYTES
    assert changed.symptoms["log"].endswith("… [3,000,000 characters]")
    assert changed.symptoms["rows"][-1].startswith("… [cut: ")
    assert changed.recommendation.endswith("… [100,000 characters]")
    assert len(changed.recommendation) <= 10_000


def test_only_the_first_hundred_findings_are_stored(log: IncidentLog, target: str) -> None:
    many = [anomaly(f"signal-{number}") for number in range(250)]

    made = log.open(target, at_us=NOW_US, title="Many", severity=Severity.WARNING, anomalies=many)

    assert [each.signal for each in made.incident.findings] == [f"signal-{number}" for number in range(100)]


def test_report_of_a_person_is_stored_beside_a_hundred_findings(log: IncidentLog, target: str) -> None:
    many = [anomaly(f"signal-{number}") for number in range(100)]
    report = Anomaly("trigger", "trigger", Severity.WARNING, None, None, "ann: Checkout hangs.")
    log.open(target, at_us=NOW_US, title="Many", severity=Severity.WARNING, anomalies=many)

    joined = log.open(target, at_us=NOW_US, title="Report", severity=Severity.WARNING, anomalies=[report]).incident

    assert joined.findings[-1].anomaly == report
    assert [event.message for event in log.read_after(joined.incident_id)] == ["Many", "ann: Checkout hangs."]


def test_old_incident_is_deleted_with_all_its_rows(log: IncidentLog, target: str) -> None:
    old, newer, still = (opened(log, f"{target}-{name}", at_us=1_000) for name in ("old", "newer", "open"))
    log.actions.put(asked(old.incident_id))
    log.approvals.request(question(old.incident_id, f"q-{old.incident_id}"))
    log.close(old.incident_id, at_us=2_000, outcome=IncidentOutcome.PASSED)
    log.close(newer.incident_id, at_us=3_000, outcome=IncidentOutcome.PASSED)

    assert log.ended_before(3_000, limit=10) == [old.incident_id]
    log.forget([old.incident_id])

    with pytest.raises(IncidentNotFoundError):
        log.get(old.incident_id)
    assert log.read_after(old.incident_id) == []
    assert log.actions.of_incident(old.incident_id) == []
    assert log.approvals.of_incident(old.incident_id) == []
    assert log.get(newer.incident_id).is_over
    assert not log.get(still.incident_id).is_over


def test_finding_that_is_joined_after_the_end_opens_no_second_incident(log: IncidentLog) -> None:
    incident_id = opened(log, "shop").incident_id
    late = {"at_us": NOW_US + SECOND_US, "severity": Severity.CRITICAL, "anomalies": [anomaly("latency.p95_ms")]}

    assert log.join(incident_id, **late)
    joined = log.get(incident_id)
    log.close(incident_id, at_us=NOW_US + SECOND_US, outcome=IncidentOutcome.RESOLVED)

    assert not log.join(incident_id, **late)
    assert [finding.signal for finding in joined.findings] == ["errors.pct", "latency.p95_ms"]
    assert joined.severity is Severity.CRITICAL
    assert [item.incident_id for item in log.list_incidents(target="shop").items] == [incident_id]
    with pytest.raises(IncidentNotFoundError):
        log.join("none", **late)
