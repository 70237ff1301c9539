"""Example request bodies for the OpenAPI document."""

from __future__ import annotations

from typing import Any

AGENT_RUN_EXAMPLE: dict[str, Any] = {
    "run_id": "run-2031",
    "agent_name": "refund-agent",
    "agent_version": "1.4.2",
    "model": "gpt-4o",
    "environment": "prod",
    "started_at": "2026-03-02T09:00:00Z",
    "ended_at": "2026-03-02T09:00:06Z",
    "status": "failure",
    "error_type": "ToolCallError",
    "error_message": "refund_create failed",
    "task_id": "refund-small",
    "prompt_hash": "p-7f3a",
    "steps": [
        {
            "step_id": "s1",
            "name": "Create the refund",
            "status": "failure",
            "started_at": "2026-03-02T09:00:01Z",
            "ended_at": "2026-03-02T09:00:05Z",
            "retries": 0,
            "latency_ms": 4000,
            "agent_name": "refund-agent",
        }
    ],
    "tool_calls": [
        {
            "call_id": "c1",
            "step_id": "s1",
            "tool_name": "refund_create",
            "status": "failure",
            "args_json": {"order": "A-77", "amount": "12.50"},
            "error_class": "ValidationError",
            "error_message": "amount: expected a number, got a string",
            "status_code": 422,
            "latency_ms": 210,
        }
    ],
    "guardrail_events": [],
    "cost": {"tokens_prompt": 812, "tokens_completion": 96, "total_cost_usd": 0.0041},
}
