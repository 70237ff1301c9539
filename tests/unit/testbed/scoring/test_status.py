"""The status of a responder: any JSON value is read without an error, and invalid fields are ignored."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.testbed.scoring.status import Sight, read_status

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ("polls", "incident", "id", "phase", "diagnosis", "cause", "escalated", "cost_usd", "tokens")
near_it = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=8),
    max_leaves=30,
)


def test_complete_status_is_read() -> None:
    document = {
        "polls": 12,
        "incident": {
            "id": "i-7", "phase": "verify", "diagnosis": [{"cause": "hang", "probability": 0.9}, "oom", {"cause": "hang"}],
        },
        "cost_usd": 0.25,
        "tokens": 1_200,
        "more": {"that": "nobody knows"},
    }  # fmt: skip
    assert read_status(3.0, document) == Sight(3.0, True, "i-7", "verify", ("hang", "oom"), False, 12, 0.25, 1_200)


@pytest.mark.parametrize("document", [{}, {"incident": None}, {"incident": "open"}])
def test_status_without_an_incident_object_has_no_open_incident(document: Any) -> None:
    found = read_status(1.0, document)
    assert found.answered is True
    assert found.incident is None
    assert found.causes == ()


@pytest.mark.parametrize(
    "incident", [{"phase": "escalated"}, {"phase": "approve"}, {"phase": "plan", "escalated": True}]
)
def test_request_for_a_person_counts_as_escalation(incident: dict[str, Any]) -> None:
    found = read_status(1.0, {"incident": incident})
    assert found.escalated is True
    assert found.incident == "?"


@pytest.mark.parametrize("document", [None, [], "fine", 7])
def test_status_that_is_not_an_object_counts_as_no_answer(document: Any) -> None:
    assert read_status(1.0, document) == Sight(1.0, answered=False)


@given(anything | near_it)
def test_any_json_value_is_read_as_a_status(document: Any) -> None:
    found = read_status(1.0, document)
    assert found.polls is None or found.polls >= 0
    assert found.cost_usd is None or (math.isfinite(found.cost_usd) and found.cost_usd >= 0)
    assert all(0 < len(word) <= 200 for word in found.causes)
    assert len(found.phase) <= 200


@pytest.mark.parametrize("tokens", [-1, True, "many", 1.5, 10**400, None])
def test_invalid_counts_are_ignored(tokens: Any) -> None:
    found = read_status(1.0, {"polls": tokens, "tokens": tokens})
    assert found.answered is True
    assert found.polls is None
    assert found.tokens is None
