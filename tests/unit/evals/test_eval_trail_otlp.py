"""A trace of TRAIL as OTLP becomes the same steps and calls as the body of its run."""

from __future__ import annotations

import json
from typing import Any

from evals.datasets.trail import agent_run_of_trace
from evals.datasets.trail_otlp import export_of_trace, run_of_export
from relab.core.json import parse_json
from relab.telemetry.models import AgentRun

TRACE = "0035f455b3ff2295167a844f04d85d34"


def span(number: int, name: str, kind: str | None, *children: dict[str, Any], **attributes: str) -> dict[str, Any]:
    marks = {key.replace("__", "."): value for key, value in attributes.items()}
    return {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_span_id": None,
        "span_name": name,
        "service_name": "samples",
        "resource_attributes": {"service.name": "samples"},
        "timestamp": f"2025-03-19T16:37:0{number}.005053Z",
        "duration": "PT1.5S",
        "status_code": "Ok",
        "status_message": "",
        "span_attributes": {**({"openinference.span.kind": kind} if kind else {}), **marks},
        "events": [],
        "logs": [],
        "child_spans": [{**child, "parent_span_id": f"{number:016x}"} for child in children],
    }


def record() -> dict[str, Any]:
    answer = {"llm__output_messages__0__message__role": "assistant", "llm__output_messages__0__message__content": "42"}
    model = span(3, "LiteLLMModel.__call__", "LLM", llm__model_name="small", **answer)
    tool = span(4, "SearchTool", "TOOL", tool__name="search", output__value="a page")
    agent = span(2, "CodeAgent.run", "AGENT", model, tool)
    return {"trace_id": TRACE, "spans": [span(1, "main", None, agent)]}


def test_model_calls_and_tool_calls_have_the_same_ids_and_texts() -> None:
    posted = AgentRun.model_validate(parse_json(json.dumps(agent_run_of_trace(record())).encode()))
    sent = run_of_export(export_of_trace(record()))
    assert sent.run_id == posted.run_id
    assert {call.call_id: call.result_summary for call in sent.tool_calls} == {f"{4:016x}": "a page"}
    assert {step.step_id for step in sent.steps} <= {step.step_id for step in posted.steps}
    assert {step.output_summary for step in sent.steps if step.step_id == f"{3:016x}"} == {"42"}


def test_times_and_durations_are_kept() -> None:
    [step] = [step for step in run_of_export(export_of_trace(record())).steps if step.step_id == f"{3:016x}"]
    assert step.ended_at is not None
    assert step.ended_at - step.started_at == 1_500_000


def test_exception_of_a_span_is_the_error_of_its_call() -> None:
    broken = record()
    tool = broken["spans"][0]["child_spans"][0]["child_spans"][1]
    tool["status_code"] = "Error"
    error = {"exception.type": "ValueError", "exception.message": "no such page"}
    tool["events"] = [{"Name": "exception", "Timestamp": "2025-03-19T16:37:05", "Attributes": error}]
    [call] = run_of_export(export_of_trace(broken)).tool_calls
    assert call.status == "failure"
    assert call.error_class == "ValueError"
    assert call.error_message == "no such page"
