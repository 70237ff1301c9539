"""Action records: JSON round trips, reading records of an untrusted server, and recognising those of other actors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from relab.incidents.actions.catalogue import UserImpact, read_catalogue
from relab.incidents.actions.records import (
    MAX_KEY,
    ActionRecord,
    ActionStatus,
    RepairResult,
    ServerRecord,
    fingerprint,
    idempotency_key,
    of_others,
    read_record,
    read_records,
)
from relab.incidents.actions.scope import scope_of
from relab.incidents.models import AbsenceReason, Anomaly, Severity, Snapshot
from support.incidents.acts import NOW_US, SECOND_US, act, shipped_catalogue

ROW = {
    "record_id": "r1", "action": "restart-worker", "parameters": {"worker": 1}, "actor": "responder", "target": "target",
    "requested_at": "2027-01-15T08:00:00Z", "status": "succeeded", "key": "i1:1:restart-worker", "fingerprint": "x",
    "before": {}, "after": {"pid": 7}, "error": None, "completed_at": None, "undoes": None, "undone_by": None,
}  # fmt: skip


def record(**more: Any) -> ServerRecord:
    found = read_record({**ROW, **more})
    assert found is not None
    return found


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parameters": {"worker": 2, "share": 0.5, "name": "a", "all": True}, "status": "asked"},
        {"record_id": "r1", "finished_at": NOW_US + 1, "effect": "worse", "approved_by": "ann", "error": "no"},
    ],
)
def test_action_record_survives_a_json_round_trip(more: dict[str, Any]) -> None:
    found = act(**more)
    document = json.loads(json.dumps(found.model_dump(mode="json")))
    again = ActionRecord.model_validate(document)
    assert again == found
    # 1 and 1.0 are equal in Python, but a server may treat them as different parameters.
    assert {name: type(value) for name, value in again.parameters.items()} == {
        name: type(value) for name, value in found.parameters.items()
    }
    assert again.tried == found.tried


@pytest.mark.parametrize("effect", ["not_yet", "recovering", "other_cause", "helped"])
def test_record_rejects_an_effect_that_is_not_final(effect: str) -> None:
    document = act().model_dump(mode="json") | {"effect": effect}

    with pytest.raises(ValidationError):
        ActionRecord.model_validate(document)


@pytest.mark.parametrize("effect", ["verified", "mitigated", "failed", "worse"])
def test_record_keeps_a_final_effect(effect: str) -> None:
    document = act().model_dump(mode="json") | {"effect": effect}

    found = ActionRecord.model_validate(document)

    assert found.effect is RepairResult(effect)
    assert found.model_dump(mode="json") == document


@pytest.mark.parametrize("pending", [result for result in RepairResult if result.is_pending])
def test_pending_result_cannot_be_stored(pending: RepairResult) -> None:
    with pytest.raises(ValueError, match=pending.value):
        _ = pending.as_effect


def test_idempotency_key_identifies_the_attempt_and_is_a_valid_header() -> None:
    keys = [
        idempotency_key(*given)
        for given in [
            ("i1", 1, "a"),
            ("i1", 2, "a"),
            ("i2", 1, "a"),
            ("i1", 1, "b"),
            ("i" * 300, 1, "a"),
            ("ü\n", 1, "a"),
        ]
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == idempotency_key("i1", 1, "a")
    assert all(1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable() for key in keys)


def test_fingerprint_depends_on_the_plan_and_not_on_the_order_of_parameters() -> None:
    assert fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    assert (
        len({fingerprint("a", {}), fingerprint("b", {}), fingerprint("a", {"x": 1}), fingerprint("a", {"x": "1"})}) == 4
    )


@pytest.mark.parametrize(
    ("said", "meant"),
    [("started", "asked"), ("succeeded", "succeeded"), ("failed", "failed"), ("interrupted", "failed"), ("undone", "undone")],
)  # fmt: skip
def test_server_status_becomes_the_status_of_the_action(said: str, meant: str) -> None:
    assert record(status=said).status is ActionStatus(meant)


@pytest.mark.parametrize(
    "more",
    [
        {"record_id": None}, {"record_id": ""}, {"record_id": "x" * 201}, {"action": 1}, {"actor": []}, {"target": {}},
        {"requested_at": "yesterday"}, {"requested_at": "9999-12-31T00:00:00Z"}, {"requested_at": 5}, {"status": "done"},
        {"status": None}, {"status": ["failed"]},
    ],
)  # fmt: skip
def test_unreadable_record_is_skipped(more: dict[str, Any]) -> None:
    assert read_record({**ROW, **more}) is None
    assert read_records({"records": [ROW, {**ROW, **more}]}) == ([record()], 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
NEAR = st.fixed_dictionaries({}, optional=dict.fromkeys((*ROW, "name", "class", "blast_radius", "inverse"), JSON))
NEAR_ENTRY = st.fixed_dictionaries(
    {"name": st.just("restart"), "class": st.just("restart"), "blast_radius": st.sampled_from(UserImpact)},
    optional={
        "parameters": st.fixed_dictionaries(
            {}, optional={"properties": st.dictionaries(st.text(max_size=5), JSON, max_size=3), "required": JSON}
        ),
        "preconditions": JSON, "title": JSON, "effect": JSON, "target": JSON,
    },
)  # fmt: skip


@settings(max_examples=40)
@given(st.one_of(JSON, NEAR, st.builds(lambda rows: {"records": rows, "actions": rows}, st.lists(NEAR | NEAR_ENTRY))))
def test_any_server_response_is_read(document: Any) -> None:
    rows, unreadable = read_records(document)
    alone = read_record(document)
    for record in [*rows, *([alone] if alone is not None else [])]:
        assert record.record_id
        assert record.action
        assert record.status in set(ActionStatus)
    is_list = isinstance(document, dict) and isinstance(document.get("records"), list)
    assert len(rows) + unreadable == (len(document["records"]) if is_list else 1)
    for name, entry in read_catalogue(document).actions.items():
        fitted, problems = entry.fit({"worker": 1, "": "x"})
        assert entry.name == name
        # Parameters that the catalogue lacks are never forwarded.
        assert set(fitted) <= {"worker", ""}
        assert problems or fitted == {"worker": 1, "": "x"}


def test_invalid_catalogue_entries_are_skipped_and_counted() -> None:
    shipped = shipped_catalogue()
    assert shipped.unreadable == 0
    assert len(shipped.actions) > 15
    good = {"name": "a", "class": "restart", "blast_radius": "none", "parameters": {"properties": {}}}
    bad = [
        {**good, "name": "../x"},
        {**good, "blast_radius": "little"},
        {**good, "class": None},
        {**good, "parameters": 1},
        7,
    ]
    found = read_catalogue({"actions": [good, *bad, {**good, "title": "again"}]})
    assert list(found.actions) == ["a"]
    assert found.unreadable == 6
    assert not found.actions["a"].is_read_only
    # An action of class `read` with a wide blast radius is not treated as read-only.
    loud = read_catalogue({"actions": [{**good, "class": "read", "blast_radius": "whole_service"}]})
    assert not loud.actions["a"].is_read_only


def test_only_scalar_parameters_are_read() -> None:
    told = {"worker": 2, "policy": "lru", "force": True, "share": float("nan"), "list": [1], "nothing": None}
    assert record(parameters=told).parameters == {"worker": 2, "policy": "lru", "force": True}
    assert record(parameters=[1]).parameters == {}


def test_records_of_other_actors_are_recognised() -> None:
    ours = [act(key="k1", record_id="r1"), act(key="k2", record_id=None)]
    at = {"requested_at": "2027-01-15T08:00:00Z"}
    records = [
        record(record_id="r1", key="k1", **at),
        record(record_id="r2", key="k2", **at),
        record(record_id="r3", key=None, undoes="r1", **at),
        record(record_id="r4", key=None, undoes="r1", actor="ann", **at),
        record(record_id="r5", key="k9", **at),
        record(record_id="r6", key=None, actor="ann", **at),
        record(record_id="r7", key="k9", requested_at="2027-01-15T07:00:00Z"),
    ]
    since_us = NOW_US
    assert record(**at).requested_at_us == since_us
    assert [item.record_id for item in of_others(records, ours, since_us=since_us)] == ["r4", "r5", "r6"]
    assert of_others(records, ours, since_us=since_us + SECOND_US) == ()


def anomaly(signal: str, detector: str = "level_shift", opens: bool = True) -> Anomaly:
    return Anomaly(detector, signal, Severity.DEGRADED, None, None, signal, opens)


@pytest.mark.parametrize(
    ("anomalies", "absent", "scope"),
    [
        ([], {}, UserImpact.NONE),
        ([anomaly("timestamp", opens=False)], {}, UserImpact.NONE),
        ([anomaly("worker.1", "state")], {}, UserImpact.SOME_REQUESTS),
        ([anomaly("route.search.p95_ms")], {}, UserImpact.SOME_REQUESTS),
        ([anomaly("worker.1"), anomaly("dependency.cache", "state")], {}, UserImpact.ONE_DEPENDENCY),
        ([anomaly("cache.write_errors")], {}, UserImpact.ONE_DEPENDENCY),
        ([anomaly("dependency.database", "state")], {}, UserImpact.WHOLE_SERVICE),
        ([anomaly("errors.pct", "burn_rate"), anomaly("dependency.cache")], {}, UserImpact.WHOLE_SERVICE),
        ([anomaly("process.target.rss_mb", "trend")], {}, UserImpact.WHOLE_SERVICE),
        ([], {"health": AbsenceReason.TIMED_OUT}, UserImpact.WHOLE_SERVICE),
        ([], {"logs": AbsenceReason.TIMED_OUT}, UserImpact.NONE),
    ],
)
def test_scope_of_an_incident_is_its_widest_observed_impact(
    anomalies: list[Anomaly], absent: dict[str, AbsenceReason], scope: UserImpact
) -> None:
    assert scope_of(anomalies, Snapshot(NOW_US, absent=absent)) is scope
