"""LangChain and LangGraph agents, traced by OpenInference's instrumentation and sent by OpenTelemetry's exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest

from support.lab.installation import Installation, Lab
from support.otlp.runs import StoredRun, assert_report_cites, run_of
from support.otlp.sdk import SentTrace, Telemetry, telemetry_to

ARGUMENTS = {"order_id": "A-1", "days": 3}
QUESTION = "Where is order A-1?"
LOST = ("ValueError", "no customer_id for order A-1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One SQLite installation: only the spans differ from those of other clients, not their storage."""
    installation = Installation.on_sqlite(tmp_path_factory.mktemp("lab"))
    with installation.serve() as server, Lab(installation, server) as lab:
        yield lab


@pytest.fixture
def telemetry(lab: Lab) -> Iterator[Telemetry]:
    with telemetry_to(lab.server.url) as telemetry:
        yield telemetry


@pytest.fixture
def lc(telemetry: Telemetry) -> Iterator[ModuleType]:
    """The module of LangChain agents, with their instrumentation active."""
    # Importing LangChain takes a second, so it is imported when a test runs, not when tests are collected.
    from support.otlp import langchain

    with langchain.instrumented(telemetry.provider):
        yield langchain


INTERNAL_NODES = {"agent", "model", "tools", "tools_condition"}
"""The nodes of LangGraph's own agents; each only holds calls of a model or of tools."""


def assert_items(run: StoredRun, trace: SentTrace) -> None:
    """Assert that the root span is the run and that each span below it is a step or tool call, by span id.

    Nodes of LangGraph's own agents are steps only if they show how the run ended.
    """
    root, *_ = trace.of_kind("AGENT", "CHAIN")
    below = trace.of_kind("AGENT", "CHAIN", "LLM")
    nodes = {span_id for span_id, name in below.items() if name in INTERNAL_NODES}
    assert set(run.steps) - nodes == set(below) - nodes - {root}
    assert {run.steps[span_id]["status"] for span_id in nodes & set(run.steps)} <= {"cancelled"}
    # A requested tool call that never ran has no span; its id is derived from the request.
    assert {call_id for call_id in run.calls if "." not in call_id} == set(trace.of_kind("TOOL", "RETRIEVER"))


def test_successful_agent_becomes_a_run_with_its_steps_and_calls(
    lab: Lab, telemetry: Telemetry, lc: ModuleType
) -> None:
    from openinference.instrumentation import using_session

    agent = lc.agent([lc.asks((lc.order_lookup, ARGUMENTS)), lc.says("It was shipped.")], lc.order_lookup)
    with using_session("session-7"):
        agent.invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    assert run.shown("status", "agent_name", "agent_version", "model") == ("success", "shop-agent", "2.1.0", lc.MODEL)
    assert run.shown("conversation_id", "correlation_ids") == ("session-7", ["session-7"])
    assert run.tokens == (lc.ASKING[0] + lc.SAYING[0], lc.ASKING[1] + lc.SAYING[1])
    assert {step["status"] for step in run.steps.values()} == {"success"}
    first, second = (run.steps[trace.id_of("ScriptedModel", nth)] for nth in (0, 1))
    assert first["input_summary"] == QUESTION
    assert first["model"] == lc.MODEL
    assert (first["tokens_prompt"], first["tokens_completion"]) == lc.ASKING
    assert second["output_summary"] == "It was shipped."
    assert "parent_step_id" not in first
    call = run.calls[trace.id_of("order_lookup")]
    assert call["tool_name"] == "order_lookup"
    assert call["status"] == "success"
    assert call["args_json"] == ARGUMENTS
    assert call["result_summary"] == '{"order_id": "A-1", "state": "shipped"}'
    assert call["step_id"] == trace.id_of("ScriptedModel")


def test_error_of_a_tool_fails_the_run_and_is_cited(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    agent = lc.agent([lc.asks((lc.stock_lookup, ARGUMENTS))], lc.stock_lookup)
    with pytest.raises(ValueError, match="customer_id"):
        agent.invoke(lc.asked(QUESTION), {"configurable": {"thread_id": "thread-1"}})
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    assert run.shown("status", "error_type", "error_message", "conversation_id") == ("failure", *LOST, "thread-1")
    assert run.tokens == lc.ASKING
    call = run.calls[trace.id_of("stock_lookup")]
    assert call["status"] == "failure"
    assert (call["error_class"], call["error_message"]) == LOST
    assert call["args_json"] == ARGUMENTS
    assert run.steps[trace.id_of("ScriptedModel")]["status"] == "success"
    assert_report_cites(lab, trace, trace.id_of("stock_lookup"), "tool_call")


def shown_findings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the findings except for ranked guesses, whose confidence must be low."""
    guesses = [item for item in report["findings"] if item["basis"] == "ranked_guess"]
    assert {item["confidence"] for item in guesses} <= {"low"}
    return [item for item in report["findings"] if item["basis"] != "ranked_guess"]


def test_handled_error_of_a_tool_fails_the_call_but_not_the_run(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    graph = lc.graph([lc.asks((lc.stock_lookup, ARGUMENTS)), lc.says("I could not find it.")], lc.stock_lookup)
    graph.invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    # A graph without a name gets the name of its service.
    assert run.shown("status", "agent_name", "error_type") == ("success", "shop", None)
    call = run.calls[trace.id_of("stock_lookup")]
    assert call["status"] == "failure"
    assert (call["error_class"], call["error_message"]) == LOST
    assert {step["status"] for step in run.steps.values()} == {"success"}
    (finding,) = shown_findings(lab.analyse(trace.id))
    assert finding["call_id"] == trace.id_of("stock_lookup")
    # The agent's answer says that it could not find the order, so it did not recover.
    assert finding["recovered"] is False


def test_invalid_tool_arguments_are_reported_as_a_schema_mismatch(
    lab: Lab, telemetry: Telemetry, lc: ModuleType
) -> None:
    agent = lc.agent([lc.asks((lc.order_lookup, {"days": "many"})), lc.says("Sorry.")], lc.order_lookup)
    agent.invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()

    call = run_of(lab, trace).calls[trace.id_of("order_lookup")]

    assert call["status"] == "failure"
    assert call["error_class"].rpartition(".")[2] == "ValidationError"
    report = lab.analyse(trace.id)
    assert [finding["call_id"] for finding in shown_findings(report)] == [trace.id_of("order_lookup")]
    assert shown_findings(report)[0]["category"] == "tool_schema_mismatch"


def test_retriever_becomes_a_tool_call(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    lc.librarian([lc.says("30 days.")]).invoke(lc.asked("How long?"))
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    assert run.header["status"] == "success"
    assert run.tokens == lc.SAYING
    call = run.calls[trace.id_of("PolicyShelf")]
    assert call["tool_name"] == "PolicyShelf"
    assert call["status"] == "success"
    assert call["args_json"] == "How long?"
    assert all(text in call["result_summary"] for text in lc.DOCUMENTS)
    assert call["step_id"] == trace.id_of("look_up")


def test_error_of_a_retriever_fails_the_run_and_is_cited(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    with pytest.raises(ConnectionError):
        lc.librarian([], ConnectionError("index unreachable")).invoke(lc.asked("How long?"))
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert run.shown("status", "error_type", "error_message") == ("failure", "ConnectionError", "index unreachable")
    assert run.calls[trace.id_of("PolicyShelf")]["status"] == "failure"
    assert_report_cites(lab, trace, trace.id_of("PolicyShelf"), "tool_call")


def test_error_of_a_model_fails_the_run_and_is_cited(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    with pytest.raises(TimeoutError):
        lc.agent([TimeoutError("no answer within 30 s")], lc.order_lookup).invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    step = run.steps[trace.id_of("ScriptedModel")]
    assert step["status"] == "failure"
    assert step["error_class"] == "TimeoutError"
    assert step["error_message"] == "no answer within 30 s"
    assert run.shown("status", "model") == ("failure", lc.MODEL)
    assert_report_cites(lab, trace, trace.id_of("ScriptedModel"), "step")


def test_pause_for_approval_is_not_a_failure(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    from langgraph.types import Command

    agent = lc.agent([lc.asks((lc.refund, ARGUMENTS)), lc.says("Done.")], lc.refund, resumable=True)
    thread = {"configurable": {"thread_id": "thread-2"}}
    agent.invoke(lc.asked("Refund order A-1"), thread)
    agent.invoke(Command(resume="yes"), thread)

    runs = [run_of(lab, trace) for trace in telemetry.flush()]

    # LangGraph pauses by an exception, which the instrumentation records.
    assert [run.shown("status", "error_type", "conversation_id") for run in runs] == [("success", None, "thread-2")] * 2
    assert [run.tokens for run in runs] == [lc.ASKING, lc.SAYING]
    (paused,), (resumed,) = (run.calls.values() for run in runs)
    assert paused["status"] != "failure"
    assert "result_summary" not in paused
    assert resumed["status"] == "success"
    assert resumed["result_summary"] == "refunded: yes"
    assert lab.analyse(runs[0].header["run_id"])["findings"] == []


def test_handover_between_agents_is_not_a_failure(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    front = lc.agent([lc.asks((lc.to_billing, {}))], lc.to_billing, name="front")
    billing = lc.agent([lc.asks((lc.order_lookup, ARGUMENTS)), lc.says("Paid.")], lc.order_lookup, name="billing")
    lc.team(front, billing).invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    assert run.shown("status", "error_type") == ("success", None)
    assert run.tokens == (2 * lc.ASKING[0] + lc.SAYING[0], 2 * lc.ASKING[1] + lc.SAYING[1])
    assert {item["status"] for item in (*run.steps.values(), *run.calls.values())} == {"success"}
    assert lab.analyse(trace.id)["findings"] == []


def test_abandoned_stream_is_not_a_failure(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    stream = lc.agent([lc.asks((lc.order_lookup, ARGUMENTS))], lc.order_lookup).stream(lc.asked(QUESTION))
    next(stream)
    stream.close()
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    assert run.header["status"] != "failure"
    assert run.header["error_type"] is None


def test_cancelled_agent_becomes_a_cancelled_run(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    asyncio.run(lc.run_until_cancelled())
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert_items(run, trace)
    assert run.header["status"] == "cancelled"
    assert run.steps[trace.id_of("tools")]["status"] == "cancelled"


def test_a_tool_that_has_agent_in_its_name_is_a_tool(lab: Lab, telemetry: Telemetry, lc: ModuleType) -> None:
    arguments = {"question": "Where?", "urgency": 2}
    with pytest.raises(TimeoutError):
        lc.agent([lc.asks((lc.ask_human_agent, arguments))], lc.ask_human_agent).invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()
    # The instrumentation derives the kind of a span from the name, even for a tool.
    assert trace.id_of("ask_human_agent") in trace.of_kind("AGENT")

    run = run_of(lab, trace)

    call = run.calls[trace.id_of("ask_human_agent")]
    assert call["tool_name"] == "ask_human_agent"
    assert call["status"] == "failure"
    assert call["args_json"] == arguments
    assert not any("agent_name" in step for step in run.steps.values())
    assert_report_cites(lab, trace, trace.id_of("ask_human_agent"), "tool_call")


@pytest.mark.parametrize("query", ["boots", "0123", "123", "1e5", "null", "true"])
def test_a_text_is_a_text_even_if_it_looks_like_json(
    lab: Lab, telemetry: Telemetry, lc: ModuleType, query: str
) -> None:
    lc.agent([lc.asks((lc.find, {"query": query})), lc.says("Nothing.")], lc.find).invoke(lc.asked("Find it."))
    trace = telemetry.only_trace()

    (call,) = run_of(lab, trace).calls.values()

    # The instrumentation reports a single text argument without its name.
    assert call["args_json"] in (query, {"query": query})
    assert isinstance(call["args_json"], str | dict)


def test_response_stopped_by_a_content_filter_becomes_a_guardrail_event(
    lab: Lab, telemetry: Telemetry, lc: ModuleType
) -> None:
    lc.agent([lc.says("", "content_filter")], lc.order_lookup).invoke(lc.asked(QUESTION))
    trace = telemetry.only_trace()

    (event,) = run_of(lab, trace).events

    assert event["type"] == "content_filter"
    assert event["step_id"] == trace.id_of("ScriptedModel")
