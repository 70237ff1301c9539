"""Spans of the callback handler that Langfuse 5.0 has for LangChain, with the attributes that it sent."""

from __future__ import annotations

from unit.telemetry.otlp.builders import run_of, span

NODE = {"langfuse.observation.type": "chain", "langfuse.observation.metadata.lc_agent_name": '"desk"'}
MODEL = NODE | {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4o"}


def test_agent_is_named_although_the_root_span_is_lost() -> None:
    run = run_of(span("node", "lost", NODE, title="model", end=3), span("one", "node", MODEL, start=1, end=2))

    assert run.agent_name == "desk"
