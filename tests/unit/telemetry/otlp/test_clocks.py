"""Traces of two services whose clocks differ, such as an agent and the gateway of its models."""

from __future__ import annotations

import json

import pytest

from relab.telemetry.models import AgentRun
from relab.telemetry.otlp.projection import project
from unit.telemetry.otlp.builders import facts_in, id_of, load, received, span

TRACE_ID = id_of("one-trace-of-16b")
ARGUMENTS = [{"order_id": "A-17"}, {"order_id": "B-20"}]
MINUTE_MS = 60_000


def asking(number: int) -> str:
    call = {"id": f"call_{number}", "function": {"name": "order_lookup", "arguments": json.dumps(ARGUMENTS[number])}}
    return json.dumps([{"role": "assistant", "tool_calls": [call], "finish_reason": "tool_calls"}])


def run_behind_a_gateway(ahead_ms: float) -> AgentRun:
    """Return the run of an agent that looks up two orders; the gateway's clock is `ahead_ms` milliseconds ahead."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"}
    spans = [span("agent", None, agent, end=90)]
    calls = []
    for number, arguments in enumerate(ARGUMENTS):
        tool = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "order_lookup",
            "gen_ai.tool.call.arguments": json.dumps(arguments),
            "gen_ai.tool.call.result": f"state {number}",
        }
        model = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.output.messages": asking(number),
        }
        start = 10 + 20 * number
        calls.append(span(f"model{number}", "agent", model, start=start + ahead_ms, end=start + 5 + ahead_ms))
        spans.append(span(f"tool{number}", "agent", tool, start=start + 10, end=start + 15))
    gateway = facts_in(received(*calls), {"service.name": "gateway"})
    return load(project(TRACE_ID, [*facts_in(received(*spans), {"service.name": "shop"}), *gateway]))


@pytest.mark.parametrize("ahead_ms", [0, 12, -12, 30, -30, 5 * MINUTE_MS, -5 * MINUTE_MS])
def test_tool_calls_are_joined_with_the_requests_of_a_service_with_another_clock(ahead_ms: float) -> None:
    calls = run_behind_a_gateway(ahead_ms).tool_calls

    assert [(call.args_json, call.result_summary) for call in calls] == [
        ({"order_id": "A-17"}, "state 0"),
        ({"order_id": "B-20"}, "state 1"),
    ]
