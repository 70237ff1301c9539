"""The weight of past incidents: similar incidents make their cause more likely, by a bounded factor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.diagnosis import inference
from relab.knowledge.memory import MAX_ODDS_FROM_MEMORY, likeness, memory_factors
from relab.knowledge.models import FactValue, Resolver
from support.incidents.runbooks import expects, past, runbook

NOW: dict[str, FactValue] = {"pool.used_pct": 100.0, "dependency.database": "ok", "errors.pct": 60.0, "quiet": True}
TEMPLATES = {"timeout waiting for a connection <*>": 40, "request took <*> ms": 3}


def test_bound_equals_that_of_the_diagnosis() -> None:
    assert MAX_ODDS_FROM_MEMORY == inference.MAX_HISTORY_FACTOR


def test_cause_of_a_similar_past_incident_is_more_likely() -> None:
    factors = memory_factors(
        NOW,
        TEMPLATES,
        [
            past("1", "pool_leak", NOW, TEMPLATES),
            past("2", "other", {"pool.used_pct": 1.0, "dependency.database": "failing", "errors.pct": 0.0}, {"x": 1}),
        ],
    )

    assert set(factors) == {"pool_leak"}
    assert factors["pool_leak"] == pytest.approx(1 + 3 * 0.6)


def test_repeated_incidents_add_weight_up_to_the_bound() -> None:
    counts = [0, 1, 2, 10, 1_000]
    found = [
        memory_factors(NOW, TEMPLATES, [past(str(n), "c", NOW, TEMPLATES) for n in range(count)]).get("c", 1.0)
        for count in counts
    ]

    assert found == sorted(found)
    assert found[0] == 1.0
    assert found[1] < found[2] < found[3]
    assert found[-1] <= MAX_ODDS_FROM_MEMORY


def test_weight_of_a_past_incident_depends_on_its_resolver() -> None:
    found = [
        memory_factors(NOW, {}, [past("1", "c", NOW, resolved_by=by)])["c"]
        for by in (Resolver.PERSON, Resolver.RESPONDER, Resolver.ITSELF)
    ]

    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 3


def test_similarity_compares_orders_of_magnitude_and_counts_missing_facts() -> None:
    def by(then: dict[str, FactValue], now: dict[str, FactValue] | None = None) -> float:
        return likeness(now if now is not None else {"n": 1_000.0}, {}, past("1", "c", then))

    assert by({"n": 1_000.0}) == 1.0
    assert by({"n": 900.0}) > by({"n": 500.0}) > by({"n": 1.0})
    assert by({"n": 0.0}, {"n": 0.01}) > 0.9
    assert by({"n": "1000"}) == by({"m": 1_000.0}) == by({"n": -1_000.0}) == 0.0
    assert by({"n": True}, {"n": 1.0}) == 0.0
    assert by({"n": 1_000.0, "m": 1.0}) == 0.5
    assert by({}, {}) == 0.0
    assert by({"n": 1.0}, {"n": float("nan")}) == 0.0


def test_incidents_without_facts_are_compared_by_log_templates() -> None:
    incident = past("1", "c", {}, TEMPLATES)

    assert likeness({}, TEMPLATES, incident) == pytest.approx(1.0)
    assert likeness({}, {name: count * 9 for name, count in TEMPLATES.items()}, incident) > 0.9
    assert likeness({}, {"something else": 40}, incident) == 0.0
    assert likeness({}, {"nothing": 0}, incident) == 0.0


VALUES = st.one_of(st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5))
FACTS = st.dictionaries(st.sampled_from("abc"), VALUES)
COUNTS = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 10**9))
PAST = st.builds(
    past, st.just("1"), st.sampled_from(["one", "two"]), FACTS, COUNTS, resolved_by=st.sampled_from(Resolver)
)


@given(facts=FACTS, templates=COUNTS, incidents=st.lists(PAST, max_size=8))
def test_a_factor_is_between_one_and_the_bound(
    facts: dict[str, FactValue], templates: dict[str, int], incidents: list[object]
) -> None:
    factors = memory_factors(facts, templates, incidents)  # type: ignore[arg-type]

    assert all(1 < factor <= MAX_ODDS_FROM_MEMORY for factor in factors.values())


def test_misleading_memory_loses_to_one_clear_probe() -> None:
    books = [
        runbook("pool_leak", expects=(expects("pool.used_pct", 95, 0.9, 0.1), expects("sessions.idle", 9, 0.9, 0.05))),
        runbook("lock", expects=(expects("pool.used_pct", 95, 0.9, 0.1), expects("sessions.waiting", 5, 0.9, 0.05))),
    ]
    misleading = [past(str(number), "lock", NOW, TEMPLATES) for number in range(1_000)]
    memory = memory_factors(NOW, TEMPLATES, misleading)

    def best(facts: dict[str, FactValue]) -> str:
        return inference.Diagnosis(books, facts, memory).candidates()[0].cause

    assert best({"pool.used_pct": 100.0}) == "lock", "with nothing else to go by"
    assert best({"pool.used_pct": 100.0, "sessions.idle": 30.0, "sessions.waiting": 0.0}) == "pool_leak"
