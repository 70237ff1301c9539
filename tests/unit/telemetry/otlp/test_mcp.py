"""Spans of the Model Context Protocol (MCP): the reports of client and server belong to the tool call of the agent.

The attributes are those that the official SDK for Python 2.3, FastMCP 4.2 and the frameworks around them sent.
"""

from __future__ import annotations

from typing import Any

import pytest

from relab.telemetry.models import AgentRun, StepStatus
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, exception, id_of, run_of, span

ERROR = 2
CLIENT = {"mcp.method.name": "tools/call", "jsonrpc.request.id": "3"}
"""The client of the official SDK names its tool in the name of its span only."""
SERVER = CLIENT | TOOL | {"mcp.protocol.version": "2026-07-28"}
FASTMCP_CLIENT = {"mcp.method.name": "tools/call", "fastmcp.component.key": "order_lookup"} | TOOL
TITLE = "MCP send tools/call order_lookup"


def agent(*calls: Any) -> AgentRun:
    return run_of(span("agent", None, AGENT, end=90), span("chat", "agent", CHAT, start=1, end=2), *calls)


def shown(run: AgentRun) -> list[tuple[str, StepStatus, str | None, str | None]]:
    return [(call.tool_name, call.status, call.error_class, call.error_message) for call in run.tool_calls]


def test_client_and_server_of_a_call_are_parts_of_the_call_of_the_framework() -> None:
    run = agent(
        span("tool", "agent", TOOL, start=3, end=20),
        span("fast", "tool", FASTMCP_CLIENT, start=4, end=19, title="tools/call order_lookup"),
        span("client", "fast", CLIENT, start=5, end=18, title=TITLE),
        span("server", "client", SERVER, start=6, end=17, title="tools/call order_lookup"),
    )
    assert [call.call_id for call in run.tool_calls] == [id_of("tool")]


def test_call_that_only_client_and_server_report_is_one_call() -> None:
    run = agent(
        span("client", "agent", CLIENT, start=5, end=18, title=TITLE),
        span("server", "client", SERVER, start=6, end=17, title="tools/call order_lookup"),
    )
    assert [(call.call_id, call.tool_name) for call in run.tool_calls] == [(id_of("client"), "order_lookup")]


def test_call_of_a_server_whose_name_the_framework_puts_before_the_tool_is_one_call() -> None:
    run = agent(
        span("tool", "agent", TOOL | {"gen_ai.tool.name": "shop__order_lookup"}, start=3, end=20),
        span("server", "tool", SERVER, start=6, end=17),
    )
    assert [call.tool_name for call in run.tool_calls] == ["shop__order_lookup"]


def test_call_that_another_tool_makes_is_a_call_of_its_own() -> None:
    run = agent(
        span("tool", "agent", TOOL | {"gen_ai.tool.name": "answer_complaint"}, start=3, end=20),
        span("client", "tool", CLIENT, start=5, end=18, title=TITLE),
        span("server", "client", SERVER, start=6, end=17),
    )
    assert [call.tool_name for call in run.tool_calls] == ["answer_complaint", "order_lookup"]


def test_error_that_only_the_server_reports_is_that_of_the_call_and_its_result_says_why() -> None:
    result = {"gen_ai.tool.call.result": "the order is locked"}
    run = agent(
        span("tool", "agent", TOOL | result, start=3, end=20, status=1),
        span("server", "tool", SERVER | {"error.type": "tool_error"}, start=6, end=17, status=ERROR),
    )
    assert shown(run) == [("order_lookup", StepStatus.FAILURE, "tool_error", "the order is locked")]


def test_attempt_that_was_repeated_with_success_leaves_the_call_successful() -> None:
    failed = span("first", "tool", CLIENT, start=4, end=8, status=ERROR, message="timed out", title=TITLE)
    again = span("second", "tool", CLIENT, start=9, end=12, title=TITLE)
    tool = span("tool", "agent", TOOL, start=3, end=20)
    assert shown(agent(tool, failed, again)) == [("order_lookup", StepStatus.SUCCESS, None, None)]
    [(_, status, _, message)] = shown(agent(tool, failed))
    assert (status, message) == (StepStatus.FAILURE, "timed out")


def test_error_of_the_protocol_replaces_one_whose_details_the_framework_redacted() -> None:
    redacted = "Error running tool (non-fatal): {'error': 'Tool execution failed. Error details are redacted.'}"
    closed = exception("mcp.shared.exceptions.MCPError", "Connection closed")
    run = agent(
        span("tool", "agent", TOOL, start=3, end=20, status=ERROR, message=redacted),
        span("client", "tool", CLIENT, start=5, end=18, title=TITLE, status=ERROR, events=[closed]),
    )
    [(_, _, error_class, message)] = shown(run)
    assert (error_class, message) == ("mcp.shared.exceptions.MCPError", "Connection closed")


def test_error_of_the_framework_is_kept_where_a_part_of_the_call_has_another() -> None:
    run = agent(
        span("tool", "agent", TOOL, start=3, end=20, status=ERROR, message="no such table: orders"),
        span("server", "tool", SERVER | {"error.type": "tool_error"}, start=6, end=17, status=ERROR),
    )
    assert shown(run) == [("order_lookup", StepStatus.FAILURE, None, "no such table: orders")]


def test_values_that_only_a_part_reports_are_those_of_the_call() -> None:
    values = {"gen_ai.tool.call.arguments": '{"order_id": "A-17"}', "gen_ai.tool.call.result": "shipped"}
    run = agent(span("tool", "agent", TOOL, start=3, end=20), span("server", "tool", SERVER | values, start=6, end=17))
    [call] = run.tool_calls
    assert (call.args_json, call.result_summary) == ({"order_id": "A-17"}, "shipped")


@pytest.mark.parametrize("method", ["initialize", "server/discover", "tools/list", "prompts/get", "resources/read"])
def test_other_messages_of_the_protocol_are_no_calls(method: str) -> None:
    run = agent(span("send", "agent", {"mcp.method.name": method}, start=3, title=f"MCP send {method}"))
    assert not run.tool_calls
    assert [step.step_id for step in run.steps] == [id_of("chat")]


@pytest.mark.parametrize(
    "output",
    [
        '{"type": "text", "text": "Error executing tool order_lookup"}',
        '[{"type": "text", "text": "Error executing tool order_lookup"}]',
        '{"content": [{"type": "text", "text": "Error executing tool order_lookup"}], "isError": true}',
        '{"content": [{"type": "text", "text": "Error executing tool order_lookup"}], "structuredContent": null}',
    ],
)
def test_result_of_the_protocol_is_shown_as_its_text_and_read_as_an_error(output: str) -> None:
    run = agent(span("tool", "agent", TOOL | {"gen_ai.tool.call.result": output}, start=3, end=20))
    assert shown(run) == [("order_lookup", StepStatus.FAILURE, None, "Error executing tool order_lookup")]
    assert run.tool_calls[0].result_summary == "Error executing tool order_lookup"


def test_result_with_fields_of_its_own_beside_a_text_is_shown_whole() -> None:
    output = '{"type": "text", "text": "shipped", "carrier": "Northpost"}'
    [call] = agent(span("tool", "agent", TOOL | {"gen_ai.tool.call.result": output}, start=3, end=20)).tool_calls
    assert call.result_summary == output


def test_object_with_fields_of_its_own_beside_those_of_the_protocol_is_shown_whole() -> None:
    output = '{"content": [{"type": "text", "text": "shipped"}], "is_error": false, "carrier": "Northpost"}'
    [call] = agent(span("tool", "agent", TOOL | {"gen_ai.tool.call.result": output}, start=3, end=20)).tool_calls
    assert call.result_summary == output


OPENLLMETRY = {
    "traceloop.span.kind": "tool",
    "traceloop.entity.name": "order_lookup",
    "traceloop.entity.input": '{"tool_name": "order_lookup", "arguments": {"order_id": "A-17"}}',
    "traceloop.entity.output": '{"result": "no such table: orders", "is_error": true}',
}


def test_arguments_and_result_of_openllmetrys_mcp_client_are_those_of_the_tool() -> None:
    [call] = agent(span("client", "agent", OPENLLMETRY, start=3, end=20, title="order_lookup.tool")).tool_calls
    assert (call.args_json, call.result_summary) == ({"order_id": "A-17"}, "no such table: orders")
    assert call.status is StepStatus.FAILURE


def test_span_of_the_same_tool_with_the_same_arguments_inside_a_call_is_the_call() -> None:
    arguments = {"gen_ai.tool.call.arguments": '{"order_id": "A-17"}'}
    run = agent(
        span("tool", "agent", TOOL | arguments, start=3, end=20),
        span("client", "tool", OPENLLMETRY, start=4, end=19, title="order_lookup.tool"),
    )
    assert [(call.call_id, call.status) for call in run.tool_calls] == [(id_of("tool"), StepStatus.FAILURE)]


def test_tool_that_calls_itself_with_other_arguments_has_two_calls() -> None:
    run = agent(
        span("tool", "agent", TOOL | {"gen_ai.tool.call.arguments": '{"order_id": "B-20"}'}, start=3, end=20),
        span("client", "tool", OPENLLMETRY, start=4, end=19),
    )
    assert [call.call_id for call in run.tool_calls] == [id_of("tool"), id_of("client")]


def test_call_of_an_agent_that_the_tool_of_the_same_name_asked_is_a_call_of_its_own() -> None:
    run = agent(
        span("tool", "agent", TOOL, start=3, end=20),
        span("desk", "tool", AGENT | {"gen_ai.agent.name": "desk"}, start=4, end=19),
        span("inner", "desk", TOOL, start=5, end=18),
    )
    assert [call.call_id for call in run.tool_calls] == [id_of("tool"), id_of("inner")]


@pytest.mark.parametrize("attributes", [SERVER, OPENLLMETRY])
def test_tool_of_a_longer_name_that_calls_a_tool_with_other_arguments_has_a_call_of_its_own(
    attributes: dict[str, Any],
) -> None:
    outer = {"gen_ai.tool.name": "late_order_lookup", "gen_ai.tool.call.arguments": '{"days": 3}'}
    given = {"gen_ai.tool.call.arguments": '{"order_id": "A-17"}'}
    run = agent(
        span("tool", "agent", TOOL | outer, start=3, end=20), span("inner", "tool", given | attributes, start=4, end=19)
    )
    assert [call.call_id for call in run.tool_calls] == [id_of("tool"), id_of("inner")]


def test_call_that_failed_inside_a_successful_tool_of_a_longer_name_is_a_call_of_its_own() -> None:
    run = agent(
        span("tool", "agent", TOOL | {"gen_ai.tool.name": "safe_order_lookup"}, start=3, end=20),
        span("inner", "tool", TOOL, start=4, end=19, status=ERROR, message="no such order"),
    )
    assert [call.status for call in run.tool_calls] == [StepStatus.SUCCESS, StepStatus.FAILURE]


def test_call_that_an_agent_inside_the_tool_makes_is_a_call_of_its_own_without_a_span_of_its_framework() -> None:
    run = agent(
        span("tool", "agent", TOOL, start=3, end=20),
        span("desk", "tool", AGENT | {"gen_ai.agent.name": "desk"}, start=4, end=19),
        span("inner", "desk", CLIENT, start=5, end=18, title=TITLE),
    )
    assert [call.call_id for call in run.tool_calls] == [id_of("tool"), id_of("inner")]


def test_tool_that_calls_itself_twice_has_three_calls_without_captured_arguments() -> None:
    run = agent(
        span("tool", "agent", TOOL, start=3, end=20),
        span("left", "tool", TOOL, start=4, end=9),
        span("right", "tool", TOOL, start=4, end=9),
    )
    assert {call.call_id for call in run.tool_calls} == {id_of("tool"), id_of("left"), id_of("right")}


def test_second_report_of_a_call_without_captured_arguments_is_the_call() -> None:
    run = agent(span("tool", "agent", TOOL, start=3, end=20), span("again", "tool", TOOL, start=4, end=9))
    assert [call.call_id for call in run.tool_calls] == [id_of("tool")]


def test_very_many_reports_of_a_call_inside_each_other_are_one_call() -> None:
    layers = [span("0", "agent", TOOL, start=3, end=40)]
    layers += [span(str(number), str(number - 1), SERVER, start=3 + number, end=40) for number in range(1, 20)]
    assert [call.call_id for call in agent(*layers).tool_calls] == [id_of("0")]
