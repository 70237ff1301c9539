"""The run that relab made from a real client's trace, as the API shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from support.lab.installation import Lab
from support.otlp.sdk import SentTrace, span_id

_RUN_FIELDS = (
    "agent_name", "agent_version", "model", "environment", "started_at", "ended_at", "status", "error_type",
    "error_message", "trace_id", "correlation_ids", "conversation_id", "task_id", "prompt_hash", "cost",
)  # fmt: skip


@dataclass(frozen=True)
class StoredRun:
    """A run with its timeline: steps and tool calls by their ids, guardrail events in their order."""

    header: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    calls: dict[str, dict[str, Any]]
    events: list[dict[str, Any]]
    raw_ids: set[str]

    def shown(self, *fields: str) -> tuple[Any, ...]:
        """Return the values of some fields of the run."""
        return tuple(self.header[field] for field in fields)

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        """The prompt and completion tokens of the run."""
        cost = self.header["cost"] or {}
        return cost.get("tokens_prompt"), cost.get("tokens_completion")


def stored_run(lab: Lab, run_id: str) -> StoredRun:
    """Return the run of a trace, and assert that it is complete and valid."""
    header = lab.get(f"/agent-runs/{run_id}")
    timeline = lab.get(f"/agent-runs/{run_id}/timeline", limit=10_000)["items"]
    raw = lab.get(f"/agent-runs/{run_id}/spans", limit=1_000)["items"]
    items: dict[str, list[dict[str, Any]]] = {"step": [], "tool_call": [], "guardrail_event": []}
    for item in timeline:
        items[item["kind"]].append(item["data"])
    assert header["run_id"] == run_id
    assert header["trace_id"] == run_id
    assert header["source"] == "otlp"
    assert {span["traceId"] for span in raw} == {run_id}
    _assert_valid(lab, header, items)
    steps = {step["step_id"]: step for step in items["step"]}
    calls = {call["call_id"]: call for call in items["tool_call"]}
    assert len(steps) == len(items["step"])
    assert len(calls) == len(items["tool_call"])
    return StoredRun(header, steps, calls, items["guardrail_event"], {span["spanId"] for span in raw})


def run_of(lab: Lab, trace: SentTrace) -> StoredRun:
    """Return the run of a trace, and assert that all its spans are stored."""
    run = stored_run(lab, trace.id)
    assert run.raw_ids == {span_id(span) for span in trace.spans}
    return run


def assert_report_cites(lab: Lab, trace: SentTrace, failed: str, kind: str) -> None:
    """Assert that an analysis attributes the failure to the span that failed first, and cites it."""
    report = lab.analyse(trace.id)
    evidence = [item for item in report["evidence_index"] if item["ref_id"] == failed]
    assert {item["kind"] for item in evidence} == {kind}
    ids = {item["evidence_id"] for item in evidence}
    assert ids & set(report["attribution"]["evidence_ids"])
    assert report["attribution"]["call_id" if kind == "tool_call" else "step_id"] == failed
    assert ids & set(report["hypotheses"][0]["evidence_ids"])


def _assert_valid(lab: Lab, header: dict[str, Any], items: dict[str, list[dict[str, Any]]]) -> None:
    """Assert that the shown run is valid, by posting it as a new agent run."""
    copy = {field: header[field] for field in _RUN_FIELDS if header[field] is not None}
    copy |= {"run_id": f"copy-{header['run_id']}", "conversation_id": "copies"}
    copy |= {"steps": items["step"], "tool_calls": items["tool_call"], "guardrail_events": items["guardrail_event"]}
    assert lab.post_run(copy)["counts"] == header["counts"]
