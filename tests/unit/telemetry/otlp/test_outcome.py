"""The outcome of a span, from its status, error types and exceptions."""

from __future__ import annotations

from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, call_of, event_of, exception, run_of, span, step_of

OK, ERROR = 1, 2

ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str | None, str | None]]] = {
    "nothing said": ({}, {}, ("success", None, None)),
    "status OK": ({}, {"status": OK}, ("success", None, None)),
    "status ERROR": ({}, {"status": ERROR}, ("failure", None, None)),
    "status ERROR with a message": ({}, {"status": ERROR, "message": "boom"}, ("failure", None, "boom")),
    "an error type": ({"error.type": "TimeoutError"}, {}, ("failure", "TimeoutError", None)),
    "an error type that the status denies": (
        {"error.type": "TimeoutError"},
        {"status": OK},
        ("failure", "TimeoutError", None),
    ),
    "an error type and message": ({"error.type": "E", "error.message": "m"}, {}, ("failure", "E", "m")),
    "an error without a name": ({"error.type": "_OTHER", "error.message": "m"}, {}, ("failure", None, "m")),
    "an error of Langfuse": (
        {
            "langfuse.session.id": "s",
            "langfuse.observation.level": "ERROR",
            "langfuse.observation.status_message": "m",
        },
        {},
        ("failure", None, "m"),
    ),
    "a class in place of a message, of Langfuse": (
        {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "CancelledError"},
        {"status": ERROR, "message": "CancelledError"},
        ("cancelled", "CancelledError", "CancelledError"),
    ),
    "a class in place of a message": (
        {},
        {"status": ERROR, "message": "httpx.ReadTimeoutError"},
        ("failure", "httpx.ReadTimeoutError", "httpx.ReadTimeoutError"),
    ),
    "a word in place of a message": ({}, {"status": ERROR, "message": "error"}, ("failure", None, "error")),
    "an empty error type": ({"error.type": ""}, {}, ("success", None, None)),
    "an exception that the status denies": (
        {},
        {"status": OK, "events": [exception("ReadError", "stream broke")]},
        ("failure", "ReadError", "stream broke"),
    ),
    "the exception is more telling than the type": (
        {"error.type": "500"},
        {"status": ERROR, "message": "failed", "events": [exception("ApiError", "quota")]},
        ("failure", "ApiError", "quota"),
    ),
    "of several exceptions the last": (
        {},
        {"events": [exception("First", "a"), exception("Last", "b")]},
        ("failure", "Last", "b"),
    ),
    "an exception that says nothing": (
        {"error.type": "Fallback"},
        {"status": ERROR, "message": "from the status", "events": [("exception", {})]},
        ("failure", "Fallback", "from the status"),
    ),
    "other events": ({}, {"events": [("gen_ai.choice", {"exception.type": "X"})]}, ("success", None, None)),
    "a pause of LangGraph": (
        {},
        {"status": ERROR, "events": [exception("langgraph.errors.GraphInterrupt", "wait for a person")]},
        ("success", None, None),
    ),
    "the end of a stream": ({"error.type": "StopAsyncIteration"}, {"status": ERROR}, ("success", None, None)),
    "a generator that is closed": ({}, {"events": [exception("GeneratorExit", "")]}, ("success", None, None)),
    "cancelled": (
        {},
        {"status": ERROR, "events": [exception("asyncio.exceptions.CancelledError", "")]},
        ("cancelled", "asyncio.exceptions.CancelledError", None),
    ),
    "cancelled, by type": ({"error.type": "cancelled"}, {}, ("cancelled", "cancelled", None)),
    "stopped at the keyboard": (
        {"error.type": "KeyboardInterrupt"},
        {"status": ERROR},
        ("cancelled", "KeyboardInterrupt", None),
    ),
    "not over": ({}, {"end": None}, ("running", None, None)),
    "not over and failed already": ({"error.type": "E"}, {"end": None}, ("failure", "E", None)),
    "not over and paused": ({}, {"end": None, "events": [exception("GraphInterrupt", "")]}, ("running", None, None)),
    "an error type that is a number": ({"error.type": 429}, {}, ("failure", "429", None)),
}


@pytest.mark.parametrize(("attributes", "fields", "end"), ENDS.values(), ids=ENDS)
def test_steps_calls_and_runs_have_the_same_outcome(
    attributes: dict[str, Any], fields: dict[str, Any], end: tuple[str, str | None, str | None]
) -> None:
    step = step_of(CHAT | attributes, **fields)
    call = call_of(TOOL | attributes, **fields)
    run = run_of(span("root", None, AGENT | attributes, **fields))

    assert (step.status, step.error_class, step.error_message) == end
    assert (call.status, call.error_class, call.error_message) == end
    running = end[0] == "running" or fields.get("end", 1) is None
    assert (run.status, run.error_type, run.error_message) == (("running", None, None) if running else end)


def test_a_failed_step_does_not_make_a_failed_run() -> None:
    run = run_of(span("root", None, AGENT), span("chat", "root", CHAT, status=ERROR))
    assert run.status == "success"
    assert run.steps[0].status == "failure"


def test_an_end_before_the_start_becomes_the_start() -> None:
    for item in (step_of(CHAT, start=5, end=2), call_of(TOOL, start=5, end=2)):
        assert item.started_at == item.ended_at
        assert item.latency_ms == 0
    guard = event_of({"openinference.span.kind": "GUARDRAIL"}, start=5, end=2, status=ERROR)
    run: AgentRun = run_of(span("root", None, AGENT, start=5, end=2))
    assert run.started_at == run.ended_at == guard.created_at


def test_times_equal_those_of_the_span_and_the_latency_is_in_milliseconds() -> None:
    step = step_of(CHAT, start=250.5, end=1_000)
    assert step.started_at == 1_705_314_600_250_500
    assert step.ended_at == 1_705_314_601_000_000
    assert step.latency_ms == 749.5


def test_unfinished_item_has_neither_end_nor_latency() -> None:
    for item in (step_of(CHAT, end=None), call_of(TOOL, end=None)):
        assert item.ended_at is None
        assert item.latency_ms is None


def test_long_errors_are_cut() -> None:
    step = step_of(CHAT, status=ERROR, events=[exception("E" * 5_000, "m" * 50_000)])
    assert step.error_class == "E" * 1_000
    assert step.error_message == "m" * 16_000
    run = run_of(span("root", None, AGENT, status=ERROR, events=[exception("E" * 5_000, "m" * 50_000)]))
    assert run.error_type == "E" * 1_000
    assert run.error_message == "m" * 16_000


GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "shop.py", line 3, in ask
  |     async with anyio.create_task_group() as tasks:
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Exception Group Traceback (most recent call last):
    |   File "shop.py", line 9, in connect
    |     raise ShopError("no")
    | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
    +-+---------------- 1 ----------------
      | Traceback (most recent call last):
      |   File "shop.py", line 12, in send
      | mcp.shared.exceptions.MCPError: Connection closed
      +------------------------------------
"""
ONE = "unhandled errors in a TaskGroup (1 sub-exception)"


@pytest.mark.parametrize(
    ("message", "stack", "shown"),
    [
        (ONE, GROUP, ("mcp.shared.exceptions.MCPError", "Connection closed")),
        (
            ONE,
            GROUP.replace("MCPError: Connection closed", "TimeoutError"),
            ("mcp.shared.exceptions.TimeoutError",) * 2,
        ),
        (
            ONE,
            GROUP.replace("Connection closed", "1 validation error\n      | order_id\n      |   Field required"),
            ("mcp.shared.exceptions.MCPError", "1 validation error"),
        ),
        (ONE, None, ("ExceptionGroup", ONE)),
        (ONE.replace("1", "2"), GROUP, ("ExceptionGroup", ONE.replace("1", "2"))),
    ],
)
def test_error_of_a_task_group_is_that_of_its_only_failed_task(
    message: str, stack: str | None, shown: tuple[str, str]
) -> None:
    kind, raised = exception("ExceptionGroup", message)
    traced = {**raised, "exception.stacktrace": stack} if stack is not None else raised
    call = call_of(TOOL, status=ERROR, events=[(kind, traced)])
    assert (call.error_class, call.error_message) == shown
