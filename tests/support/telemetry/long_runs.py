"""Agent runs of any length."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

STARTED_AT = datetime(2025, 5, 4, 12, 0, tzinfo=UTC)


def rate_limited_run(agent_run_id: str, *, steps: int = 3, started_at: datetime = STARTED_AT) -> dict[str, Any]:
    """Return a run whose last tool call was rate limited; it has as many calls as steps.

    The earlier calls succeed with different arguments, so the run has one cause.
    """
    run_steps = []
    calls = []
    for index in range(steps):
        begin = started_at + timedelta(seconds=index)
        status = "failure" if index == steps - 1 else "success"
        step: dict[str, Any] = {
            "step_id": f"s{index}",
            "name": f"Look up order {index}",
            "status": status,
            "started_at": _text(begin),
            "ended_at": _text(begin + timedelta(milliseconds=900)),
            "retries": 0,
            "latency_ms": 900,
        }
        call: dict[str, Any] = {
            "call_id": f"c{index}",
            "step_id": f"s{index}",
            "tool_name": "order_lookup",
            "status": status,
            "args_json": {"order": index},
            "result_summary": f"Order {index} was shipped",
            "status_code": 200,
            "latency_ms": 120,
        }
        if status == "failure":
            call |= {
                "result_summary": "",
                "error_class": "RateLimitError",
                "error_message": "429 Too Many Requests: slow down",
                "status_code": 429,
            }
        run_steps.append(step)
        calls.append(call)
    return {
        "run_id": agent_run_id,
        "agent_name": "order-agent",
        "agent_version": "1.0.0",
        "environment": "prod",
        "started_at": _text(started_at),
        "ended_at": _text(started_at + timedelta(seconds=steps)),
        "status": "failure",
        "error_type": "ToolCallError",
        "error_message": "order_lookup failed",
        "steps": run_steps,
        "tool_calls": calls,
        "guardrail_events": [],
    }


def encode(run: dict[str, Any]) -> bytes:
    """Return the run as the bytes of a JSON body."""
    return json.dumps(run).encode()


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
