"""Convert a trial and its harness's events to an agent run of telemetry, so that root cause analysis can examine it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relab.core.clock import format_time, parse_time
from relab.core.json import digest, is_number
from relab.experiments.models import TrialOutcome, TrialRow

ENVIRONMENT = "experiment"
"""The environment of agent runs of trials; telemetry recognizes trials by it (`telemetry/trial_runs.py`)."""
MAX_TEXT = 8_000
MAX_NAME = 1_000
"""The longest name of a step, a tool or an error that telemetry accepts, in characters."""
MAX_TRACES = 1_000
MAX_DEPTH = 150
"""The largest nesting depth of tool arguments; telemetry accepts bodies nested up to 200 deep."""
_WELL = frozenset(("ok", "success", "succeeded", "completed"))
_STATUS = {
    TrialOutcome.SUCCESS: "success",
    TrialOutcome.FAILURE: "failure",
    TrialOutcome.ERROR: "failure",
    TrialOutcome.MISSING: "cancelled",
}


def agent_run_id(run_id: str, trial_id: str) -> str:
    """Return the id of a trial's agent run in telemetry: `<run_id>.<trial_id>`."""
    return f"{run_id}.{trial_id}"


def agent_run_of(
    row: TrialRow,
    *,
    experiment_id: str,
    bindings: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    trace_ids: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the agent run of a trial, as the JSON that telemetry accepts.

    The harness's steps and model calls become steps, and its tool calls become tool calls. If the events contain no
    steps, no model calls and no errors, the run has one step, `harness`.

    Args:
        row: the trial's row; the trial must have started.
        experiment_id: the id of the experiment, which becomes the agent's name in telemetry. The id of the variant
            becomes the agent's version.
        bindings: the bindings of the variant (values that the harness gets).
        events: the trial's validated events.
        trace_ids: the ids of OTLP traces that the harness sent.
    """
    assert row.started_at is not None
    steps, calls = _items(events)
    ended_at = row.ended_at
    if ended_at is not None and parse_time(ended_at) < parse_time(row.started_at):
        # The machine's clock was set back during the trial.
        ended_at = None
    run: dict[str, Any] = {
        "run_id": agent_run_id(row.run_id, row.trial_id),
        "agent_name": experiment_id[:500],
        "agent_version": row.variant_id,
        "environment": ENVIRONMENT,
        "started_at": row.started_at,
        "ended_at": ended_at,
        "status": _STATUS[row.outcome],
        "task_id": row.task_id,
        "prompt_hash": digest(bindings),
        "correlation_ids": [row.run_id, *trace_ids[:MAX_TRACES]],
        "steps": steps or [_harness_step(row, ended_at)],
        "tool_calls": calls,
        "experiment": {
            "experiment_run_id": row.run_id,
            "trial_id": row.trial_id,
            "variant_id": row.variant_id,
            "repl_idx": row.repl_idx,
            "outcome": row.outcome.value,
            "attempts": row.attempts,
            "trial_dir": row.trial_dir,
        },
    }
    if not row.success:
        run |= {"error_type": _name(row.error_type), "error_message": row.error_message}
    run["cost"] = _cost_of(row)
    return {name: value for name, value in run.items() if value is not None}


def _cost_of(row: TrialRow) -> dict[str, Any] | None:
    """Return the tokens and the cost that the harness has reported; None if it has reported neither."""
    # The run of the spans has their tokens and cost; a second run with them would count them twice.
    reported = {name: value for name, value in row.metrics.items() if name not in row.metrics_from_spans}
    cost = {
        "tokens_prompt": _count(reported.get("tokens_in")),
        "tokens_completion": _count(reported.get("tokens_out")),
        "total_cost_usd": _cost(reported.get("cost_usd")),
    }
    return cost if any(value is not None for value in cost.values()) else None


def _items(events: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    steps: dict[str, dict[str, Any]] = {}
    calls: dict[str, dict[str, Any]] = {}
    for event in events:
        kind, at, seq = event["event_type"], event["ts"], event["seq"]
        index = _count(event.get("step_index"))
        step_id = f"step_{index}" if index is not None else None
        if kind == "agent_step_start" and step_id:
            steps.setdefault(step_id, {"step_id": step_id, "name": "step", "status": "running", "started_at": at})
        elif kind == "agent_step_end" and step_id:
            _end_step(steps, step_id, at)
        elif kind == "model_call_end":
            item = _model_step(event, f"model_{seq}", at)
            if step_id in steps:
                item["parent_step_id"] = step_id
            steps[item["step_id"]] = item
        elif kind == "tool_call_end":
            call = _tool_call(event, f"tool_{seq}", at)
            if step_id in steps:
                call["step_id"] = step_id
            calls[call["call_id"]] = call
        elif kind == "error":
            _fail_step(steps, step_id, event)
    return list(steps.values()), list(calls.values())


def _end_step(steps: dict[str, dict[str, Any]], step_id: str, at: str) -> None:
    step = steps.setdefault(step_id, {"step_id": step_id, "name": "step", "status": "running", "started_at": at})
    if step["status"] == "running":
        step["status"] = "success"
    if parse_time(at) >= parse_time(step["started_at"]):
        step["ended_at"] = at


def _fail_step(steps: dict[str, dict[str, Any]], step_id: str | None, event: Mapping[str, Any]) -> None:
    step = steps.get(step_id or "") or (list(steps.values())[-1] if steps else None)
    if step is None:
        step = steps["error"] = {"step_id": "error", "name": "harness", "started_at": event["ts"]}
    step["status"] = "failure"
    step["error_class"] = _name(event.get("error_type")) or "error"
    step["error_message"] = _text(event.get("message")) or ""


def _model_step(event: Mapping[str, Any], step_id: str, at: str) -> dict[str, Any]:
    model = event.get("model")
    name = _name(model.get("identity")) if isinstance(model, Mapping) else None
    item = {"step_id": step_id, "name": f"model call {name}"[:MAX_NAME] if name else "model call", **_ended(event, at)}
    usage = event.get("usage")
    if isinstance(usage, Mapping):
        item["tokens_prompt"], item["tokens_completion"] = (
            _count(usage.get("tokens_in")),
            _count(usage.get("tokens_out")),
        )
    return {field: value for field, value in item.items() if value is not None}


def _tool_call(event: Mapping[str, Any], call_id: str, at: str) -> dict[str, Any]:
    tool = event.get("tool")
    name = _name(tool.get("name")) if isinstance(tool, Mapping) else None
    call = {"call_id": call_id, "tool_name": name or "tool", **_ended(event, at)}
    for field, source in (("args_json", "arguments"), ("result_summary", "result")):
        given = event.get("ext", {}).get(source) if isinstance(event.get("ext"), Mapping) else None
        if given is not None:
            is_kept = field == "args_json" and not _is_deep(given)
            call[field] = given if is_kept else _text(given) or str(given)[:MAX_TEXT]
    return call


def _ended(event: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Return the fields about the end of a step or call (status, times, retries, error), as telemetry names them.

    `event` is the harness's event about the end, and `at` is the event's time, in RFC 3339.
    """
    outcome = event.get("outcome")
    if not isinstance(outcome, Mapping):
        outcome = {"status": outcome} if isinstance(outcome, str) else {}
    status = str(outcome.get("status", "ok")).lower()[:MAX_NAME]
    timing = event.get("timing")
    took_ms = timing.get("duration_ms") if isinstance(timing, Mapping) else None
    took_ms = took_ms if is_number(took_ms) and 0 <= took_ms < 1e12 else None
    ended = parse_time(at)
    item: dict[str, Any] = {
        "status": "success" if status in _WELL else "failure",
        "started_at": format_time(max(ended - int((took_ms or 0) * 1_000), 0)),
        "ended_at": at,
    }
    if took_ms is not None:
        item["latency_ms"] = took_ms
    attempt = event.get("attempt_index")
    if type(attempt) is int and 0 < attempt < 1_000_000:
        item["retries"] = attempt
    if item["status"] == "failure":
        item["error_class"] = _name(outcome.get("error_type")) or status
        item["error_message"] = _text(outcome.get("message")) or ""
    return item


def _harness_step(row: TrialRow, ended_at: str | None) -> dict[str, Any]:
    step: dict[str, Any] = {
        "step_id": "harness",
        "name": "harness",
        "status": "success" if row.success else "failure",
        "started_at": row.started_at,
        "latency_ms": row.duration_ms,
    }
    if ended_at is not None:
        step["ended_at"] = ended_at
    if not row.success:
        step["error_class"] = _name(row.error_type) or row.outcome.value
        step["error_message"] = row.error_message or ""
    return {name: value for name, value in step.items() if value is not None}


def _text(value: Any) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) and value else None


def _name(value: Any) -> str | None:
    text = _text(value)
    return text[:MAX_NAME] if text else None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def _cost(value: Any) -> float | None:
    return float(value) if type(value) in {int, float} and 0 <= value <= 1e12 else None
