from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import InvalidInputError
from relab.flags.models import ACTUATORS, ControlFlags, RoutingFlags, ServiceFlags

CONTROL = st.fixed_dictionaries(
    {},
    optional={
        "policy": st.sampled_from(["aimd", "fixed"]),
        "target_p95_ms": st.integers(1, 60_000) | st.floats(1, 60_000),
        "max_concurrency": st.integers(1, 1_024),
        "max_batch_size": st.integers(1, 256),
        "enabled_actuators": st.lists(st.sampled_from(ACTUATORS), unique=True),
    },
)
ROUTING = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "policy": st.sampled_from(["rules", "manual"]),
        "topk_threshold": st.integers(0, 10_000),
        "manual_backend": st.sampled_from(["faiss", "qdrant", None]),
    },
)


@given(CONTROL, ROUTING)
def test_update_changes_only_named_fields(control: dict[str, Any], routing: dict[str, Any]) -> None:
    if not control and not routing:
        return
    before = ServiceFlags(control=ControlFlags(max_concurrency=7), routing=RoutingFlags(topk_threshold=3))
    wire = json.loads(json.dumps({"control": control, "routing": routing}))

    after = before.updated(wire).model_dump(mode="json")

    assert after["control"] == {**before.model_dump(mode="json")["control"], **control}
    assert after["routing"] == {**before.model_dump(mode="json")["routing"], **routing}


@given(CONTROL, ROUTING)
def test_written_document_is_read_back_unchanged(control: dict[str, Any], routing: dict[str, Any]) -> None:
    flags = ServiceFlags().updated({"control": {"max_concurrency": 9, **control}, "routing": routing})

    assert ServiceFlags().updated(json.loads(flags.model_dump_json())) == flags


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"control": {"qps": 3}}, "control.qps"),
        ({"controls": {"policy": "aimd"}}, "controls"),
        ({"nonsense": None}, "nonsense"),
        ({"control": {"policy": "pid"}}, "control.policy"),
        ({"control": {"target_p95_ms": 0}}, "control.target_p95_ms"),
        ({"control": {"max_concurrency": 0}}, "control.max_concurrency"),
        ({"control": {"max_concurrency": "32"}}, "control.max_concurrency"),
        ({"control": {"max_concurrency": True}}, "control.max_concurrency"),
        ({"control": {"max_concurrency": 2.5}}, "control.max_concurrency"),
        ({"control": {"max_concurrency": None}}, "control.max_concurrency"),
        ({"control": {"max_batch_size": 257}}, "control.max_batch_size"),
        ({"control": {"enabled_actuators": ["knobs"]}}, "control.enabled_actuators.0"),
        ({"control": {"enabled_actuators": ["concurrency", "concurrency"]}}, "control.enabled_actuators"),
        ({"control": [1]}, "control"),
        ({"routing": {"enabled": 1}}, "routing.enabled"),
        ({"routing": {"topk_threshold": -1}}, "routing.topk_threshold"),
        ({"routing": {"manual_backend": "milvus"}}, "routing.manual_backend"),
    ],
)
def test_invalid_field_is_named(document: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        ServiceFlags().updated(document)

    assert [name for name, _ in refused.value.problems] == [field]
    assert field in refused.value.message


@pytest.mark.parametrize("document", [{}, {"control": {}}, {"control": {}, "routing": {}}, [], "aimd", None])
def test_empty_update_is_rejected(document: Any) -> None:
    with pytest.raises(InvalidInputError):
        ServiceFlags().updated(document)


def test_all_rejected_fields_are_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        ServiceFlags().updated({"control": {"policy": "x", "extra": 1}, "routing": {"enabled": "yes"}})

    assert {name for name, _ in refused.value.problems} == {"control.policy", "control.extra", "routing.enabled"}


@given(st.integers(1, 200), st.integers(0, 200))
def test_rules_route_searches_up_to_the_threshold_to_faiss(top_k: int, threshold: int) -> None:
    routing = RoutingFlags(topk_threshold=threshold)

    assert routing.backend(top_k) == ("faiss" if top_k <= threshold else "qdrant")


@pytest.mark.parametrize("off", [{"enabled": False}, {"policy": "manual"}])
def test_manual_backend_is_used_without_routing_rules(off: dict[str, Any]) -> None:
    assert RoutingFlags(**off, manual_backend="faiss").backend(200) == "faiss"
    assert RoutingFlags(**off, manual_backend="qdrant").backend(1) == "qdrant"
    assert RoutingFlags(**off).backend(1) == "qdrant"


def test_rollback_document_of_the_contract_is_accepted() -> None:
    rollback: Any = {
        "control": {"policy": "fixed", "enabled_actuators": []},
        "routing": {"enabled": False, "manual_backend": "qdrant"},
    }

    flags = ServiceFlags().updated(rollback)

    assert flags.control.enabled_actuators == ()
    assert flags.routing.backend(1) == "qdrant"
