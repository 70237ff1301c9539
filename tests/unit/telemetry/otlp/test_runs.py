"""The run of a trace: its name, version, session, status and times."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.telemetry.otlp.builders import (
    AGENT,
    CHAT,
    TOOL,
    TRACE,
    extra,
    id_of,
    record_of_spans,
    run_of,
    span,
)

CHAIN = {"openinference.span.kind": "CHAIN"}
HTTP = {"http.request.method": "POST"}
ERROR = 2


def test_root_agent_is_the_run_and_not_one_of_its_steps() -> None:
    run = run_of(
        span("root", None, AGENT, start=0, end=9),
        span("chat", "root", CHAT, start=1, end=3),
        span("tool", "root", TOOL, start=4, end=5),
        resource={"service.name": "shop", "service.version": "2.1", "deployment.environment.name": "prod"},
    )
    assert run.run_id == TRACE.hex()
    assert run.trace_id == TRACE.hex()
    assert run.agent_name == "shop-agent"
    assert run.agent_version == "2.1"
    assert run.environment == "prod"
    assert run.model == "gpt-x"
    assert run.started_at == 1_705_314_600_000_000
    assert run.ended_at == 1_705_314_600_009_000
    assert run.status == "success"
    assert [step.step_id for step in run.steps] == [id_of("chat")]
    assert [call.call_id for call in run.tool_calls] == [id_of("tool")]
    assert run.steps[0].parent_step_id is None
    assert run.tool_calls[0].step_id is None
    assert run.steps[0].agent_name is None


def test_row_equals_the_run() -> None:
    record = record_of_spans(
        span("root", None, AGENT | {"gen_ai.conversation.id": "c-1", "relab.task_id": "t", "relab.prompt_hash": "p"}),
        span("chat", "root", CHAT | {"gen_ai.usage.cost": 0.5}),
        span("tool", "root", TOOL, status=ERROR, message="Order NOT found"),
        span("tool2", "root", TOOL),
        span("guard", "root", {"openinference.span.kind": "GUARDRAIL"}, status=ERROR, title="Policy"),
    )
    values = record.columns(0)
    assert values["source"] == "otlp"
    assert values["run_id"] == TRACE.hex()
    assert values["step_count"] == 1
    assert values["tool_call_count"] == 2
    assert values["guardrail_event_count"] == 1
    assert values["task_id"] == "t"
    assert values["prompt_hash"] == "p"
    assert values["conversation_id"] == "c-1"
    assert values["total_cost_usd"] == 0.5
    assert json.loads(values["tool_stats"]) == {"order_lookup": [2, 1]}
    for part in (TRACE.hex(), "shop-agent", "order_lookup", "order not found", "policy", "c-1"):
        assert part in values["search_text"]


NAMES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "GenAI": ({"gen_ai.agent.name": "a"}, {"service.name": "s"}, "invoke_agent x", "a"),
    "of old": ({"agent.name": "a"}, {"service.name": "s"}, "x", "a"),
    "the service": ({}, {"service.name": "s"}, "invoke_agent x", "s"),
    "no service": ({}, {"service.name": "unknown_service:python"}, "invoke_agent x", "x"),
    "the span": ({}, {}, "LangGraph", "LangGraph"),
    "LangChain's metadata": ({"metadata": '{"lc_agent_name": "a"}'}, {"service.name": "s"}, "x", "a"),
    "metadata that is none": ({"metadata": '["lc_agent_name"'}, {"service.name": "s"}, "x", "s"),
    "metadata without a name": ({"metadata": '{"lc_agent_name": 5}'}, {"service.name": "s"}, "x", "s"),
    "an empty name": ({"gen_ai.agent.name": ""}, {"service.name": ""}, "x", "x"),
    "a name that is no text": ({"gen_ai.agent.name": 5}, {"service.name": ["s"]}, "x", "x"),
    "nothing": ({}, {}, "", "unknown"),
    "an operation on nothing": ({}, {}, "invoke_agent ", "unknown"),
    "too long": ({"gen_ai.agent.name": "a" * 2_000}, {}, "x", "a" * 500),
}


@pytest.mark.parametrize(("attributes", "resource", "title", "name"), NAMES.values(), ids=NAMES)
def test_run_is_named_after_the_agent_the_service_or_the_span(
    attributes: dict[str, Any], resource: dict[str, Any], title: str, name: str
) -> None:
    root = span("root", None, {"gen_ai.operation.name": "invoke_agent"} | attributes, title=title)
    assert run_of(root, resource=resource).agent_name == name


@pytest.mark.parametrize(
    ("attributes", "resource", "version", "environment"),
    [
        ({"gen_ai.agent.version": "3"}, {"service.version": "2"}, "3", None),
        ({}, {"service.version": "2", "deployment.environment": "test"}, "2", "test"),
        ({}, {"deployment.environment.name": "prod", "deployment.environment": "test"}, None, "prod"),
        ({}, {"service.version": 2, "deployment.environment.name": ["prod"]}, None, None),
    ],
)
def test_version_and_environment_come_from_the_agent_or_its_process(
    attributes: dict[str, Any], resource: dict[str, Any], version: str | None, environment: str | None
) -> None:
    run = run_of(span("root", None, AGENT | attributes), resource=resource)
    assert run.agent_version == version
    assert run.environment == environment


@pytest.mark.parametrize(
    ("of_root", "of_chat", "conversation"),
    [
        ({"gen_ai.conversation.id": "c"}, {}, "c"),
        ({"session.id": "s"}, {}, "s"),
        ({"session.id": "s", "gen_ai.conversation.id": "c"}, {}, "c"),
        ({}, {"session.id": "s"}, "s"),
        ({"session.id": 5}, {"session.id": "s"}, "s"),
        ({"session.id": ""}, {}, None),
        ({"session.id": "s" * 900}, {}, "s" * 500),
        ({}, {}, None),
    ],
)
def test_conversation_groups_runs_and_is_not_a_run_id(
    of_root: dict[str, Any], of_chat: dict[str, Any], conversation: str | None
) -> None:
    run = run_of(span("root", None, AGENT | of_root), span("chat", "root", CHAT | of_chat))
    assert run.run_id == TRACE.hex()
    assert run.conversation_id == conversation
    assert run.correlation_ids == ([conversation] if conversation else [])


STATES: dict[str, tuple[list[Any], str]] = {
    "an agent": ([span("root", None, AGENT)], "success"),
    "an agent that goes on": ([span("root", None, AGENT, end=None), span("chat", "root", CHAT)], "running"),
    "a root that is late": ([span("chat", "root", CHAT), span("tool", "root", TOOL)], "running"),
    "a chain below a root that is late": ([span("chain", "root", CHAIN)], "running"),
    "an agent below a root of another system": ([span("agent", "far", AGENT), span("chat", "agent", CHAT)], "success"),
    "an agent below a late span, beside a function of its process": (
        [span("agent", "root", AGENT, flags=0x101), span("work", "root", {}, flags=0x101)],
        "running",
    ),
    "an agent in a function below a late span of its process": (
        [span("work", "root", {}, flags=0x101), span("agent", "work", AGENT, flags=0x101)],
        "running",
    ),
    "an agent of a program that exports agents only": ([span("agent", "root", AGENT, flags=0x101)], "success"),
    "an agent that ended below a late span, beside one that failed there": (
        [
            span("one", "root", AGENT, flags=0x101),
            span("two", "root", AGENT, status=ERROR, flags=0x101),
            span("work", "root", {}, flags=0x101),
        ],
        "failure",
    ),
    "two agents below a late span, one of them called by another process": (
        [
            span("one", "root", AGENT, flags=0x101),
            span("two", "far", AGENT, flags=0x301),
            span("work", "root", {}, flags=0x101),
        ],
        "success",
    ),
    "agents in a cycle of functions, beside a late span": (
        [
            span("one", "two", {}, flags=0x101),
            span("two", "one", {}, flags=0x101),
            span("agent", "one", AGENT, flags=0x101),
            span("work", "root", {}, flags=0x101),
        ],
        "success",
    ),
    "an agent of a program that also exports its requests to an MCP server": (
        [span("agent", "web", AGENT, flags=0x101), span("list", "web", {"mcp.method.name": "tools/list"}, flags=0x101)],
        "success",
    ),
    "an agent of a program that also exports other operations of its agent": (
        [
            span("agent", "web", AGENT, flags=0x101),
            span("find", "web", {"gen_ai.operation.name": "search_memory"}, flags=0x101),
        ],
        "success",
    ),
    "a failed agent below a late span of its process": (
        [span("agent", "root", AGENT, status=ERROR, flags=0x101), span("work", "root", {}, flags=0x101)],
        "failure",
    ),
    "an agent that another process called": (
        [span("work", "far", {}, flags=0x301), span("agent", "work", AGENT, flags=0x101)],
        "success",
    ),
    "an agent below a root that nobody knows": ([span("web", None, HTTP), span("agent", "web", AGENT)], "success"),
    "an agent that fails below a root that does not": (
        [span("web", None, HTTP), span("agent", "web", AGENT, status=ERROR)],
        "failure",
    ),
    "a root that fails above an agent that does not": (
        [span("web", None, HTTP, status=ERROR), span("agent", "web", AGENT)],
        "success",
    ),
    "an agent that goes on below a root that ended": (
        [span("web", None, HTTP), span("agent", "web", AGENT, end=None)],
        "running",
    ),
    "two agents, one failed": ([span("one", None, AGENT), span("two", None, AGENT, status=ERROR)], "failure"),
    "two agents, one goes on": ([span("one", None, AGENT, status=ERROR), span("two", None, AGENT, end=None)], "running"),
    "two agents, one failed and one cancelled": (
        [span("one", None, AGENT | {"error.type": "cancelled"}), span("two", None, AGENT, status=ERROR)],
        "failure",
    ),
    "a cancelled agent": ([span("root", None, AGENT | {"error.type": "cancelled"})], "cancelled"),
    "a model alone": ([span("chat", None, CHAT)], "success"),
    "a model alone that failed": ([span("chat", None, CHAT, status=ERROR)], "failure"),
    "nothing of an agent": ([span("web", None, HTTP)], "success"),
    "nothing of an agent and no root": ([span("web", "far", HTTP)], "running"),
}  # fmt: skip


@pytest.mark.parametrize(("spans", "status"), STATES.values(), ids=STATES)
def test_run_has_the_status_of_its_root_spans(spans: list[Any], status: str) -> None:
    run = run_of(*spans)
    assert run.status == status
    assert (run.ended_at is None) == (status == "running")


def test_a_run_lasts_from_its_first_span_to_its_last() -> None:
    run = run_of(
        span("web", None, HTTP, start=-5, end=2),
        span("root", "web", AGENT, start=0, end=9),
        span("late", "root", TOOL, start=8, end=20),
    )
    assert run.started_at == 1_705_314_599_995_000
    assert run.ended_at == 1_705_314_600_020_000


def test_several_root_agents_are_steps_and_the_first_names_the_run() -> None:
    run = run_of(
        span("two", None, AGENT | {"gen_ai.agent.name": "second"}, start=5),
        span("one", None, AGENT | {"gen_ai.agent.name": "first"}, start=1),
        span("chat", "two", CHAT, start=6),
    )
    assert run.agent_name == "first"
    assert [(step.step_id, step.parent_step_id, step.agent_name) for step in run.steps] == [
        (id_of("one"), None, "first"),
        (id_of("two"), None, "second"),
        (id_of("chat"), id_of("two"), "second"),
    ]


def test_steps_of_nested_agents_name_the_agent() -> None:
    run = run_of(
        span("root", None, AGENT | {"gen_ai.agent.name": "boss"}),
        span("chat1", "root", CHAT, start=1),
        span("sub", "root", AGENT | {"gen_ai.agent.name": "clerk"}, start=2),
        span("chain", "sub", CHAIN, start=3),
        span("chat2", "chain", CHAT, start=4),
    )
    assert [(step.step_id, step.parent_step_id, step.agent_name) for step in run.steps] == [
        (id_of("chat1"), None, "boss"),
        (id_of("sub"), None, "clerk"),
        (id_of("chain"), id_of("sub"), "clerk"),
        (id_of("chat2"), id_of("chain"), "clerk"),
    ]


def test_nested_agents_with_one_name_leave_the_agent_out() -> None:
    run = run_of(span("root", None, AGENT), span("sub", "root", AGENT), span("chat", "sub", CHAT))
    assert [step.agent_name for step in run.steps] == [None, None]


def test_agent_without_a_name_is_named_after_its_span() -> None:
    nameless = {"gen_ai.operation.name": "invoke_agent"}
    run = run_of(span("root", None, nameless, title="invoke_agent boss"), span("sub", "root", nameless, title=""))
    assert run.agent_name == "boss"
    assert [step.agent_name for step in run.steps] == ["unknown"]


def test_agent_name_is_cut() -> None:
    nameless = {"gen_ai.operation.name": "invoke_agent"}
    run = run_of(span("root", None, AGENT), span("sub", "root", nameless, title="n" * 5_000))
    assert [step.agent_name for step in run.steps] in (["n" * 500], ["n" * 1_000])


def test_unknown_span_between_two_steps_does_not_separate_them() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", CHAT, start=1),
        span("http", "chat", HTTP, start=2),
        span("inner", "http", CHAIN, start=3),
        span("tool", "http", TOOL, start=4),
    )
    assert [(step.step_id, step.parent_step_id) for step in run.steps] == [
        (id_of("chat"), None),
        (id_of("inner"), id_of("chat")),
    ]
    assert run.tool_calls[0].step_id == id_of("chat")


def test_late_root_of_another_system_becomes_the_root_of_the_run() -> None:
    parts = [span("sub", "root", AGENT | {"gen_ai.agent.name": "clerk"}, start=2), span("chat", "sub", CHAT, start=3)]
    early = run_of(*parts)
    late = run_of(*parts, span("root", None, AGENT))
    assert early.agent_name == "clerk"
    assert late.agent_name == "shop-agent"
    assert [len(early.steps), len(late.steps)] == [1, 2]


def test_ids_of_steps_and_calls_equal_those_of_their_spans() -> None:
    record = record_of_spans(span("root", None, AGENT), span("chat", "root", CHAT), span("tool", "root", TOOL))
    assert {item.ref_id for item in record.items} == {id_of("chat"), id_of("tool")}
    assert {item.position for item in record.items} == {0}
    assert extra(run_of(span("chat", None, CHAT)).steps[0], "span_kind") == "llm"
