"""Inference over causes: matching causes win, unmatched facts give "unknown", and memory never outweighs facts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate, probability_of_any
from relab.incidents.diagnosis.inference import MAX_HISTORY_FACTOR, Diagnosis
from relab.knowledge.models import Expectation, FactCondition, FactValue, Operator, Risk, Runbook


def expects(fact: str, value: FactValue = True, likely: float = 0.95, otherwise: float = 0.05) -> Expectation:
    operator = Operator.IS if isinstance(value, bool | str) else Operator.AT_LEAST
    return Expectation(FactCondition(fact, operator, value), likely, otherwise)


def runbook(cause: str, *expectations: Expectation, prior: float = 1.0) -> Runbook:
    return Runbook(cause, cause, (), expectations, (), (), (), Risk.LOW, prior)


POOL = runbook("pool", expects("pool.full"), expects("server.fast", otherwise=0.7), expects("locks", False, 0.98, 0.9))
LOCK = runbook("lock", expects("locks"), expects("pool.full", likely=0.7, otherwise=0.05))
DOWN = runbook("down", expects("database.error", "refused"), expects("server.fast", False))
BOOKS = [POOL, LOCK, DOWN]


def best(facts: dict[str, FactValue], memory: dict[str, float] | None = None) -> tuple[str, float]:
    found = Diagnosis(BOOKS, facts, memory).candidates()[0]
    return found.cause, found.probability


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"pool.full": True, "server.fast": True, "locks": False}, "pool"),
        ({"pool.full": True, "locks": True}, "lock"),
        ({"database.error": "refused", "server.fast": False}, "down"),
    ],
)
def test_matching_cause_wins_with_its_reasons(facts: dict[str, FactValue], cause: str) -> None:
    first = Diagnosis(BOOKS, facts).candidates()[0]
    assert first.cause == cause
    assert first.probability > 0.8
    assert first.for_it
    assert first.for_it[0].fact in facts


def test_cause_without_a_runbook_is_unknown() -> None:
    other = runbook("other", expects("other.sign"), expects("pool.full", False))
    facts: dict[str, FactValue] = {"pool.full": False, "locks": False, "database.error": "other", "server.fast": True}
    assert Diagnosis(BOOKS, facts).candidates()[0].cause == UNKNOWN
    assert Diagnosis([*BOOKS, other], {**facts, "other.sign": True}).candidates()[0].cause == "other"


def test_memory_breaks_ties_and_never_overrides_facts() -> None:
    twins = [runbook("a", expects("x")), runbook("b", expects("x"), expects("y"))]
    assert Diagnosis(twins, {"x": True}, {"b": 100.0}).candidates()[0].cause == "b"
    assert Diagnosis(twins, {"x": True, "y": False}, {"b": 1e9}).candidates()[0].cause == "a"
    assert best({"pool.full": True, "locks": True}, {"pool": 1e9})[0] == "lock"


def test_one_of_many_conditions_on_a_fact_counts() -> None:
    many = [expects("used", float(bound), 0.95, 0.2) for bound in range(50, 100, 5)]
    once = Diagnosis([runbook("a", many[0]), runbook("b", expects("z"))], {"used": 99.0}).candidates()
    often = Diagnosis([runbook("a", *many), runbook("b", expects("z"))], {"used": 99.0}).candidates()
    assert often[0].probability == pytest.approx(once[0].probability)


def test_probe_that_separates_causes_has_the_highest_value() -> None:
    diagnosis = Diagnosis(BOOKS, {"pool.full": True})
    assert diagnosis.gain(["locks"]) > diagnosis.gain(["database.error"]) > 0
    assert diagnosis.gain(["locks", "server.fast"]) >= diagnosis.gain(["locks"]) - 1e-9
    assert diagnosis.gain(["pool.full"]) == 0
    assert diagnosis.gain(["nothing.that.counts"]) == 0


def test_hundreds_of_facts_against_all_causes_still_give_probabilities() -> None:
    signs = [expects(f"sign.{number}", otherwise=0.95) for number in range(400)]
    twins = [runbook("a", *signs), runbook("b", *signs, expects("b.sign"))]
    facts: dict[str, FactValue] = {f"sign.{number}": False for number in range(400)}

    found = Diagnosis(twins, {**facts, "b.sign": True}).candidates()

    assert found[0].cause == "b"
    assert 0.5 < found[0].probability <= 1


def test_condition_on_another_type_of_fact_has_no_effect() -> None:
    condition = FactCondition("used", Operator.AT_LEAST, 5.0)
    assert [condition.holds({"used": value}) for value in (5.0, 4.9, "many", True)] == [True, False, None, None]
    assert condition.holds({}) is None
    assert FactCondition("up", Operator.IS, True).holds({"up": 1.0}) is False


FACTS = st.dictionaries(
    st.sampled_from(["pool.full", "server.fast", "locks", "database.error", "used"]),
    st.booleans() | st.sampled_from(["refused", "timeout"]) | st.floats(0, 100),
)


@given(facts=FACTS, memory=st.dictionaries(st.sampled_from(["pool", "lock", "down"]), st.floats(0, 1e6)))
def test_probabilities_are_valid_for_any_facts(facts: dict[str, FactValue], memory: dict[str, float]) -> None:
    diagnosis = Diagnosis(BOOKS, facts, memory)
    candidates, hypotheses = diagnosis.candidates(), diagnosis.hypotheses()
    assert sum(item.probability for item in hypotheses) == pytest.approx(1.0)
    assert {item.cause for item in candidates} == {"pool", "lock", "down", UNKNOWN}
    for item in candidates:
        with_it = [each.probability for each in hypotheses if item.cause in each.causes]
        assert item.probability == pytest.approx(sum(with_it))
        assert set(item.for_it).isdisjoint(item.against_it)
    together = {other: each.cause for each in candidates for other in each.together}
    assert UNKNOWN not in {*together, *together.values()}
    assert all(0 <= item.probability <= 1 for item in candidates)
    # The result does not depend on the order of the runbooks.
    again = Diagnosis(BOOKS[::-1], facts, memory).candidates()
    assert [item.cause for item in again] == [item.cause for item in candidates]
    assert Diagnosis(BOOKS, facts, memory).gain(["locks", "server.fast", "database.error"]) >= 0


@given(facts=FACTS, factor=st.floats(1, 1e9))
def test_memory_changes_odds_by_its_bound_at_most(facts: dict[str, FactValue], factor: float) -> None:
    def odds(memory: dict[str, float]) -> float:
        found = {item.cause: item.probability for item in Diagnosis(BOOKS, facts, memory).candidates()}
        return found["pool"] / found["lock"]

    assert odds({"pool": factor}) <= odds({}) * MAX_HISTORY_FACTOR * (1 + 1e-9)


def required(fact: str, value: FactValue) -> Runbook:
    book = runbook("strict", expects("pool.full"), expects("server.fast"), expects("locks", False))
    return replace(book, requires=(FactCondition(fact, Operator.IS, value),))


def test_failed_requirement_rules_a_cause_out() -> None:
    facts: dict[str, FactValue] = {"pool.full": True, "server.fast": True, "locks": False, "process": "down"}
    other = runbook("other", expects("process", "down", 0.5, 0.1))
    allowed = Diagnosis([required("process", "down"), other], facts).candidates()[0]
    assert allowed.cause == "strict"
    assert allowed.unproven == ()
    ruled_out = Diagnosis([required("process", "running"), other], facts).candidates()
    assert ruled_out[0].cause != "strict"
    strict = next(found for found in ruled_out if found.cause == "strict")
    assert strict.probability < allowed.probability / 5
    assert strict.against_it[0].fact == "process"


def test_unobservable_requirement_is_reported_as_unproven() -> None:
    facts: dict[str, FactValue] = {"pool.full": True, "server.fast": True, "locks": False}
    first = Diagnosis([required("process", "running")], facts).candidates()[0]
    assert first.cause == "strict"
    assert [condition.fact for condition in first.unproven] == ["process"]


FROZEN = runbook(
    "frozen", expects("processes.frozen"), expects("workers.silent", likely=0.8), expects("locks", False, 0.9, 0.9)
)
PAIR = [*BOOKS, FROZEN]


def sets(facts: dict[str, FactValue], books: list[Runbook] = PAIR, mended: tuple[str, ...] = ()) -> list[set[str]]:
    return [set(each.causes) for each in Diagnosis(books, facts, mended=mended).hypotheses() if each.probability >= 0.5]


BOTH: dict[str, FactValue] = {"pool.full": True, "locks": True, "processes.frozen": True, "workers.silent": True}


def test_two_causes_at_once_are_named_where_neither_explains_all_signs() -> None:
    strong = [replace(book, expects=(*book.expects, expects(f"{book.cause}.sign", otherwise=0.01))) for book in PAIR]
    facts = BOTH | {"lock.sign": True, "frozen.sign": True, "pool.sign": False, "down.sign": False}
    assert sets(facts, strong) == [{"lock", "frozen"}]
    first, second, *others = Diagnosis(strong, facts).candidates()
    assert {first.cause, second.cause} == {"lock", "frozen"}
    assert first.together[second.cause] == pytest.approx(second.together[first.cause])
    assert min(first.probability, second.probability) >= 0.9 > max(item.probability for item in others)


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"pool.full": True, "server.fast": True, "locks": False, "processes.frozen": False}, "pool"),
        ({"pool.full": True, "locks": True, "processes.frozen": False, "workers.silent": False}, "lock"),
        ({"database.error": "refused", "server.fast": False, "pool.full": False}, "down"),
        ({"processes.frozen": True, "workers.silent": True, "locks": False, "pool.full": False}, "frozen"),
        # A single fact that a second cause would explain may be a coincidence.
        ({"pool.full": True, "locks": True, "processes.frozen": False, "workers.silent": True}, "lock"),
    ],
)
def test_one_cause_that_explains_all_facts_is_not_split_into_two(facts: dict[str, FactValue], cause: str) -> None:
    assert sets(facts) == [{cause}]


def test_lingering_facts_of_a_repaired_cause_support_no_other_cause() -> None:
    lingering: dict[str, FactValue] = {"pool.full": True, "locks": False}
    repaired = replace(LOCK, mended=(FactCondition("locks", Operator.IS, False),))
    books = [POOL, repaired, DOWN, FROZEN]
    assert sets(lingering, books) == [{"pool"}]
    found = Diagnosis(books, lingering, mended=("lock",)).candidates()
    assert "lock" not in {item.cause for item in found}
    assert next(item.probability for item in found if item.cause == "pool") < 0.5
    # Facts that the repaired cause never explains still support a second cause.
    more = lingering | {"processes.frozen": True, "workers.silent": True}
    assert Diagnosis(books, more, mended=("lock",)).candidates()[0].cause == "frozen"


def test_repaired_cause_that_recurs_is_a_candidate_again() -> None:
    repaired = replace(LOCK, mended=(FactCondition("locks", Operator.IS, False),))
    facts: dict[str, FactValue] = {"pool.full": True, "locks": True}
    assert Diagnosis([POOL, repaired, DOWN], facts, mended=("lock",)).candidates()[0].cause == "lock"


@pytest.mark.parametrize("sign", [True, False])
def test_sign_that_one_cause_raises_and_the_other_lowers_says_nothing_about_the_pair(sign: bool) -> None:
    books = [
        runbook("up", expects("sign", likely=0.9, otherwise=0.5)),
        runbook("down", expects("sign", True, 0.1, 0.5)),
    ]

    def odds(facts: dict[str, FactValue]) -> float:
        found = {frozenset(each.causes): each.probability for each in Diagnosis(books, facts).hypotheses()}
        return found[frozenset({"up", "down"})] / found[frozenset({UNKNOWN})]

    assert odds({"sign": sign}) == pytest.approx(odds({}))


def test_evidence_is_listed_strongest_first() -> None:
    weak, strong = expects("weak", likely=0.6, otherwise=0.4), expects("strong", likely=0.95, otherwise=0.05)
    books = [runbook("a", weak, strong), runbook("b", expects("other"))]

    def candidate(holds: bool, cause: str = "a") -> Candidate:
        found = Diagnosis(books, {"weak": holds, "strong": holds}).candidates()
        return next(item for item in found if item.cause == cause)

    assert candidate(True).for_it == (strong.condition, weak.condition)
    assert candidate(True).against_it == ()
    assert candidate(False).against_it == (strong.condition, weak.condition)
    assert candidate(False).for_it == ()
    # A condition that the runbook of a cause does not name is no evidence for or against this cause.
    for holds in (True, False):
        assert candidate(holds, "b").for_it == ()
        assert candidate(holds, "b").against_it == ()


def test_failed_requirement_also_rules_a_cause_out_of_pairs() -> None:
    strict = replace(FROZEN, requires=(FactCondition("process", Operator.IS, "stopped"),))
    facts = BOTH | {"process": "running"}
    found = Diagnosis([*BOOKS, strict], facts).candidates()
    assert next(item.probability for item in found if item.cause == "frozen") < 0.01


@given(facts=FACTS)
def test_probability_of_any_cause_sums_the_hypotheses_that_contain_one(facts: dict[str, FactValue]) -> None:
    diagnosis = Diagnosis(BOOKS, facts)
    for causes in ({"pool"}, {"pool", "lock"}, {"pool", "lock", "down"}, {"pool", UNKNOWN}):
        expected = sum(each.probability for each in diagnosis.hypotheses() if causes.intersection(each.causes))
        # Candidates omit highly improbable pairs, so the sums differ slightly.
        assert probability_of_any(diagnosis.candidates(), causes) == pytest.approx(expected, abs=1e-3)
