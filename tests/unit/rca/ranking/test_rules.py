"""Ranked guesses from the structure of a run, for sources without a trained model."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import AttributionBasis, Confidence, Report
from relab.telemetry.models import AgentRun
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, failed


def conversation(*turns: tuple[str, str], **fields: Any) -> AgentRun:
    return agent_run(
        steps=[step(f"s{n}", n, agent_name=agent, output_summary=text) for n, (agent, text) in enumerate(turns)],
        **fields,
    )


def places(report: Report) -> list[str]:
    return [candidate.step_id for candidate in report.candidates]


def test_the_step_before_the_first_failed_execution_is_the_first_candidate() -> None:
    run = conversation(
        ("planner", "the plan"),
        ("analyst", "an idea"),
        ("coder", "run this"),
        ("terminal", "exitcode: 1 (execution failed)\nCode output: no such file"),
        ("coder", "sorry"),
    )
    report = analyze(run)
    assert places(report)[0] == "s2"
    assert "error in executed code" in report.candidates[0].reasons[0]
    assert report.candidates[0].evidence_ids == ("ev_step_s2", "ev_step_s3")


def test_without_an_error_the_first_answer_to_the_task_is_the_first_candidate() -> None:
    report = analyze(conversation(("a", "the task"), ("b", "an answer"), ("a", "a question"), ("b", "the end")))
    assert places(report) == ["s1", "s0", "s3"]


def test_text_that_mentions_an_error_outside_an_execution_is_ignored() -> None:
    report = analyze(
        conversation(("a", "the task"), ("b", "an answer"), ("a", "a ValueError is a class"), ("b", "end"))
    )
    assert places(report)[0] == "s1"


def test_actions_rank_before_the_steps_of_a_coordinator() -> None:
    run = conversation(
        ("user", "the task"),
        ("boss", "facts"),
        ("boss", "the plan"),
        ("boss", "surfer, search"),
        ("surfer", "a page"),
        ("boss", "again"),
        ("surfer", "the same page"),
        ("boss", "the answer"),
    )
    report = analyze(run)
    assert places(report)[:2] == ["s4", "s6"]
    assert "'boss'" in report.candidates[0].reasons[0]
    assert report.attribution is not None
    assert report.attribution.agent_name == "surfer"


def test_steps_named_by_their_speakers_rank_like_steps_with_agents() -> None:
    turns = (
        ("user", "the task"),
        ("boss (thought)", "facts"),
        ("boss (thought)", "the plan"),
        ("boss (-> surfer)", "surfer, search"),
        ("surfer", "a page"),
        ("boss (-> surfer)", "again"),
        ("surfer", "the same page"),
        ("boss (termination)", "the answer"),
    )
    run = agent_run(steps=[step(f"s{n}", n, name=name, output_summary=text) for n, (name, text) in enumerate(turns)])
    assert places(analyze(run))[:2] == ["s4", "s6"]


def test_a_guess_is_marked_and_has_low_confidence() -> None:
    report = analyze(conversation(("a", "x"), ("b", "y"), ("c", "z")))
    assert report.attribution is not None
    assert report.attribution.basis is AttributionBasis.RANKED_GUESS
    assert report.attribution.confidence is Confidence.LOW


def test_candidates_quote_the_run_verbatim() -> None:
    run = conversation(("a", "x" * 10_000), ("b", "\x00\udcff line\n" * 900), ("c", "z"), ("d", "é" * 5_000))
    report = analyze(run)
    assert len(report.candidates) == 3
    assert all(verify_verbatim(run, item) for item in report.evidence_index)


def test_a_run_with_fewer_than_three_texts_has_no_candidate() -> None:
    assert analyze(conversation(("a", "x"), ("b", "y"))).candidates == ()
    assert analyze(agent_run()).candidates == ()


def test_a_successful_run_has_no_candidate() -> None:
    steps = [step(f"s{n}", n, agent_name="ab"[n % 2], output_summary=f"text {n}") for n in range(6)]
    assert analyze(agent_run(steps=steps, status="success", error_message=None)).candidates == ()


def test_a_failed_call_that_names_its_cause_is_the_attribution_and_no_guess() -> None:
    steps = [step(f"s{n}", n, agent_name="ab"[n % 2], output_summary=f"text {n}") for n in range(4)]
    calls = [failed("c1", 2, step_id="s2", error_message="403 Forbidden: no right to read", status_code=403)]
    report = analyze(agent_run(steps=steps, tool_calls=calls))
    assert report.attribution is not None
    assert report.attribution.basis is AttributionBasis.EVIDENCE
    assert report.attribution.call_id == "c1"
    assert report.candidates == ()


def test_a_failed_call_with_a_vague_error_keeps_the_attribution() -> None:
    steps = [step(f"s{n}", n, agent_name="ab"[n % 2], output_summary=f"text {n}") for n in range(4)]
    report = analyze(agent_run(steps=steps, tool_calls=[failed("c1", 2, step_id="s2", error_message="it is broken")]))
    assert report.attribution is not None
    assert report.attribution.basis is AttributionBasis.EVIDENCE
    assert report.attribution.call_id == "c1"
    assert places(report)[0] == "s2"


def test_a_step_around_other_steps_is_no_candidate() -> None:
    inner = [step(f"s{n}", n, parent_step_id="outer", output_summary=f"text {n}") for n in range(1, 5)]
    report = analyze(agent_run(steps=[step("outer", 0, output_summary="all"), *inner]))
    assert "outer" not in places(report)
    assert places(report)[0] == "s2"


@pytest.mark.parametrize("text", ["Error" * 200_000, "exit code: " * 90_000, "1.2,3" * 200_000, "a" * 1_000_000])
def test_a_crafted_text_of_a_megabyte_is_ranked(text: str) -> None:
    report = analyze(conversation(("a", text), ("b", text), ("c", text)))
    assert len(report.candidates) == 3


def test_a_stored_report_keeps_its_candidates() -> None:
    report = analyze(conversation(("a", "x"), ("b", "y"), ("c", "z")))
    assert Report.load(report.model_dump(mode="json")) == report


def test_code_that_ended_well_may_print_the_word_error() -> None:
    run = conversation(
        ("planner", "the plan"),
        ("coder", "run this"),
        ("terminal", "exitcode: 0 (execution succeeded)\nCode output: Mean Absolute Error: 0.12"),
        ("coder", "run that"),
        ("terminal", "exitcode: 1 (execution failed)\nCode output: no such file"),
    )

    assert places(analyze(run))[0] == "s3"


def test_steps_with_a_name_but_no_text_are_no_candidates() -> None:
    run = agent_run(steps=[step(f"s{n}", n, name=name) for n, name in enumerate(("plan", "measure", "judge", "end"))])

    assert analyze(run).candidates == ()


def shop_run(**changes: Any) -> AgentRun:
    """A run that reads, changes an order twice, and answers."""
    steps = [step(f"s{n}", n, agent_name="clerk", output_summary=f"text {n}") for n in range(5)]
    calls = [
        call("c0", 0, step_id="s0", tool_name="get_order", result_summary='{"id": 1}'),
        call("c1", 1, step_id="s1", tool_name="cancel_order", result_summary='{"id": 1}', args_json={"id": 1}),
        call("c3", 3, step_id="s3", tool_name="refund_order", result_summary="paid"),
    ]
    return agent_run(**{"steps": steps, "tool_calls": calls} | changes)


def test_first_call_that_changed_something_is_the_first_candidate() -> None:
    report = analyze(shop_run())
    assert places(report) == ["s1", "s3", "s4"]
    assert "cancel_order" in report.candidates[0].reasons[0]
    assert report.candidates[0].evidence_ids == ("ev_step_s1", "ev_tool_c1")


def test_call_that_failed_changed_nothing() -> None:
    calls = [
        call("c0", 0, step_id="s0", tool_name="cancel_order", status="failure", result_summary="busy"),
        call("c2", 2, step_id="s2", tool_name="cancel_order", result_summary="done"),
    ]
    assert places(analyze(shop_run(tool_calls=calls)))[0] == "s2"


def test_call_of_an_outer_step_belongs_to_the_turn_before_it() -> None:
    outer = step("run", 0, agent_name="clerk")
    steps = [step(f"s{n}", n, agent_name="clerk", output_summary="text", parent_step_id="run") for n in range(4)]
    calls = [call("c", 2, step_id="run", tool_name="cancel_order", result_summary="done")]
    assert places(analyze(agent_run(steps=[outer, *steps], tool_calls=calls)))[0] == "s2"


def test_change_after_a_recovered_error_is_the_place_of_the_failure() -> None:
    calls = [
        call("c0", 0, step_id="s0", tool_name="pay", status="failure", error_message="Error: too little paid"),
        call("c1", 1, step_id="s1", tool_name="pay", result_summary="paid"),
    ]
    report = analyze(shop_run(tool_calls=calls))
    assert report.attribution is not None
    assert report.attribution.step_id == "s1"
    assert report.attribution.basis is AttributionBasis.RANKED_GUESS
    assert "c0" in {item.ref_id for item in report.evidence_index}


@pytest.mark.parametrize(("failed_at", "place"), [(0, "s1"), (3, "s3")])
def test_unclear_error_is_the_place_of_the_failure_if_no_change_follows(failed_at: int, place: str) -> None:
    calls = [
        call("f", failed_at, step_id=f"s{failed_at}", tool_name="seats", status="failure", error_message="not enough"),
        call("c1", 1, step_id="s1", tool_name="pay", result_summary="paid"),
    ]
    report = analyze(shop_run(tool_calls=calls))
    assert report.attribution is not None
    assert report.attribution.step_id == place


def test_report_of_an_unclear_error_names_the_later_change_too() -> None:
    calls = [
        call("f", 0, step_id="s0", tool_name="seats", status="failure", error_message="not enough"),
        call("c1", 1, step_id="s1", tool_name="pay", result_summary="paid"),
    ]
    report = analyze(shop_run(tool_calls=calls))
    assert "seats failed" in report.summary
    assert report.summary.endswith('A ranked guess of the first mistake is step "do s1" [s1].')
    assert [item.title for item in report.action_items] == [
        "Investigate the failed step",
        "Read the steps that may have gone wrong first",
    ]


DIALOGUE = (
    ("user", "I want to cancel my order."),
    ("assistant", "Which one?"),
    ("user", "Number 1."),
    ("assistant", '{"name": "cancel_order", "arguments": {"id": 2}}'),
    ("tool", "done"),
    ("assistant", "It is cancelled."),
    ("user", "Thank you."),
)


def test_call_that_a_message_contains_is_the_first_candidate() -> None:
    report = analyze(conversation(*DIALOGUE))
    assert places(report)[0] == "s3"
    assert report.attribution is not None
    assert report.attribution.agent_name == "assistant"


def test_user_and_tools_are_no_candidates_of_a_dialogue() -> None:
    turns = [(who, "It failed.") if number == 3 else (who, text) for number, (who, text) in enumerate(DIALOGUE)]
    assert places(analyze(conversation(*turns))) == ["s5", "s1"]


def test_call_of_a_message_that_failed_changed_nothing() -> None:
    turns = (*DIALOGUE[:4], ("tool", "Error: no such order"), *DIALOGUE[5:])
    reasons = [reason for candidate in analyze(conversation(*turns)).candidates for reason in candidate.reasons]
    assert not any("cancel_order" in reason for reason in reasons)


def tool_agent(*tools: str | None, nested: bool = False) -> AgentRun:
    """Return a failed run of one agent: each step without a text calls a tool; a step without a tool is an answer."""
    around = {"parent_step_id": "outer"} if nested else {}
    steps = [step("outer", 0, agent_name="clerk")] if nested else []
    calls = []
    for n, tool in enumerate(tools, 1):
        texts = {} if tool else {"output_summary": f"answer {n}"}
        steps.append(step(f"s{n}", n, agent_name="clerk", **around, **texts))
        if tool is not None:
            place = "outer" if nested else f"s{n}"
            calls.append(
                call(f"c{n}", n + 0.5, step_id=place, tool_name=tool, args_json={"id": n}, result_summary="ok")
            )
    return agent_run(steps=steps, tool_calls=calls)


def test_steps_that_only_call_tools_are_candidates_and_their_calls_are_quoted() -> None:
    run = tool_agent("get_user", "cancel_order", None)
    report = analyze(run)
    assert places(report)[0] == "s2"
    assert report.candidates[0].evidence_ids == ("ev_tool_c2",)
    assert all(verify_verbatim(run, item) for item in report.evidence_index)


def test_the_first_and_the_last_call_that_change_something_come_first() -> None:
    report = analyze(tool_agent("get_user", "search_flights", "cancelOrder", "get_order", "book_flight", None, None))
    assert places(report) == ["s3", "s5", "s7"]
    assert "cancelOrder" in report.candidates[0].reasons[0]


def test_a_call_belongs_to_the_last_step_before_it_inside_of_its_step() -> None:
    report = analyze(tool_agent("get_user", "get_order", "cancel_order", None, nested=True))
    assert places(report)[0] == "s3"


def test_the_answer_of_a_short_run_that_only_read_is_the_first_candidate() -> None:
    assert places(analyze(tool_agent("search", None))) == ["s2", "s1"]
    assert places(analyze(tool_agent("search", "search", "search", None)))[:2] == ["s4", "s2"]


def test_the_second_step_of_a_long_run_that_only_read_is_the_first_candidate() -> None:
    assert places(analyze(tool_agent(*["search"] * 6, None)))[:2] == ["s2", "s1"]


def test_messages_that_an_agent_receives_are_no_candidates() -> None:
    run = conversation(
        ("system", "the rules"),
        ("user", "cancel my order"),
        ("assistant", '{"name": "get_order", "arguments": "{}"}'),
        ("tool", "order 1"),
        ("assistant", '{"name": "cancel_order", "arguments": "{}"}'),
        ("tool", "done"),
        ("assistant", "It is cancelled."),
        ("user", "I wanted to keep it"),
    )
    report = analyze(run)
    assert places(report) == ["s4", "s6", "s2"]
    assert report.attribution is not None
    assert report.attribution.agent_name == "assistant"


def test_the_agent_that_is_given_work_by_the_one_that_began_is_the_first_candidate() -> None:
    run = conversation(
        ("leader", "the task"),
        ("leader", "a plan"),
        ("leader", "engineer, write it"),
        ("engineer", "I write it"),
        ("engineer", "it is written"),
        ("leader", "done"),
    )
    report = analyze(run)
    assert places(report)[:2] == ["s3", "s4"]
    assert report.attribution is not None
    assert report.attribution.agent_name == "engineer"


def test_agents_that_discuss_have_no_leader() -> None:
    run = conversation(("a", "the task"), ("a", "an idea"), ("b", "no"), ("a", "yes"), ("b", "no"), ("a", "the end"))
    assert places(analyze(run))[0] == "s1"


def test_a_failure_from_which_the_run_recovered_does_not_explain_it() -> None:
    steps = [step(f"s{n}", n, agent_name="clerk", output_summary=f"text {n}") for n in range(7)]
    calls = [
        failed("c1", 2, step_id="s2", tool_name="get_order", args_json={"id": 1}, error_message="it is broken"),
        call("c2", 3, step_id="s3", tool_name="get_order", args_json={"id": 1}, result_summary="order 1"),
        call("c3", 4, step_id="s4", tool_name="cancel_order", args_json={"id": 1}, result_summary="done"),
    ]
    report = analyze(agent_run(steps=steps, tool_calls=calls))
    assert report.findings[0].recovered
    assert places(report)[0] == "s4"
    assert report.attribution is not None
    assert report.attribution.basis is AttributionBasis.RANKED_GUESS
    assert report.attribution.step_id == "s4"


def test_call_at_the_result_of_a_tool_belongs_to_the_agent_that_asked_for_it() -> None:
    turns = [(who, "done" if number == 3 else text) for number, (who, text) in enumerate(DIALOGUE)]
    calls = [call("c", 4, step_id="s4", tool_name="cancel_order", result_summary="done")]
    assert places(analyze(conversation(*turns, tool_calls=calls)))[0] == "s3"


def test_only_change_has_one_reason() -> None:
    reasons = analyze(conversation(*DIALOGUE)).candidates[0].reasons
    assert [reason for reason in reasons if "cancel_order" in reason] == [
        "it is the first step that changed something, by the tool 'cancel_order'"
    ]


def test_tools_that_a_system_prompt_describes_are_no_calls() -> None:
    prompt = '{"type": "function", "function": {"name": "cancel_order", "parameters": {}}}'
    turns = [(who, "It failed.") if number == 3 else (who, text) for number, (who, text) in enumerate(DIALOGUE)]
    assert places(analyze(conversation(("system", prompt), *turns))) == ["s6", "s2"]


def test_source_of_an_error_is_the_step_before_all_results_of_its_calls() -> None:
    turns = (*DIALOGUE[:3], ("assistant", "I call two."), ("tool", "done"), ("tool", "Error: busy"), *DIALOGUE[5:])
    assert places(analyze(conversation(*turns))) == ["s3", "s6", "s1"]


def test_error_after_a_message_of_the_user_has_no_source() -> None:
    turns = (*DIALOGUE[:3], ("tool", "Error: busy"), *DIALOGUE[5:])
    assert places(analyze(conversation(*turns))) == ["s4", "s1"]


@pytest.mark.parametrize("agent", ["Customer Support", "User Researcher", "Tool Expert", "Function Designer"])
def test_longer_name_is_one_of_an_agent(agent: str) -> None:
    turns = ((agent if who == "assistant" else who, text) for who, text in DIALOGUE)
    assert places(analyze(conversation(*turns)))[:2] == ["s3", "s5"]
