"""Ranked guesses in dialogues with tools and in runs of one step, for sources without a trained model."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import Attribution, AttributionBasis, Category
from relab.telemetry.models import AgentRun
from support.telemetry.runs import RunBody, step
from unit.rca.builders import agent_run, call, failed, findings

ANSWERS = ("Hi!", "Which order?", "Which user?", "It cannot be cancelled.", "Bye.")
ASKED = ("Cancel my order.", "Number 1.", "Ann.", "Then keep it.")


def clerk_run(asked: tuple[str | None, ...] = (None, *ASKED), **fields: Any) -> AgentRun:
    """Return a failed run of one agent: five answers, and a call that reads after the third one."""
    steps = [
        step(f"s{n}", 2 * n, agent_name="clerk", output_summary=text, input_summary=said)
        for n, (text, said) in enumerate(zip(ANSWERS, asked, strict=True))
    ]
    reading = step("read", 5, agent_name="clerk")
    calls = [call("c", 5, step_id="read", tool_name="get_order", result_summary="order 1")]
    return agent_run(**{"steps": [*steps, reading], "tool_calls": calls} | fields)


def place_of(run: AgentRun) -> Attribution:
    place = analyze(run).attribution
    assert place is not None
    return place


def test_the_last_answer_to_a_user_whose_messages_are_inputs_is_the_first_candidate() -> None:
    assert [found.step_id for found in analyze(clerk_run()).candidates] == ["s4", "s1"]


def test_the_beginning_of_a_dialogue_that_answers_an_input_is_a_candidate() -> None:
    assert [found.step_id for found in analyze(clerk_run(("Hello.", *ASKED))).candidates] == ["s4", "s1", "s0"]


def test_answers_to_one_input_are_no_dialogue() -> None:
    assert analyze(clerk_run(("Cancel my order.",) * 5)).candidates[0].step_id == "s1"


def test_inputs_of_an_agent_without_tools_are_no_dialogue() -> None:
    assert analyze(clerk_run(tool_calls=[])).candidates[0].step_id == "s1"


def unknown_tool_run(*later: RunBody) -> AgentRun:
    steps = [step(f"s{n}", n, agent_name="clerk", output_summary=f"text {n}") for n in range(4)]
    lost = failed("c0", 0, step_id="s0", tool_name="check_status", error_message="Tool 'check_status' not found.")
    return agent_run(steps=steps, tool_calls=[lost, *later])


def test_a_later_change_is_a_better_place_than_a_tool_that_does_not_exist() -> None:
    run = unknown_tool_run(call("c2", 2, step_id="s2", tool_name="cancel_order", result_summary="done"))
    assert [finding.detail for finding in findings(analyze(run), Category.TOOL_SCHEMA_MISMATCH)] == ["unknown_tool"]
    assert place_of(run).step_id == "s2"
    assert place_of(run).basis is AttributionBasis.RANKED_GUESS


def test_a_tool_that_does_not_exist_is_the_place_if_no_other_call_succeeds() -> None:
    assert place_of(unknown_tool_run()).call_id == "c0"


CUSTOMER = '{"customer": "C1", "name": "Ann Smith", "status": "active", "lines": ["L1", "L2"], "balance": 12.5}'


def looking_run(result: RunBody) -> AgentRun:
    """Return a failed dialogue in which each message is a step, and the agent reads the same customer four times."""
    steps, calls = [step("u0", 0, agent_name="user", output_summary="Help.")], []
    for n in range(1, 13, 3):
        steps += [
            step(f"a{n}", n, agent_name="assistant", output_summary=f"I look again, {n}."),
            step(f"t{n}", n + 1, output_summary=CUSTOMER, **result),
            step(f"u{n}", n + 2, agent_name="user", output_summary=f"No, {n}."),
        ]
        reading = {"tool_name": "get_customer", "args_json": {"turn": n}, "result_summary": CUSTOMER}
        calls.append(call(f"c{n}", n, step_id=f"a{n}", **reading))
    last = step("a13", 13, agent_name="assistant", output_summary="Bye.")
    return agent_run(steps=[*steps, last], tool_calls=calls)


@pytest.mark.parametrize(
    "result", [{"agent_name": "tool"}, {"name": "get_customer"}, {"name": "get_customer", "agent_name": "get_customer"}]
)
def test_a_message_that_is_the_result_of_a_tool_is_no_place(result: RunBody) -> None:
    place = place_of(looking_run(result))
    assert place.step_id == "a13"
    assert place.agent_name == "assistant"


def test_an_agent_that_is_called_as_a_tool_is_still_an_agent() -> None:
    steps = [
        step("boss", 0, agent_name="boss", output_summary="Ask the researcher."),
        step("work", 1, name="think", agent_name="researcher", output_summary="found it"),
        step("end", 2, agent_name="boss", output_summary="Here it is."),
    ]
    calls = [call("c", 0, step_id="boss", tool_name="researcher", result_summary="found it")]
    assert analyze(agent_run(steps=steps, tool_calls=calls)).candidates[0].step_id == "work"


def test_the_only_step_of_a_run_is_its_candidate() -> None:
    (found,) = analyze(agent_run(steps=[step("s1", agent_name="clerk", output_summary="It is 4.")])).candidates
    assert found.step_id == "s1"
    assert found.reasons == ("it is the only step of the run",)


@pytest.mark.parametrize("only", [{"agent_name": "user", "output_summary": "Hello."}, {}])
def test_an_only_step_that_no_agent_wrote_or_without_a_text_is_no_candidate(only: RunBody) -> None:
    assert analyze(agent_run(steps=[step("s1", **only)])).candidates == ()


def test_the_agent_of_a_run_whose_steps_name_no_agent_is_the_one_of_the_run() -> None:
    steps = [step(f"s{n}", n, output_summary=f"text {n}") for n in range(3)]
    run = agent_run(steps=steps, agent_name="clerk")
    assert place_of(run).agent_name == "clerk"
    assert place_of(agent_run(steps=[step("s1")], agent_name="clerk", tool_calls=[failed()])).agent_name == "clerk"


def test_a_step_without_an_agent_beside_others_with_one_has_none() -> None:
    steps = [step("s0", 0, agent_name="a", output_summary="x"), step("s1", 1, output_summary="y")]
    place = place_of(agent_run(steps=steps, tool_calls=[failed("c", 1, step_id="s1", error_message="it is broken")]))
    assert place.step_id == "s1"
    assert place.agent_name is None
