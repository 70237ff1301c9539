"""Matching behaviour rules against runs, with the evidence of each match."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relab.rca.analyzer import analyze
from relab.rca.behaviours.matching import find_behaviours
from relab.rca.behaviours.patterns import check_pattern, find
from relab.rca.behaviours.reporting import with_behaviours
from relab.rca.behaviours.rules import BehaviourRule, RuleCondition
from relab.telemetry.models import AgentRun
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import examples, step, texts, time_text
from unit.rca.builders import agent_run, call, event, failed


def rule(when: dict[str, Any]) -> BehaviourRule:
    return BehaviourRule.model_validate({"name": "b", "description": "What it is", "when": when})


def places(run: AgentRun, when: dict[str, Any]) -> list[tuple[str, str]] | None:
    """Return `(kind, text)` of each piece of evidence for the condition, or None if the run does not match."""
    found = find_behaviours(run, [rule(when)])
    if not found:
        return None
    report = with_behaviours(analyze(run), run, found)
    index = {item.evidence_id: item for item in report.evidence_index}
    [behaviour] = report.behaviours
    assert all(verify_verbatim(run, index[each]) for each in behaviour.evidence_ids)
    return [(index[each].kind.value, index[each].snippet) for each in behaviour.evidence_ids]


def said(*outputs: str, **fields: Any) -> AgentRun:
    steps = [step(f"s{n}", started_at=time_text(n), output_summary=text) for n, text in enumerate(outputs)]
    return agent_run("success", steps=steps, **fields)


@given(st.text("abc.", max_size=12), st.text("abc", min_size=2, max_size=3), st.integers(2, 14))
def test_sequence_is_found_as_by_trying_all_places(outputs: str, wanted: str, within: int) -> None:
    sequence = {"sequence": [{"step": {"output": each}} for each in wanted], "within": within}
    places_of = itertools.combinations(range(len(outputs)), len(wanted))
    found = [at for at in places_of if [outputs[n] for n in at] == list(wanted) and at[-1] - at[0] < within]

    seen = find_behaviours(said(*outputs), [rule(sequence)])
    assert [quote.source for each in seen for quote in each.quotes] == [
        said(*outputs).steps[n] for n in min(found, default=())
    ]


APOLOGY = {"all": [{"answer": r"(?i)\bsorry\b"}, {"call": {}, "count": {"max": 0}}]}


def test_apology_matches_only_without_a_tool_call() -> None:
    assert places(said("hello", "I am SORRY."), APOLOGY) == [("step", "I am SORRY.")]
    assert places(said("x", answer="So sorry!\nBye"), APOLOGY) == [("run", "So sorry!\nBye")]
    assert places(said("I am sorry.", tool_calls=[call("c1")]), APOLOGY) is None
    assert places(said("sorry", "done"), APOLOGY) is None


def test_repeated_question_matches_similar_text() -> None:
    asked = {"repeated": {"step": {"output": r"\?\s*$"}, "similarity": 0.6}}
    first, second = "Hello.\nWhat is your order number?", "Sorry, what is your order number?"

    assert places(said(first, "12", second), asked) == [("step", first), ("step", second)]
    assert places(said(first, "Do you live in Paris?"), asked) is None
    assert places(said(first, first, first), {"repeated": {**asked["repeated"], "times": 4}}) is None


def test_repeated_calls_are_those_of_one_tool() -> None:
    wanted = {"repeated": {"call": {"arguments": "."}, "times": 2, "similarity": 1}}
    calls = [call(f"c{n}", n, tool_name=tool, args_json={"q": "shoes"}) for n, tool in enumerate(("a", "b", "a"))]

    assert places(agent_run(tool_calls=calls[:2]), wanted) is None
    found = places(agent_run(tool_calls=calls), wanted)
    assert found is not None
    assert len(found) == 2


def test_sequence_is_in_order_and_within_its_bound() -> None:
    wanted = {"sequence": [{"call": {"status": "failure"}}, {"step": {"output": "done"}}]}
    steps = [step("s1"), step("s2", started_at=time_text(5), output_summary="all done")]
    run = agent_run(steps=steps, tool_calls=[failed("c1", 1.0), call("c2", 2.0), call("c3", 3.0)])

    assert places(run, wanted) is not None
    assert places(run, {**wanted, "within": 4}) is not None
    assert places(run, {**wanted, "within": 3}) is None
    assert places(run, {"sequence": [*reversed(wanted["sequence"])]}) is None


@pytest.mark.parametrize(
    ("when", "is_shown"),
    [
        ({"call": {"tool": "^search$", "status_code": {"min": 400, "max": 499}}}, True),
        ({"call": {"tool": "^search$", "status_code": {"min": 500}}}, False),
        ({"call": {"arguments": '"q": "shoes"', "error": "not allowed"}}, True),
        ({"call": {}, "count": {"min": 2}}, False),
        ({"not": {"call": {"tool": "other"}}}, True),
        ({"any": [{"question": "x"}, {"question": "shoes"}]}, True),
        ({"guardrail": {"type": "policy", "message": "seen"}}, True),
        ({"guardrail": {"type": "other"}}, False),
        ({"run": {"outcome": "failed", "steps": {"max": 1}, "agent": "shop"}}, True),
        ({"run": {"cost_usd": {"max": 1}}}, False),
        ({"run": {"duration_s": {"min": 1}, "tool_calls": {"min": 1}}}, True),
        ({"step": {"agent": "planner", "status": "success"}}, True),
        ({"step": {"agent": "writer"}}, False),
    ],
)
def test_condition_matches_fields_of_the_run(when: dict[str, Any], is_shown: bool) -> None:
    body = failed("c1", 1.0, tool_name="search", status_code=403, args_json={"q": "shoes"}, error_message="not allowed")
    run = agent_run(
        steps=[step("s1", agent_name="planner")],
        tool_calls=[body],
        guardrail_events=[event()],
        question="find shoes",
        ended_at=time_text(9),
    )

    assert (places(run, when) is not None) == is_shown


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"step": {}, "call": {}},
        {"answer": "("},
        {"answer": "(?=a)b"},
        {"answer": "(a{1000}){1000}"},
        {"answer": "x" * 1_001},
        {"answer": "x", "count": {"min": 1}},
        {"call": {}, "within": 3},
        {"call": {}, "count": {}},
        {"call": {}, "count": {"min": 3, "max": 2}},
        {"sequence": [{"call": {}}]},
        {"repeated": {"call": {}, "times": 1}},
        {"repeated": {"call": {}, "step": {}}},
        {"step": {"nme": "x"}},
        {"step": None},
        {"question": None},
        {"not": None},
    ],
)
def test_invalid_conditions_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RuleCondition.model_validate(wrong)


def test_pattern_takes_linear_time_and_returns_the_matching_line() -> None:
    assert find(check_pattern("(a+)+$"), "a" * 190_000 + "b") is None
    assert find("b+", "aaa\nxbbx\nb") == (4, 8)
    assert find("a\nb", "xa\nb") == (0, 2)
    assert find("x", None) is None
    assert find("\\?", "\ud800") == (0, 1)


@given(texts, texts, st.sampled_from(["", "$", r"\w", r"\?", "(?s).*"]))
@examples(60)
def test_any_text_gives_a_verbatim_quotation_or_no_match(one: str, other: str, pattern: str) -> None:
    run = said(one, other, answer=one, question=other, tool_calls=[call("c1", result_summary=one)])
    for when in (
        {"answer": pattern or "."},
        {"step": {"output": pattern or "."}},
        {"repeated": {"step": {"output": pattern or "."}}},
        {"sequence": [{"step": {}}, {"call": {"result": pattern or "."}}]},
    ):
        places(run, when)
