"""Spans of OpenHands' SDK 1.58, which Laminar's SDK and LiteLLM make, with the attributes that they sent."""

from __future__ import annotations

import json

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, CHAT, run_of, span

ARGUMENTS = {"order_id": "A-17"}
REQUEST = {"id": "c1", "type": "function", "function": {"name": "order_lookup", "arguments": json.dumps(ARGUMENTS)}}


def run_with_one_call(prompt: int = 120) -> AgentRun:
    """Return the run of a conversation in which the model called a tool, whose span is named after its arguments.

    `prompt` is the number of prompt tokens that each of the two model calls reports.
    """
    asked = [{"role": "user", "content": "Where is A-17?"}]
    requested = {"role": "assistant", "content": None, "tool_calls": [REQUEST]}
    known = [*asked, requested, {"role": "tool", "tool_call_id": "c1", "content": "shipped"}]
    cost = {"lmnr.span.type": "LLM", "gen_ai.usage.cost": 0.5, "gen_ai.usage.cache_read_input_tokens": 64}
    tokens = {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": 18}
    model = {"lmnr.span.type": "LLM", "gen_ai.request.model": "gpt-x", "gen_ai.system": "openai"} | tokens
    tool = {
        "lmnr.span.type": "TOOL",
        "lmnr.span.input": json.dumps({"action": ARGUMENTS}),
        "lmnr.association.properties.metadata.tool_call_id": "c1",
    }
    first = {"gen_ai.input.messages": json.dumps(asked), "gen_ai.output.messages": json.dumps([requested])}
    answer = json.dumps([{"role": "assistant", "content": "It was shipped."}])
    second = {"gen_ai.input.messages": json.dumps(known), "gen_ai.output.messages": answer}
    return run_of(
        span("talk", None, {"lmnr.span.type": "DEFAULT"}, title="conversation", end=20),
        span("cost1", "talk", cost, title="llm.gpt-x", start=1, end=4),
        span("model1", "cost1", model | first, title="litellm.completion", start=2, end=3),
        span("tool", "talk", tool, title="OrderLookupAction", start=5, end=6),
        span("cost2", "talk", cost, title="llm.gpt-x", start=7, end=10),
        span("model2", "cost2", model | second, title="litellm.completion", start=8, end=9),
    )


def test_call_whose_span_has_the_id_of_its_request_is_listed_once() -> None:
    assert [call.tool_name for call in run_with_one_call().tool_calls] == ["OrderLookupAction"]


def test_tokens_of_the_inner_span_and_the_cost_of_the_outer_one_are_those_of_one_model_call() -> None:
    cost = run_with_one_call().cost

    assert cost is not None
    assert (cost.tokens_prompt, cost.tokens_completion, cost.tokens_cached) == (240, 36, 128)
    assert cost.total_cost_usd == 1.0


def test_prompt_of_the_inner_span_without_the_cached_tokens_of_the_outer_one_is_completed_by_them() -> None:
    cost = run_with_one_call(prompt=10).cost

    assert cost is not None
    assert (cost.tokens_prompt, cost.tokens_cached) == (148, 128)


def test_figure_that_both_spans_of_a_model_call_report_is_that_of_the_outer_one() -> None:
    outer = CHAT | {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.cost": 0.5}
    inner = CHAT | {"gen_ai.usage.input_tokens": 121, "gen_ai.usage.output_tokens": 18, "gen_ai.usage.cost": 0.25}
    run = run_of(span("it", None, AGENT, end=9), span("out", "it", outer, end=4), span("in", "out", inner, start=1))

    assert run.cost is not None
    assert (run.cost.tokens_prompt, run.cost.tokens_completion, run.cost.total_cost_usd) == (120, 18, 0.5)
