"""The TRAIL converter on small traces shaped like the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.datasets.trail import agent_run_of_trace
from relab.core.json import parse_json
from relab.telemetry.models import AgentRun, RunStatus, StepStatus

START = datetime.fromisoformat("2025-03-19T16:37:55.005053+00:00")


def span(
    name: str,
    kind: str | None = None,
    *children: dict[str, Any],
    at_s: float = 0.0,
    duration: str = "PT1S",
    error: tuple[str, str] | None = None,
    status: str | None = None,
    logs: list[dict[str, Any]] | None = None,
    **attributes: str,
) -> dict[str, Any]:
    marks = {key.replace("__", "."): value for key, value in attributes.items()}
    if kind:
        marks["openinference.span.kind"] = kind
    events = []
    if error:
        attrs = {"exception.type": error[0], "exception.message": error[1], "exception.stacktrace": "Traceback ..."}
        events = [{"Name": "exception", "Timestamp": "2025-03-19T16:38:00Z", "Attributes": attrs}]
    return {
        "span_id": name.lower().replace(" ", "-"),
        "span_name": name,
        "service_name": "samples",
        "timestamp": (START + timedelta(seconds=at_s)).isoformat().replace("+00:00", "Z"),
        "duration": duration,
        "status_code": status or ("Error" if error else "Ok"),
        "status_message": f"{error[0]}: {error[1]}" if error else "",
        "span_attributes": marks,
        "events": events,
        "logs": logs or [],
        "child_spans": list(children),
    }


def model_call(name: str, answer: str, at_s: float = 0.0, messages: Sequence[str] = ()) -> dict[str, Any]:
    call = span(
        name,
        "LLM",
        at_s=at_s,
        llm__model_name="small-model",
        llm__token_count__prompt="10",
        llm__token_count__completion="4",
        llm__output_messages__0__message__content=answer,
    )
    for number, message in enumerate(messages):
        call["span_attributes"][f"llm.input_messages.{number}.message.content"] = message
    return call


def trace(*children: dict[str, Any], **root: Any) -> dict[str, Any]:
    return {
        "trace_id": "0a1b",
        "spans": [span("main", None, *children, status="Unset", duration="PT1M24.635189S", **root)],
    }


def converted(record: dict[str, Any]) -> AgentRun:
    return AgentRun.model_validate(parse_json(json.dumps(agent_run_of_trace(record)).encode()))


def team(*steps: dict[str, Any], answer: str = "FINAL ANSWER: 20") -> dict[str, Any]:
    manager = span(
        "CodeAgent.run",
        "AGENT",
        *steps,
        smolagents__managed_agents__0__name="search_agent",
        llm__token_count__prompt="999",
        input__value='{"task": "count"}',
        output__value="20",
    )
    script = span("answer", None, manager, model_call("Final call", answer, at_s=80), status="Unset")
    return trace(script)


def test_steps_and_calls_keep_their_span_ids_parents_and_agents() -> None:
    tool = span("VisitTool", "TOOL", tool__name="visit_page", input__value='{"args": [], "kwargs": {"url": "u"}}')
    inner_step = span("Step 1 of search", "CHAIN", model_call("Inner call", "go"), tool)
    run = converted(team(span("Step 1", "CHAIN", span("ToolCallingAgent.run", "AGENT", inner_step))))

    assert [(step.step_id, step.parent_step_id, step.agent_name) for step in run.steps] == [
        ("codeagent.run", None, "CodeAgent"),
        ("step-1", "codeagent.run", "CodeAgent"),
        ("toolcallingagent.run", "step-1", "search_agent"),
        ("step-1-of-search", "toolcallingagent.run", "search_agent"),
        ("inner-call", "step-1-of-search", "search_agent"),
        ("final-call", None, None),
    ]
    (call,) = run.tool_calls
    assert call.call_id == "visittool"
    assert call.step_id == "step-1-of-search"
    assert call.tool_name == "visit_page"
    assert call.args_json == {"url": "u"}
    assert run.run_id == run.trace_id == "0a1b"
    assert run.agent_name == "CodeAgent"


def test_a_retriever_is_a_tool_call_named_by_its_span() -> None:
    run = converted(team(span("Lookup", "RETRIEVER", input__value="plain question", output__value="[]")))
    (call,) = run.tool_calls
    assert call.tool_name == "Lookup"
    assert call.step_id == "codeagent.run"
    assert call.args_json == "plain question"
    assert call.result_summary == "[]"


def test_positional_arguments_are_kept_beside_named_ones() -> None:
    run = converted(team(span("Tool", "TOOL", input__value='{"args": [28], "kwargs": {"unit": "m"}}')))
    assert run.tool_calls[0].args_json == {"args": [28], "unit": "m"}


def test_error_of_a_span_does_not_fail_the_run() -> None:
    failed = span("PageDownTool", "TOOL", error=("TypeError", "forward() got an unexpected keyword argument ''"))
    run = converted(team(span("Step 1", "CHAIN", failed, error=("AgentExecutionError", "Error when executing"))))

    (call,) = run.tool_calls
    assert call.status == StepStatus.FAILURE
    assert call.error_class == "TypeError"
    assert call.error_message == "forward() got an unexpected keyword argument ''"
    assert run.steps[1].error_class == "AgentExecutionError"
    assert run.status is RunStatus.SUCCESS
    assert run.error_message is None


def test_exception_fails_a_call_whose_status_was_overwritten() -> None:
    run = converted(team(span("Tool", "TOOL", error=("HTTPError", "404"), status="Ok")))
    assert run.tool_calls[0].status is StepStatus.FAILURE


def test_a_status_without_an_exception_event_gives_the_message() -> None:
    bare = span("Tool", "TOOL", status="Error") | {"status_message": "TimeoutError: late"}
    run = converted(team(bare))
    assert run.tool_calls[0].error_class is None
    assert run.tool_calls[0].error_message == "TimeoutError: late"


@pytest.mark.parametrize("place", ["root", "script", "agent"])
def test_an_error_that_nothing_recovers_fails_the_run(place: str) -> None:
    record = team()
    (root,) = record["spans"]
    script = root["child_spans"][0]
    target = {"root": root, "script": script, "agent": script["child_spans"][0]}[place]
    target["status_code"], target["status_message"] = "Error", "ValueError: no model"
    run = converted(record)
    assert run.status == RunStatus.FAILURE
    assert run.error_message == "ValueError: no model"


def test_the_prescribed_sentence_for_giving_up_fails_the_run() -> None:
    run = converted(team(answer="FINAL ANSWER: Unable to determine"))
    assert run.status == RunStatus.FAILURE
    assert run.error_message == "FINAL ANSWER: Unable to determine"


@pytest.mark.parametrize("answer", ["FINAL ANSWER: not 'Unable to determine'", "Unable to determine"])
def test_answer_that_only_mentions_giving_up_does_not_fail_the_run(answer: str) -> None:
    assert converted(team(answer=answer)).status is RunStatus.SUCCESS


def test_giving_up_early_and_answering_later_is_a_success() -> None:
    early = model_call("Early", "FINAL ANSWER: Unable to determine", at_s=1)
    assert converted(team(early)).status is RunStatus.SUCCESS


def test_only_the_task_id_of_log_records_is_read() -> None:
    example = {"task_id": "task-7", "true_answer": "SECRET-41", "Annotator Metadata": {"Steps": "SECRET-42"}}
    log = {"body": {"function.name": "answer", "function.arguments": {"example": example}}}
    record = team()
    record["spans"][0]["child_spans"][0]["logs"] = [log]
    body = agent_run_of_trace(record)
    assert body["task_id"] == "task-7"
    assert "SECRET" not in json.dumps(body)


def test_a_model_call_shows_its_newest_message_and_its_answer() -> None:
    messages = [f"message {number}" for number in range(11)]
    step = converted(team(model_call("Call", "thought", messages=messages))).steps[1]
    assert step.input_summary == "message 10"
    assert step.output_summary == "thought"


def test_tokens_are_those_of_model_calls_only() -> None:
    cost = converted(team(model_call("Call", "thought"))).cost
    assert cost is not None
    assert cost.tokens_prompt == 20
    assert cost.tokens_completion == 8


def test_times_are_exact_to_the_microsecond() -> None:
    run = converted(team())
    assert run.ended_at is not None
    assert run.ended_at - run.started_at == 84_635_189


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999))
def test_every_valid_duration_is_read_exactly(hours: int, minutes: int, seconds: int, us: int) -> None:
    text = f"PT{hours}H{minutes}M{seconds}.{us:06}S"
    step = converted(trace(span("Step", "CHAIN", duration=text))).steps[0]
    expected_us = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + us
    assert step.ended_at is not None
    assert step.ended_at - step.started_at == expected_us
    assert step.latency_ms == expected_us / 1_000


@pytest.mark.parametrize("text", ["", "PT", "1.5", "P1D", "PT-1S"])
def test_invalid_duration_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        agent_run_of_trace(trace(span("Step", "CHAIN", duration=text)))
