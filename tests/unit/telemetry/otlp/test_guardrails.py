"""Guardrail spans: a guardrail that intervened is an event, and a guardrail that passed is a step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, event_of, exception, id_of, run_of, span, step_of

GUARDRAIL = {"openinference.span.kind": "GUARDRAIL"}
ERROR = 2

SPOKE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "status ERROR": ({}, {"status": ERROR, "message": "PII found"}, "PII found"),
    "an exception": ({}, {"events": [exception("PolicyViolation", "PII found")]}, "PII found"),
    "an error type alone": ({"error.type": "PolicyViolation"}, {}, "PolicyViolation"),
    "stopped while it looked": ({"error.type": "cancelled"}, {}, "cancelled"),
    "it did not pass": ({"guardrail.passed": False, "output.value": "PII found"}, {}, "PII found"),
    "it failed": ({"guardrail.result": "FAIL", "input.value": "my card is 4111"}, {}, "my card is 4111"),
    "it blocked": ({"guardrail.result": "blocked"}, {}, "pii check"),
    "it was triggered": ({"guardrail.triggered": True, "guardrail.result": "pass"}, {}, "pii check"),
}
SILENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing said": ({}, {}),
    "status OK": ({}, {"status": 1}),
    "it passed": ({"guardrail.passed": True}, {}),
    "its result is a pass": ({"guardrail.result": "pass"}, {}),
    "it was not triggered": ({"guardrail.triggered": False}, {}),
    "a word that nobody knows": ({"guardrail.result": "perhaps"}, {}),
    "no word at all": ({"guardrail.result": 0}, {}),
    "it still looks": ({}, {"end": None}),
}


@pytest.mark.parametrize(("attributes", "fields", "message"), SPOKE.values(), ids=SPOKE)
def test_guardrail_that_intervened_is_an_event(
    attributes: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    event = event_of(GUARDRAIL | attributes, title="pii check", start=2, end=7, **fields)
    assert event.event_id == id_of("it")
    assert event.type == "pii check"
    assert event.message == message
    assert event.created_at == 1_705_314_600_007_000


@pytest.mark.parametrize(("attributes", "fields"), SILENT.values(), ids=SILENT)
def test_guardrail_that_passed_is_a_step(attributes: dict[str, Any], fields: dict[str, Any]) -> None:
    step = step_of(GUARDRAIL | attributes, title="pii check", **fields)
    assert step.name == "pii check"
    assert step.status in {"success", "running"}


def test_event_names_its_step_and_call() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", CHAT, start=1),
        span("g1", "chat", GUARDRAIL, start=2, status=ERROR),
        span("tool", "chat", TOOL, start=3),
        span("http", "tool", {"http.request.method": "GET"}, start=4),
        span("g2", "http", GUARDRAIL, start=5, status=ERROR),
        span("g3", "root", GUARDRAIL, start=6, status=ERROR),
    )
    assert [(event.event_id, event.step_id, event.call_id) for event in run.guardrail_events] == [
        (id_of("g1"), id_of("chat"), None),
        (id_of("g2"), id_of("chat"), id_of("tool")),
        (id_of("g3"), None, None),
    ]


def test_unnamed_guardrail_is_named_after_its_finding() -> None:
    assert event_of(GUARDRAIL | {"error.type": "PolicyViolation"}, title="").type == "PolicyViolation"
    event = event_of(GUARDRAIL, title="", status=ERROR)
    assert event.type == "guardrail"
    assert event.message == ""


def test_long_names_and_messages_are_cut() -> None:
    event = event_of(GUARDRAIL, title="g" * 5_000, status=ERROR, message="m" * 50_000)
    assert event.type == "g" * 1_000
    assert event.message == "m" * 16_000


@pytest.mark.parametrize(
    "reasons",
    [["content_filter"], ["stop", "content_filter"], "content_filter", ["content-filter"], ["SAFETY"]],
    ids=["a list", "several", "a text", "Vercel", "Gemini"],
)
def test_answer_stopped_by_a_content_filter_is_an_event_of_its_step(reasons: object) -> None:
    chat = span("chat", "root", CHAT | {"gen_ai.response.finish_reasons": reasons}, start=1, end=5)
    run = run_of(span("root", None, AGENT), chat)
    [event] = run.guardrail_events
    assert [step.step_id for step in run.steps] == [id_of("chat")]
    assert event.event_id == id_of("chat")
    assert event.step_id == id_of("chat")
    assert event.type == "content_filter"
    assert event.created_at == 1_705_314_600_005_000


@pytest.mark.parametrize(
    "reasons",
    [["stop"], [], None, "stop", 5, True, float("nan"), {"content_filter": 1}, [["content_filter"]], b"content_filter"],
)
def test_other_finish_reasons_are_not_events(reasons: object) -> None:
    run = run_of(span("root", None, AGENT), span("chat", "root", CHAT | {"gen_ai.response.finish_reasons": reasons}))
    assert run.guardrail_events == []


@pytest.mark.parametrize("as_json", [True, False])
def test_finish_reason_of_an_answer_can_be_a_content_filter(as_json: bool) -> None:
    answers = [{"role": "assistant", "parts": [], "finish_reason": reason} for reason in ("stop", "content_filter", 5)]
    given = {"gen_ai.output.messages": json.dumps(answers) if as_json else answers}
    run = run_of(span("root", None, AGENT), span("chat", "root", CHAT | given))
    assert [event.type for event in run.guardrail_events] == ["content_filter"]
    told = run_of(
        span("root", None, AGENT), span("chat", "root", CHAT | given | {"gen_ai.response.finish_reasons": ["stop"]})
    )
    assert told.guardrail_events == []


def test_filter_event_of_an_unfinished_answer_has_its_start_time() -> None:
    chat = span("chat", "root", CHAT | {"gen_ai.response.finish_reasons": ["content_filter"]}, start=1, end=None)
    [event] = run_of(span("root", None, AGENT), chat).guardrail_events
    assert event.created_at == 1_705_314_600_001_000


@pytest.mark.parametrize(
    "error",
    [
        "Guardrail tripwire triggered: {'guardrail': 'no_secrets'}",
        "{'message': 'Guardrail tripwire triggered', 'data': {'guardrail': 'no_secrets'}}",
    ],
    ids=["OpenInference", "OpenLLMetry"],
)
def test_tripwire_of_the_openai_agents_sdk_is_an_event_of_the_span_that_reports_it(error: str) -> None:
    """The span of the guardrail itself reports nothing."""
    run = run_of(
        span("root", None, AGENT, end=9),
        span("turn", "root", {"openinference.span.kind": "CHAIN"}, start=1, end=8, status=ERROR, message=error),
        span("guard", "turn", GUARDRAIL, title="no_secrets", start=2, end=3, status=1),
    )

    [event] = run.guardrail_events
    assert (event.type, event.message, event.step_id) == ("no_secrets", error, id_of("turn"))


def test_guardrail_that_fails_a_task_of_crewai_is_an_event_of_the_agent_that_reports_it() -> None:
    error = exception("Exception", "Task failed guardrail validation after 1 retries. Last error: it has a secret")
    run = run_of(
        span("root", None, {"openinference.span.kind": "CHAIN"}, end=9),
        span("desk", "root", AGENT, start=1, end=8, events=[error]),
        span("chat", "desk", CHAT, start=2, end=3),
    )

    [event] = run.guardrail_events
    assert (event.type, event.step_id) == ("guardrail", id_of("desk"))
    assert event.message.endswith("it has a secret")


FEEDBACK = "Your previous response failed the application's validation (this is automated feedback): it has a secret"
REJECTIONS: dict[str, list[dict[str, Any]]] = {
    "pydantic-ai, a text": [{"role": "user", "parts": [{"type": "text", "content": FEEDBACK}]}],
    "pydantic-ai, an object": [
        {
            "role": "user",
            "parts": [{"type": "tool_call_response", "id": "c1", "name": "final_result", "result": "it has a secret"}],
        }
    ],
    "smolagents": [
        {
            "role": "tool-response",
            "content": "Call id: c1\nError:\nCheck no_secrets failed with error: it has a secret",
        }
    ],
}


@pytest.mark.parametrize("feedback", REJECTIONS.values(), ids=REJECTIONS)
def test_answer_that_the_program_rejected_is_an_event_of_the_next_model_call(feedback: list[dict[str, Any]]) -> None:
    asked = [{"role": "user", "content": "Where is A-17?"}]
    run = run_of(
        span("root", None, AGENT, end=9),
        span("one", "root", CHAT | {"gen_ai.input.messages": asked}, start=1, end=2),
        span("two", "root", CHAT | {"gen_ai.input.messages": [*asked, *feedback]}, start=3, end=4),
    )

    [event] = run.guardrail_events
    assert (event.type, event.step_id) == ("output_validation", id_of("two"))
    assert event.message.endswith("it has a secret")
    assert run.question == "Where is A-17?"


def result_of_tool(name: str, text: str) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": "c1", "name": name, "result": text}


NOT_REJECTED: dict[str, list[dict[str, Any]]] = {
    "the next question after an accepted answer": [
        result_of_tool("final_result", "Final result processed."),
        {"type": "text", "content": "Where is A-17?"},
    ],
    "arguments of another tool": [result_of_tool("order_lookup", "1 validation error:\n```json\n[]\n```")],
}


@pytest.mark.parametrize("parts", NOT_REJECTED.values(), ids=NOT_REJECTED)
def test_message_of_pydantic_ai_that_rejects_no_answer_is_no_event(parts: list[dict[str, Any]]) -> None:
    messages = [{"role": "user", "parts": parts}]

    run = run_of(
        span("root", None, AGENT, end=9), span("one", "root", CHAT | {"gen_ai.input.messages": messages}, end=2)
    )

    assert run.guardrail_events == []
