"""Runs from unusual traces: huge messages, circular parents, half tool calls, mixed dialects, foreign languages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from support.otlp.traces import AGENT, CHAT, TOOL, Trace, assert_taken, encode, post

MB = 1_048_576
QUESTION, ANSWER = "Where is order A-17?", "It was shipped."
ARGUMENTS = {"order": "A-17"}


def said(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def request(call_id: str) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": "lookup", "arguments": ARGUMENTS}


def response(call_id: str, result: str) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call_id, "response": result}


def messages(taken: list[dict[str, Any]], given: list[dict[str, Any]]) -> dict[str, Any]:
    return CHAT | {"gen_ai.input.messages": json.dumps(taken), "gen_ai.output.messages": json.dumps(given)}


def run_of(api: TestClient, trace: Trace) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/agent-runs/{trace.id}").json()
    return found


def calls_of(api: TestClient, trace: Trace) -> list[dict[str, Any]]:
    page = api.get(f"/agent-runs/{trace.id}/timeline").json()
    return [item["data"] for item in page["items"] if item["kind"] == "tool_call"]


def test_run_with_messages_of_megabytes_shows_question_answer_and_the_failed_call(
    api: TestClient, trace: Trace
) -> None:
    long = "x" * (3 * MB)
    error = f"Error: no such table: orders {long}"
    taken = [said("user", text(QUESTION)), said("assistant", request("c1")), said("tool", response("c1", error))]
    spans = [
        trace.span("root", None, AGENT),
        trace.span("model", "root", messages(taken, [said("assistant", text("I am sorry, I could not look it up."))])),
    ]
    assert assert_taken(post(api, encode(spans))) == (0, "")

    run = run_of(api, trace)
    assert run["question"] == QUESTION
    assert run["answer"] == "I am sorry, I could not look it up."
    assert (run["outcome"], run["outcome_rule"]) == ("completed_with_errors", "answer_reports_failure")
    [call] = calls_of(api, trace)
    assert call["result_summary"].startswith("Error: no such table: orders")


def test_span_with_a_message_beyond_the_limit_is_rejected_alone_with_the_limit(api: TestClient, trace: Trace) -> None:
    huge = messages([said("user", text("x" * (10 * MB)))], [said("assistant", text(ANSWER))])
    spans = [trace.span("root", None, AGENT), trace.span("model", "root", huge), trace.span("tool", "root", TOOL)]

    rejected, message = assert_taken(post(api, encode(spans)))

    assert rejected == 1
    assert "8" in message
    assert "MB" in message or "bytes" in message
    assert run_of(api, trace)["counts"] == {"steps": 0, "tool_calls": 1, "guardrail_events": 0}


def test_failed_tool_among_circular_parents_makes_the_run_complete_with_errors(api: TestClient, trace: Trace) -> None:
    spans = [
        trace.span("root", None, AGENT),
        trace.span("a", "b", CHAT),
        trace.span("b", "a", TOOL, status=2, message="timed out"),
    ]
    assert assert_taken(post(api, encode(spans))) == (0, "")

    run = run_of(api, trace)
    assert (run["status"], run["outcome"], run["outcome_rule"]) == ("success", "completed_with_errors", "tool_failed")


def test_tool_result_without_its_call_is_ignored(api: TestClient, trace: Trace) -> None:
    taken = [said("user", text(QUESTION)), said("tool", response("lost", "Error: boom"))]
    spans = [
        trace.span("root", None, AGENT),
        trace.span("model", "root", messages(taken, [said("assistant", text(ANSWER))])),
    ]
    assert assert_taken(post(api, encode(spans))) == (0, "")

    run = run_of(api, trace)
    assert calls_of(api, trace) == []
    assert (run["question"], run["answer"]) == (QUESTION, ANSWER)


def test_call_without_a_result_is_shown_as_skipped(api: TestClient, trace: Trace) -> None:
    spans = [
        trace.span("root", None, AGENT),
        trace.span("model", "root", messages([said("user", text(QUESTION))], [said("assistant", request("c1"))])),
    ]
    assert assert_taken(post(api, encode(spans))) == (0, "")

    [call] = calls_of(api, trace)
    assert (call["tool_name"], call["status"], call["args_json"]) == ("lookup", "skipped", ARGUMENTS)
    assert run_of(api, trace)["answer"] is None


def test_two_dialects_in_one_trace_make_one_run(api: TestClient, trace: Trace) -> None:
    crew = {"openinference.span.kind": "AGENT", "agent.name": "boss", "input.value": QUESTION, "output.value": ANSWER}
    tool = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "lookup",
        "traceloop.entity.input": json.dumps({"args": [], "kwargs": ARGUMENTS}),
        "traceloop.entity.output": '"shipped"',
    }
    model = {"openinference.span.kind": "LLM", "gen_ai.operation.name": "chat", "llm.model_name": "m-1"}
    spans = [
        trace.span("root", None, crew),
        trace.span("tool", "root", tool),
        trace.span("model", "root", model),
        trace.span("sub", "root", AGENT | {"gen_ai.agent.name": "clerk"}),
    ]
    assert assert_taken(post(api, encode(spans))) == (0, "")

    run = run_of(api, trace)
    assert (run["agent_name"], run["question"], run["answer"]) == ("boss", QUESTION, ANSWER)
    assert (run["outcome"], run["model"]) == ("succeeded", "m-1")
    [call] = calls_of(api, trace)
    assert (call["tool_name"], call["args_json"], call["result_summary"]) == ("lookup", ARGUMENTS, "shipped")
    assert [(agent["name"], agent["parent"]) for agent in run["agents"]] == [("boss", None), ("clerk", "boss")]


@pytest.mark.parametrize(
    "error",
    [
        "Fehlercode: 429 - Ratenlimit überschritten. Bitte versuchen Sie es in 20 Sekunden erneut.",
        "Demasiadas solicitudes. Inténtelo de nuevo en 20 segundos.",
        "Слишком много запросов. Повторите через 20 секунд.",
        "リクエストが多すぎます。20秒後に再試行してください。",
        "请求过于频繁, 请在20秒后重试",
    ],
    ids=["de", "es", "ru", "ja", "zh"],
)
def test_rate_limit_error_in_another_language_is_recognized(api: TestClient, trace: Trace, error: str) -> None:
    spans = [
        trace.span("root", None, AGENT, status=2, message=error),
        trace.span("model", "root", CHAT, status=2, message=error),
    ]
    assert assert_taken(post(api, encode(spans))) == (0, "")

    items = api.get(f"/agent-runs/{trace.id}/timeline").json()["items"]
    assert (items[0]["data"]["status_code"], items[0]["data"]["retry_after_s"]) == (429, 20.0)
    run = run_of(api, trace)
    assert (run["outcome"], run["error_message"]) == ("failed", error)
