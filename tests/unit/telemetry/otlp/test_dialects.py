"""Dialects: the spans of each dialect become the same steps and tool calls."""

from __future__ import annotations

import pytest

from relab.telemetry.models import AgentRun
from relab.telemetry.otlp.dialects import DIALECTS, normalize
from relab.telemetry.otlp.spans import read_span
from unit.telemetry.otlp.builders import AGENT, CHAT, extra, id_of, record_of_spans, run_of, span
from unit.telemetry.otlp.dialect_spans import ANSWER, ARGUMENTS, QUESTION, RESULT, RUNS, as_json


def run_in(dialect: str) -> AgentRun:
    (agent, of_agent), (tool, of_tool), (model, of_model) = RUNS[dialect]
    return run_of(
        span("agent", None, of_agent, title=agent, start=0, end=9),
        span("tool", "agent", of_tool, title=tool, start=1, end=2),
        span("model", "agent", of_model, title=model, start=3, end=8),
        resource={"service.name": "service"},
    )


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> AgentRun:
    """Return the run of an agent that calls one tool, in each dialect."""
    return run_in(request.param)


def test_run_has_the_agents_name_not_the_services(run: AgentRun) -> None:
    assert run.agent_name == "Desk"


def test_run_has_model_session_and_user(run: AgentRun) -> None:
    assert run.model == "m-1"
    assert run.conversation_id == "s"
    assert (run.model_extra or {})["user_id"] == "u"


def test_run_has_question_and_answer(run: AgentRun) -> None:
    assert run.question == QUESTION
    assert run.answer == ANSWER


def test_tool_call_has_name_arguments_and_result_without_wrappers(run: AgentRun) -> None:
    [call] = run.tool_calls
    assert call.call_id == id_of("tool")
    assert call.tool_name == "lookup"
    assert call.args_json == ARGUMENTS
    assert call.result_summary == RESULT
    assert call.status == "success"


def test_model_call_is_the_only_step(run: AgentRun) -> None:
    [step] = run.steps
    assert step.step_id == id_of("model")
    assert extra(step, "span_kind") == "llm"


def test_events_in_an_attribute_of_pydantic_ai_are_the_messages_of_the_model_call() -> None:
    [step] = run_in("pydantic-ai, first version").steps
    assert step.input_summary == QUESTION
    assert step.output_summary == ANSWER


def test_every_dialect_has_a_run_here_or_tests_elsewhere() -> None:
    shown = {name.partition(",")[0] for name in RUNS}
    elsewhere = {"OpenTelemetry GenAI", "without a convention", "Haystack", "AutoGen", "LiteLLM"}
    elsewhere |= {"OpenAI Agents SDK", "OpenLIT", "Mastra", "Genkit", "VoltAgent", "Claude Code"}
    elsewhere |= {"Codex CLI", "Gemini CLI", "Qwen Code and opencode"}
    elsewhere |= {"Model Context Protocol", "AgentOps", "Logfire"}
    elsewhere |= {"LiveKit Agents", "Pipecat", "Effect"}
    assert {dialect.name.partition(",")[0] for dialect in DIALECTS} == shown | elsewhere


def test_span_with_the_current_names_alone_is_not_translated() -> None:
    chat = CHAT | {"gen_ai.input.messages": as_json([{"role": "user", "content": QUESTION}])}
    sent = read_span(span("it", None, chat | {"gen_ai.output.messages": as_json([])}).SerializeToString())

    assert normalize(sent) is sent


def test_current_names_take_precedence_over_names_of_a_dialect() -> None:
    run = run_of(
        span(
            "it",
            None,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "current",
                "llm.model_name": "older",
                "openinference.span.kind": "CHAIN",
            },
        )
    )
    assert run.model == "current"
    assert extra(run.steps[0], "span_kind") == "llm"


STRANDS_EVENTS = [
    ("gen_ai.system.message", {"content": as_json([{"text": "Be kind."}])}),
    ("gen_ai.user.message", {"content": as_json([{"text": QUESTION}])}),
    (
        "gen_ai.choice",
        {
            "finish_reason": "tool_use",
            "message": as_json([{"toolUse": {"toolUseId": "c1", "name": "lookup", "input": ARGUMENTS}}]),
        },
    ),
]


def test_messages_are_read_from_span_events() -> None:
    run = run_of(
        span("agent", None, AGENT, end=9),
        span("chat1", "agent", CHAT, start=1, end=2, events=STRANDS_EVENTS),
        span(
            "tool",
            "agent",
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c1"},
            start=3,
            end=4,
            events=[
                ("gen_ai.tool.message", {"role": "tool", "content": as_json(ARGUMENTS), "id": "c1"}),
                ("gen_ai.choice", {"message": as_json([{"text": RESULT}]), "id": "c1"}),
            ],
        ),
        span(
            "chat2", "agent", CHAT, start=5, end=6, events=[("gen_ai.choice", {"message": as_json([{"text": ANSWER}])})]
        ),
    )
    assert run.question == QUESTION
    assert run.answer == ANSWER
    [call] = run.tool_calls
    assert call.args_json == ARGUMENTS
    assert call.result_summary == RESULT
    assert call.step_id == id_of("chat1")
    assert extra(run.steps[0], "finish_reasons") == ["tool_use"]


def test_messages_are_read_from_the_bodies_of_log_events() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": as_json(ARGUMENTS)}}
    events = [
        ("gen_ai.user.message", {"gen_ai.system": "openai", "body": {"content": QUESTION}}),
        (
            "gen_ai.choice",
            {
                "body": {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "tool_calls": [call]},
                }
            },
        ),
    ]
    run = run_of(span("agent", None, AGENT, end=9), span("chat", "agent", CHAT, start=1, events=events))
    assert run.question == QUESTION
    [requested] = run.tool_calls
    assert requested.tool_name == "lookup"
    assert requested.args_json == ARGUMENTS
    assert requested.status == "skipped"


def test_name_of_a_span_without_input_and_output_makes_no_tool_call() -> None:
    run = run_of(
        span("agent", None, AGENT, end=9), span("it", "agent", {"http.url": "u"}, title="tool: lookup", start=1)
    )
    assert run.tool_calls == []


def test_contradictory_flattened_values_are_read_in_part() -> None:
    attributes = {
        "tool.name": "lookup",
        "tool.args.a": 1,
        "tool.args.a.b": 2,
        "tool.args.list.0": "x",
        "tool.args.list.1": "y",
    }
    run = run_of(span("agent", None, AGENT, end=9), span("tool", "agent", attributes, start=1))
    [call] = run.tool_calls
    assert call.args_json == {"a": 1, "list": ["x", "y"]}


def test_token_counts_are_read_from_texts() -> None:
    run = run_of(span("it", None, {**CHAT, "gen_ai.usage.input_tokens": "12", "gen_ai.usage.output_tokens": "many"}))
    assert extra(run.steps[0], "tokens_prompt") == 12
    assert extra(run.steps[0], "tokens_completion") is None


def test_haystack_input_whose_messages_are_not_a_list_is_no_conversation() -> None:
    text = '{"messages": ["ChatMessage(_role=1)"], "messages": 5}'
    [step] = run_of(span("root", None, AGENT), span("it", "root", CHAT | {"input.value": text})).steps
    assert step.input_summary == text


@pytest.mark.parametrize(
    ("title", "more", "name"),
    [
        ("lookup.__call__", {}, "lookup"),
        ("lookup.acall", {}, "lookup"),
        ("lookup.__call__", {"tool.name": "find"}, "find"),
        ("lookup", {}, "lookup"),
    ],
)
def test_tool_of_dspy_has_the_name_before_the_method(title: str, more: dict[str, str], name: str) -> None:
    run = run_of(
        span("agent", None, {"openinference.span.kind": "AGENT"}, title="Desk.forward", start=0, end=9),
        span("tool", "agent", {"openinference.span.kind": "TOOL", **more}, title=title, start=1, end=2),
    )

    assert [call.tool_name for call in run.tool_calls] == [name]


def test_run_of_pydantic_ai_that_ended_before_its_first_answer_has_an_unknown_outcome() -> None:
    agent = AGENT | {"agent_name": "shop-agent", "pydantic_ai.all_messages": "[]"}
    record = record_of_spans(span("run", None, agent, end=9), span("chat", "run", CHAT, start=1, end=8))
    assert (record.row.outcome, record.row.outcome_rule) == ("unknown", "no_answer")


def test_call_of_litellms_proxy_has_the_cost_and_the_session_and_user_of_its_client() -> None:
    run = run_of(
        span("request", None, {"http.route": "/v1/chat/completions"}, end=9, title="Received Proxy Server Request"),
        span(
            "call",
            "request",
            {
                "litellm.call_id": "9dc19e74",
                "gen_ai.operation.name": "acompletion",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.usage.input_tokens": 120,
                "gen_ai.cost.total_cost": 2.4e-05,
                "llm.user": "u",
                "metadata.usage_object": "{'prompt_tokens': 120, 'prompt_tokens_details': {'cached_tokens': 64}}",
                "metadata.user_api_key_end_user_id": "",
                "metadata.requester_metadata": "{'session_id': 's', 'headers': {'host': '127.0.0.1'}}",
            },
            title="litellm_request",
        ),
    )

    assert run.cost is not None
    assert (run.cost.total_cost_usd, run.cost.tokens_cached) == (2.4e-05, 64)
    assert (run.conversation_id, (run.model_extra or {})["user_id"]) == ("s", "u")


def test_texts_of_an_agent_with_opentelemetrys_operation_are_its_input_and_output() -> None:
    sent = read_span(span("it", None, AGENT | {"question": QUESTION, "answer": ANSWER}).SerializeToString())

    attributes = normalize(sent).attributes
    assert (attributes["relab.input"], attributes["relab.output"]) == (QUESTION, ANSWER)


def test_texts_under_opentelemetrys_names_have_precedence_over_those_of_hand_written_spans() -> None:
    messages = {"gen_ai.input.messages": as_json([{"role": "user", "content": QUESTION}]), "output": "internal state"}
    run = run_of(span("it", None, AGENT, end=9), span("m", "it", CHAT | messages, start=1, end=2))

    assert run.question == QUESTION
    assert run.answer is None


def test_arguments_on_a_model_call_are_not_its_question() -> None:
    """Effect notes the call of a tool on the span of the model that requested it."""
    run = run_of(
        span("it", None, AGENT, end=9), span("m", "it", CHAT | {"parameters": '{"query": "A-17"}'}, start=1, end=2)
    )

    assert run.question is None
