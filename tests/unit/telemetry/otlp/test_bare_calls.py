"""A failed or cancelled model call of Google's ADK for TypeScript: a span with the name `call_llm` and no attributes."""

from __future__ import annotations

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from unit.telemetry.otlp.builders import run_of, span

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "order_desk"}


def _bare_call(parent: str) -> Span:
    return span("bare", parent, {}, title="call_llm", start=1, end=2)


def _invocation(*inside: Span) -> tuple[Span, ...]:
    return (span("root", None, {}, title="invocation", end=9), span("agent", "root", AGENT, end=9), *inside)


def test_bare_call_inside_an_agent_is_a_model_call() -> None:
    [step] = run_of(*_invocation(_bare_call("agent"))).steps
    assert (step.name, (step.model_extra or {})["span_kind"]) == ("call_llm", "llm")


def test_function_of_a_program_with_this_name_is_no_model_call() -> None:
    assert run_of(*_invocation(_bare_call("root"))).steps == []


def test_call_with_an_attribute_of_the_program_is_no_bare_call() -> None:
    own = span("own", "agent", {"shop.order": "A-17"}, title="call_llm", start=1, end=2)
    assert run_of(*_invocation(own)).steps == []
