"""Spans of AgentOps' SDK: decorated functions, and a span inside a model call for each tool call that it requests."""

from __future__ import annotations

from typing import Any

from unit.telemetry.otlp.builders import extra, record_of_spans, run_of, span
from unit.telemetry.otlp.dialect_spans import as_json

QUESTION = "Where is order A-17?"
ARGUMENTS = {"order_id": "A-17"}
SESSION = {
    "agentops.span.kind": "session",
    "operation.name": "answer_customer",
    "agentops.session.end_state": "Success",
}
AGENT = {
    "agentops.span.kind": "agent",
    "operation.name": "order_desk",
    "agentops.agent.input": as_json({"args": [QUESTION], "kwargs": {}}),
    "agentops.agent.output": "It was shipped.",
}
REQUEST = {
    "tool.name": "order_lookup",
    "tool.parameters": as_json(ARGUMENTS),
    "tool.call.id": "call_1",
    "tool.call.type": "function",
}
TOOL = {
    "agentops.span.kind": "tool",
    "operation.name": "order_lookup",
    "agentops.tool.input": as_json({"args": [], "kwargs": ARGUMENTS}),
    "agentops.tool.output": '{"state": "shipped"}',
}
CHAT = {
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": QUESTION,
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.finish_reason": "tool_calls",
}


def sent(*executions: Any, agent: dict[str, Any] = AGENT) -> list[Any]:
    """Return the spans of an agent whose model requests a tool call, with further spans below the agent."""
    return [
        span("session", None, SESSION, title="answer_customer.session", start=0, end=9),
        span("agent", "session", agent, title="order_desk.agent", start=0, end=9),
        span("model", "agent", CHAT, title="openai.chat.completion", start=1, end=3),
        span("request", "model", REQUEST, title="tool_call.order_lookup", start=2, end=3),
        *executions,
    ]


def test_agent_has_its_name_question_and_answer() -> None:
    run = run_of(*sent())

    assert (run.agent_name, run.question, run.answer) == ("order_desk", QUESTION, "It was shipped.")


def test_workflow_without_an_agent_names_the_run_and_not_the_service() -> None:
    task = {"agentops.span.kind": "task", "operation.name": "look_up"}
    record = record_of_spans(
        span("session", None, SESSION, end=9),
        span("task", "session", task, end=9),
        resource={"service.name": "agentops"},
    )

    assert record.row.agent_name == "answer_customer"


def test_request_and_execution_are_one_call() -> None:
    [call] = run_of(*sent(span("tool", "agent", TOOL, title="order_lookup.tool", start=4, end=5))).tool_calls

    assert (call.tool_name, call.args_json, call.result_summary) == ("order_lookup", ARGUMENTS, '{"state": "shipped"}')
    assert extra(call, "tool_call_id") == "call_1"


def test_request_without_an_execution_is_a_skipped_call() -> None:
    [call] = run_of(*sent()).tool_calls

    assert (call.tool_name, call.args_json, call.status) == ("order_lookup", ARGUMENTS, "skipped")


def test_model_call_that_only_requests_tools_has_no_output_and_gives_no_answer() -> None:
    silent = {name: value for name, value in AGENT.items() if name != "agentops.agent.output"}
    run = run_of(*sent(agent=silent))

    assert run.answer is None
    assert [step.output_summary for step in run.steps if extra(step, "span_kind") == "llm"] == [None]


def test_run_is_no_success_if_the_agent_raised() -> None:
    failed = span("agent", "session", AGENT, title="order_desk.agent", start=0, end=9, status=2)

    assert record_of_spans(sent()[0], failed, *sent()[2:]).row.outcome == "failed"


def test_calls_of_two_agents_that_only_their_inputs_request_have_their_own_results() -> None:
    def desk(name: str, order: str, result: str, start: int) -> list[Any]:
        asked = {
            **CHAT,
            "gen_ai.prompt.1.role": "assistant",
            "gen_ai.prompt.1.tool_calls.0.id": f"call_{name}",
            "gen_ai.prompt.1.tool_calls.0.name": "order_lookup",
            "gen_ai.prompt.1.tool_calls.0.arguments": as_json({"order_id": order}),
            "gen_ai.prompt.2.role": "tool",
            "gen_ai.prompt.2.tool_call_id": f"call_{name}",
            "gen_ai.prompt.2.content": result,
        }
        given = {"args": [], "kwargs": {"order_id": order}}
        tool = {**TOOL, "agentops.tool.input": as_json(given), "agentops.tool.output": result}
        return [
            span(name, "session", AGENT | {"operation.name": name}, start=start, end=start + 4),
            span(f"t{name}", name, tool, start=start + 1, end=start + 2),
            span(f"m{name}", name, asked, start=start + 2, end=start + 3),
        ]

    run = run_of(span("session", None, SESSION, end=9), *desk("n", "A-17", "lost", 0), *desk("s", "B-20", "shipped", 5))

    calls = [(call.args_json, call.result_summary, extra(call, "tool_call_id")) for call in run.tool_calls]
    assert calls == [({"order_id": "A-17"}, "lost", "call_n"), ({"order_id": "B-20"}, "shipped", "call_s")]
