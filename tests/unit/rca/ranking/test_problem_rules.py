"""Rules that find problems from the structure of a trace, for sources without a trained model."""

from __future__ import annotations

from relab.rca.analyzer import analyze
from relab.rca.models import AttributionBasis
from relab.telemetry.models import AgentRun
from support.telemetry.runs import step
from unit.rca.builders import agent_run, failed


def trace(output: str, *, asked: str = "the task", around: dict[str, object] | None = None) -> AgentRun:
    """Return a successful run: a step around a model call with this input and output, then a second model call."""
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


def test_the_failure_of_a_step_is_one_finding_at_the_model_call_that_wrote_it() -> None:
    run = trace("call(1", around={"status": "failure", "error_message": "SyntaxError: '(' was never closed"})
    report = analyze(run)
    assert [(item.step_id, item.detail) for item in report.findings] == [("model", "format_broken")]
    cited = {item.ref_id for item in report.evidence_index if item.evidence_id in report.findings[0].evidence_ids}
    assert cited == {"part", "model"}


def called(**failure: object) -> list[tuple[str | None, str | None, str | None]]:
    """Return step, call and category of the findings for a failed call that a model call in the same step wrote."""
    steps = [
        step("agent", 0, name="agent"),
        step("model", 1, parent_step_id="agent", output_summary="page_down(lines=2)"),
        step("next", 4, parent_step_id="agent", output_summary="all is well"),
    ]
    page_down = failed(offset_s=2, step_id="agent", tool_name="page_down", **failure)
    report = analyze(agent_run(steps=steps, tool_calls=[page_down]))
    return [(item.step_id, item.call_id, item.category.value) for item in report.findings]


def test_arguments_that_a_tool_rejects_are_a_finding_at_the_model_call_that_wrote_them() -> None:
    rejected = "TypeError: page_down() got an unexpected keyword argument 'lines'"
    assert called(error_message=rejected) == [("model", None, "tool_schema_mismatch")]


def test_a_model_call_is_not_blamed_for_a_rate_limit() -> None:
    assert called(status_code=429, error_message="Too many requests") == [("agent", "c1", "rate_limited")]


def test_trace_without_signs_of_a_problem_has_no_findings() -> None:
    assert guessed(trace("The answer follows from the page.")) == []


def test_code_with_assumed_values_is_an_invented_fact() -> None:
    assert guessed(trace("```py\nprice = 12  # assume a price\n```")) == [("model", "invented_fact")]


def test_code_that_answers_before_any_result_is_a_lost_goal() -> None:
    assert guessed(trace("```py\nfinal_answer(12)\n```")) == [("model", "goal_lost")]


def test_step_that_responds_to_an_error_is_named() -> None:
    assert guessed(trace("again", asked="Error: unknown name 'x'")) == [("model", "format_broken")]


def test_text_that_merely_mentions_errors_names_no_step() -> None:
    assert guessed(trace("an error is possible", asked="Write about errors and mistakes.")) == []


def test_a_flat_run_that_succeeded_has_no_guessed_problems() -> None:
    steps = [step(f"s{n}", n, output_summary="```py\nfinal_answer(12)  # assume\n```") for n in range(4)]
    assert guessed(agent_run("success", steps=steps)) == []


def answered(**last: object) -> list[tuple[str | None, str | None]]:
    """Return the guesses for a trace whose last model call received an error as its input."""
    steps = [
        step("agent", 0, name="agent"),
        step("model", 1, parent_step_id="agent", output_summary="look_up(order=17)", span_kind="llm"),
        step("sorry", 4, parent_step_id="agent", input_summary="Error: no such order", **last),
    ]
    return guessed(agent_run("success", steps=steps))


def test_the_last_step_that_reports_an_error_to_the_user_is_not_named() -> None:
    assert answered(output_summary="I am sorry, I could not look it up.", span_kind="llm") == []


def test_a_hook_around_marked_model_calls_is_not_named() -> None:
    assert answered(output_summary="{}") == []


def test_a_model_call_that_failed_by_itself_is_not_named_for_the_error_that_it_was_given() -> None:
    failure = {"status": "failure", "error_message": "Error code: 429 - Rate limit reached"}
    steps = [
        step("agent", 0, name="agent"),
        step("model", 1, parent_step_id="agent", input_summary="Error: no such order", **failure),
        step("next", 4, parent_step_id="agent", output_summary="all is well"),
    ]
    assert guessed(agent_run("success", steps=steps)) == []
