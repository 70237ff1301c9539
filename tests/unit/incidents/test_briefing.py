"""The briefing for an approval decision: all parts of an approval request, read from any timeline."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relab.core.clock import format_time
from relab.incidents.briefing import (
    alert_details,
    alerts_of,
    diagnosis_before,
    diagnosis_details,
    last_diagnosis,
    question_details,
)
from relab.incidents.storage.models import TimelineEvent
from support.incidents.logs import question

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
DIAGNOSIS: dict[str, Any] = {
    "candidates": [
        {"cause": "process_stopped", "probability": 0.91},
        {"cause": "crash_loop", "probability": 0.06},
        {"cause": "memory_leak", "probability": 0.001},
    ],
    "evidence": [
        {"fact": "workers.stopped", "value": 1, "verbatim": '"state": "stopped"', "request": "GET /components"},
        *({"fact": f"other.{number}", "value": number, "verbatim": "", "request": ""} for number in range(5)),
    ],
}


def event(seq: int, kind: str, content: dict[str, Any] | None = None) -> TimelineEvent:
    return TimelineEvent(
        incident_id="i1", seq=seq, kind=kind, at=seq, message="It is so.", content=content or {}, evidence=()
    )


def test_a_diagnosis_has_evidence_with_its_source_and_the_other_causes() -> None:
    details = diagnosis_details(DIAGNOSIS)
    evidence = [text for name, text in details if name == "Evidence"]
    assert evidence[0] == 'workers.stopped = 1: \'"state": "stopped"\' (GET /components)'
    assert evidence[-1] == "and 1 more"
    assert len(evidence) == 6
    assert dict(details)["Other possible causes"] == "crash_loop (probability 0.06)"


def test_approval_request_has_impact_undo_expiry_and_default() -> None:
    asked = question("i1", "i1.1")
    details = dict(question_details(asked, DIAGNOSIS))
    assert details["Blast radius"] == "some_requests"
    assert details["Rollback"] == "not possible"
    assert details["Valid until"] == format_time(asked.expires_at)
    assert details["If no person answers"].startswith("Nothing is done.")
    assert details["Probable cause"] == f"{asked.plan.cause} (probability {asked.plan.probability:.2f})"
    undone = asked.model_copy(update={"plan": asked.plan.model_copy(update={"undo": "turn-back"})})
    assert dict(question_details(undone, None))["Rollback"] == "by turn-back"


def test_approval_request_belongs_to_the_diagnosis_before_it() -> None:
    events = [
        event(1, "diagnosed", {"n": 1}),
        event(2, "approval_asked", {"request": question("i1", "i1.1").model_dump(mode="json")}),
        event(3, "diagnosed", {"n": 2}),
        event(4, "approval_asked", {"request": question("i1", "i1.2").model_dump(mode="json")}),
        event(5, "diagnosed", {"n": 3}),
    ]
    assert diagnosis_before(events, "i1.1") == {"n": 1}
    assert diagnosis_before(events, "i1.2") == {"n": 2}
    assert last_diagnosis(events) == {"n": 3}
    assert last_diagnosis([]) is None


def test_alerts_have_their_description_and_runbook_once() -> None:
    said = {"summary": "Slow", "description": "P95 is 900 ms.", "runbook_url": "https://runbooks.example/slow"}
    content = {"alert": {"labels": {}, "annotations": said}}
    events = [event(1, "opened"), event(2, "alert", content), event(3, "alert", content)]
    assert alert_details(alerts_of(events)) == (
        ("Alert", "P95 is 900 ms."),
        ("Runbook of the alert", "https://runbooks.example/slow"),
    )


@given(content=st.dictionaries(st.sampled_from(["evidence", "candidates", "alert"]), JSON, max_size=3))
def test_any_timeline_is_read(content: dict[str, Any]) -> None:
    for name, text in (*diagnosis_details(content), *alert_details([content])):
        assert name
        assert len(text) <= 400
