"""Agent runs for benchmarks, with different ids; each is as large as a usual run with four tool calls."""

from __future__ import annotations

import json
from typing import Any

CAUSES = (
    ("ValidationError", "Missing required field: 'customer_id'", 400),
    ("RateLimitError", "Rate limit reached, retry after 20 s", 429),
    ("PermissionError", "The token lacks the scope orders:read", 403),
    ("ReadTimeout", "The read operation timed out", None),
)


def run_body(number: int, *, steps: int = 4, failed: bool = True) -> dict[str, Any]:
    """Return the JSON of a run of `steps` steps with one tool call each; with `failed`, the second call fails."""
    error_class, message, status_code = CAUSES[number % len(CAUSES)]
    calls = []
    for index in range(steps):
        bad = failed and index == 1
        calls.append(
            {
                "call_id": f"call-{index}",
                "step_id": f"step-{index}",
                "tool_name": "order_lookup_api" if index % 2 else "shipping_status_api",
                "status": "failure" if bad else "success",
                "args_json": {"order_number": number * 100 + index, "include_items": True},
                "result_summary": None if bad else "Status: in transit, ETA: 2026-01-17",
                "error_class": error_class if bad else None,
                "error_message": message if bad else None,
                "status_code": status_code if bad else 200,
                "latency_ms": 350,
            }
        )
    return {
        "run_id": f"bench-{number}",
        "agent_name": "bench-agent",
        "agent_version": "1.0.0",
        "model": "gpt-4o",
        "environment": "bench",
        "started_at": "2026-01-15T10:30:00Z",
        "ended_at": "2026-01-15T10:30:45Z",
        "status": "failure" if failed else "success",
        "error_type": "ToolCallError" if failed else None,
        "error_message": "A tool call failed" if failed else None,
        "correlation_ids": [f"req-{number}"],
        "steps": [
            {
                "step_id": f"step-{index}",
                "name": "Look up the order",
                "status": "success",
                "started_at": f"2026-01-15T10:{30 + index // 60 % 30:02d}:{index % 60:02d}Z",
                "input_summary": "Query the order database",
                "output_summary": "Plan: look the order up, then check the shipment",
                "retries": 0,
                "latency_ms": 5_000,
            }
            for index in range(steps)
        ],
        "tool_calls": calls,
        "cost": {"tokens_prompt": 1_250, "tokens_completion": 380, "total_cost_usd": 0.0245},
    }


def run_bytes(number: int, *, steps: int = 4) -> bytes:
    """Return the run of `run_body` as an encoded request body."""
    return json.dumps(run_body(number, steps=steps)).encode()
