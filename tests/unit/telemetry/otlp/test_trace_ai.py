"""Spans of traceAI: OpenInference's structure under other prefixes, with names of the GenAI conventions."""

from __future__ import annotations

import json

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import exception, extra, id_of, run_of, span

KIND = "gen_ai.span.kind"
QUESTION, ANSWER, PROMPT = "Where is order A-17?", "It was shipped.", "You look up orders."
TOOL = {
    KIND: "TOOL",
    "gen_ai.tool.name": "lookup",
    "input.value": json.dumps({"order_id": "A-17"}),
    "output.value": "shipped",
}
ASKED = {
    KIND: "LLM",
    "input.value": PROMPT,
    "gen_ai.input.messages.0.message.role": "system",
    "gen_ai.input.messages.0.message.content": PROMPT,
    "gen_ai.input.messages.1.message.role": "user",
    "gen_ai.input.messages.1.message.content": QUESTION,
}
ANSWERED = ASKED | {
    "gen_ai.request.model": "m-1",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
    "output.value": ANSWER,
    "gen_ai.output.messages.0.message.role": "assistant",
    "gen_ai.output.messages.0.message.content": ANSWER,
}


def answered() -> AgentRun:
    """Return a run whose agent span has no texts, so that they can only be read from the messages."""
    return run_of(
        span("agent", None, {KIND: "AGENT"}, title="Desk", end=9),
        span("tool", "agent", TOOL, title="lookup", start=1, end=2),
        span("model", "agent", ANSWERED, title="ChatCompletion", start=3, end=8),
    )


def test_run_has_the_name_of_the_agents_span() -> None:
    assert answered().agent_name == "Desk"


def test_question_is_the_users_message_and_not_the_system_prompt() -> None:
    assert answered().question == QUESTION
    assert answered().answer == ANSWER


def test_tool_call_has_name_arguments_and_result() -> None:
    [call] = answered().tool_calls
    assert call.tool_name == "lookup"
    assert call.args_json == {"order_id": "A-17"}
    assert call.result_summary == "shipped"


def test_model_call_is_the_only_step_and_has_its_tokens() -> None:
    [step] = answered().steps
    assert step.step_id == id_of("model")
    assert (extra(step, "tokens_prompt"), extra(step, "tokens_completion")) == (100, 20)


def test_failed_model_call_that_names_no_model_is_a_step() -> None:
    run = run_of(
        span("agent", None, {KIND: "AGENT"}, title="Desk", end=9),
        span("model", "agent", ASKED, start=3, end=8, status=2, events=[exception("openai.RateLimitError", "429")]),
    )
    [step] = run.steps
    assert step.status == "failure"
    assert step.error_class == "openai.RateLimitError"
    assert run.question == QUESTION
