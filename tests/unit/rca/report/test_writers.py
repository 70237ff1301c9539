"""The place of a failure in the report of a run of a known source: the tool call, or the model call that wrote it."""

from __future__ import annotations

import pytest

from relab.rca.analyzer import collect_evidence
from relab.rca.ranking import Ranking, Suspicion, UnitKey
from relab.rca.ranking.problem_rules import writers_of
from relab.rca.ranking.units import units_of
from relab.rca.report.writers import merge_with_writers
from relab.telemetry.models import AgentRun
from support.telemetry.runs import step
from unit.rca.builders import agent_run, failed


def run_with(count: int, model: str = "model", **failure: object) -> AgentRun:
    """Return a run in which the model call with the id `model` wrote `count` equal tool calls that failed."""
    steps = [
        step("agent", 0, name="agent"),
        step(model, 1, parent_step_id="agent", output_summary="page_down(lines=2)"),
        step("next", 60, parent_step_id="agent", output_summary="all is well"),
    ]
    calls = [
        failed(
            f"c{number}", offset_s=2 + number, step_id="agent", tool_name="page_down", args_json={"lines": 2}, **failure
        )
        for number in range(count)
    ]
    return agent_run(steps=steps, tool_calls=calls)


def places(run: AgentRun, suspicions: dict[UnitKey, float]) -> list[tuple[str | None, str | None, str | None]]:
    """Return step, call and detail of each problem, for these probabilities of a model that finds no problem itself."""
    found = collect_evidence(run)
    ranking = Ranking(
        writers=writers_of(found.view, units_of(found.view, with_calls=True)),
        suspicions={place: Suspicion(chance, "wrong_tool") for place, chance in suspicions.items()},
    )
    problems, marks = merge_with_writers(found.problems, ranking)
    assert marks == ()
    return [(item.step_id, item.call_id, item.detail) for item in problems]


MODEL, CALL = UnitKey(False, "model"), UnitKey(True, "c0")
REJECTED = "TypeError: page_down() got an unexpected keyword argument 'lines'"


def test_failure_is_placed_at_the_model_call_if_its_probability_is_higher() -> None:
    assert places(run_with(1, error_message=REJECTED), {MODEL: 0.2, CALL: 0.1}) == [
        ("model", None, "unexpected_argument")
    ]


def test_failure_stays_at_the_tool_call_if_its_probability_is_higher() -> None:
    assert places(run_with(1, error_message=REJECTED), {MODEL: 0.1, CALL: 0.2}) == [
        ("agent", "c0", "unexpected_argument")
    ]


def test_step_and_call_with_the_same_id_have_separate_probabilities() -> None:
    run = run_with(1, model="c0", error_message=REJECTED)
    assert places(run, {UnitKey(False, "c0"): 0.2, CALL: 0.1}) == [("c0", None, "unexpected_argument")]
    assert places(run, {UnitKey(False, "c0"): 0.1, CALL: 0.2}) == [("agent", "c0", "unexpected_argument")]


def test_vague_error_takes_the_likeliest_kind_of_the_model_call() -> None:
    assert places(run_with(1, error_message="Something broke"), {MODEL: 0.2, CALL: 0.1}) == [
        ("model", None, "wrong_tool")
    ]


@pytest.mark.parametrize("chance", [0.2, 0.9])
def test_rate_limit_stays_at_the_tool_call_for_any_probability(chance: float) -> None:
    found = places(run_with(1, status_code=429, error_message="Too many requests"), {MODEL: chance, CALL: 0.1})
    assert [(step_id, call_id) for step_id, call_id, _ in found] == [("agent", "c0")]


def test_loop_of_failures_is_placed_at_the_model_call() -> None:
    run = run_with(4, error_message=REJECTED)
    assert "identical_calls" in [problem.detail for problem in collect_evidence(run).problems]
    found = places(run, {MODEL: 0.9, **{UnitKey(True, f"c{number}"): 0.1 for number in range(4)}})
    assert found == [("model", None, "unexpected_argument")] * 4
