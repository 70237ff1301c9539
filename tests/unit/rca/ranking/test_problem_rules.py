"""Problems that the structure of a trace shows, for sources that no model was trained on."""

from __future__ import annotations

from relab.rca.analyzer import analyze
from relab.rca.models import AttributionBasis
from relab.telemetry.models import AgentRun
from support.telemetry.runs import step
from unit.rca.builders import agent_run


def trace(output: str, *, asked: str = "the task", around: dict[str, object] | None = None) -> AgentRun:
    """Return a successful run of a step with one model call inside, then another one."""
    steps = [
        step("agent", 0, name="agent"),
        step("part", 1, parent_step_id="agent", **(around or {})),
        step("model", 2, parent_step_id="part", input_summary=asked, output_summary=output),
        step("next", 3, parent_step_id="agent", output_summary="all is well"),
    ]
    return agent_run("success", steps=steps)


def guessed(run: AgentRun) -> list[tuple[str | None, str | None]]:
    found = analyze(run).findings
    return [(item.step_id, item.detail) for item in found if item.basis is AttributionBasis.RANKED_GUESS]


def test_the_model_call_inside_a_failed_step_wrote_what_failed() -> None:
    run = trace("call(1", around={"status": "failure", "error_message": "SyntaxError: '(' was never closed"})
    assert guessed(run) == [("model", "format_broken")]


def test_a_trace_without_signs_has_no_problems() -> None:
    assert guessed(trace("The answer follows from the page.")) == []


def test_code_with_assumed_values_is_an_invented_fact() -> None:
    assert guessed(trace("```py\nprice = 12  # assume a price\n```")) == [("model", "invented_fact")]


def test_code_that_answers_before_any_result_leaves_the_goal() -> None:
    assert guessed(trace("```py\nfinal_answer(12)\n```")) == [("model", "goal_lost")]


def test_a_step_that_answers_to_an_error_is_named() -> None:
    assert guessed(trace("again", asked="Error: unknown name 'x'")) == [("model", "format_broken")]


def test_text_that_merely_mentions_errors_names_no_step() -> None:
    assert guessed(trace("an error is possible", asked="Write about errors and mistakes.")) == []


def test_a_flat_run_that_succeeded_has_no_guessed_problems() -> None:
    steps = [step(f"s{n}", n, output_summary="```py\nfinal_answer(12)  # assume\n```") for n in range(4)]
    assert guessed(agent_run("success", steps=steps)) == []
