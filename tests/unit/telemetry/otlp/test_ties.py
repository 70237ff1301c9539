"""Links within a trace: tool calls belong to the answers that requested them, and each token is counted once."""

from __future__ import annotations

from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, CHAT, id_of, run_of, span

TOOL = {"gen_ai.tool.name": "order_lookup"}
EMBEDDING = {"gen_ai.operation.name": "embeddings"}
CHAIN = {"openinference.span.kind": "CHAIN"}
GUARDRAIL = {"openinference.span.kind": "GUARDRAIL", "guardrail.passed": False}
RETRIEVER = {"openinference.span.kind": "RETRIEVER"}


def asks_for(*call_ids: object) -> dict[str, Any]:
    parts = [{"type": "tool_call", "id": call_id, "name": "order_lookup"} for call_id in call_ids]
    return CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": parts}]}


def usage(prompt: int | None = None, completion: int | None = None, cost: float | None = None) -> dict[str, Any]:
    names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cost")
    return {name: value for name, value in zip(names, (prompt, completion, cost), strict=True) if value is not None}


def cost_of(run: AgentRun) -> tuple[int | None, int | None, float | None]:
    if run.cost is None:
        return None, None, None
    return run.cost.tokens_prompt, run.cost.tokens_completion, run.cost.total_cost_usd


def test_call_belongs_to_the_answer_that_requested_it() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("chat1", "root", asks_for("a", "b"), start=1),
        span("tool1", "root", TOOL | {"gen_ai.tool.call.id": "b"}, start=2),
        span("chat2", "root", asks_for("c"), start=3),
        span("tool2", "root", TOOL | {"gen_ai.tool.call.id": "c"}, start=4),
        span("tool3", "root", TOOL | {"gen_ai.tool.call.id": "a"}, start=5),
        span("tool4", "root", TOOL | {"gen_ai.tool.call.id": "nobody's"}, start=6),
        span("tool5", "root", TOOL, start=7),
    )
    assert {call.call_id: call.step_id for call in run.tool_calls} == {
        id_of("tool1"): id_of("chat1"),
        id_of("tool2"): id_of("chat2"),
        id_of("tool3"): id_of("chat1"),
        id_of("tool4"): None,
        id_of("tool5"): None,
    }


def test_a_call_below_a_step_belongs_to_that_step() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", asks_for("a"), start=1),
        span("node", "root", CHAIN, start=2),
        span("tool", "node", TOOL | {"gen_ai.tool.call.id": "a"}, start=3),
    )
    assert run.tool_calls[0].step_id == id_of("node")


def test_first_of_two_answers_that_request_one_call_counts() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("second", "root", asks_for("a"), start=3),
        span("first", "root", asks_for("a"), start=1),
        span("tool", "root", TOOL | {"gen_ai.tool.call.id": "a"}, start=4),
    )
    assert run.tool_calls[0].step_id == id_of("first")


def test_a_request_without_an_id_belongs_to_the_next_call_of_this_tool_without_an_id() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", asks_for("", None, 5, ["a"]), start=1),
        span("tool", "root", TOOL, start=2),
        span("empty", "root", TOOL | {"gen_ai.tool.call.id": ""}, start=3),
        span("search", "root", RETRIEVER, start=4),
        span("guard", "root", GUARDRAIL, start=5),
    )
    assert {call.call_id: call.step_id for call in run.tool_calls if "." not in call.call_id} == {
        id_of("tool"): id_of("chat"),
        id_of("empty"): id_of("chat"),
        id_of("search"): None,
    }
    assert [event.step_id for event in run.guardrail_events] == [None]


def test_openinference_answer_owns_the_call_that_it_requested() -> None:
    asking = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-x",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "a",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "order_lookup",
    }
    tool = {"openinference.span.kind": "TOOL", "tool.name": "order_lookup", "tool_call.id": "a"}
    run = run_of(span("root", None, AGENT), span("chat", "root", asking, start=1), span("tool", "root", tool, start=2))
    assert run.tool_calls[0].step_id == id_of("chat")


COSTS: dict[str, tuple[list[Any], tuple[int | None, int | None, float | None]]] = {
    "models": (
        [
            span("root", None, AGENT),
            span("chat1", "root", CHAT | usage(10, 1, 0.1)),
            span("chat2", "root", CHAT | usage(20, 2, 0.2)),
            span("vector", "root", EMBEDDING | usage(5)),
        ],
        (35, 3, 0.1 + 0.2),
    ),
    "an agent that adds up what its models took": (
        [
            span("root", None, AGENT | usage(30, 3)),
            span("chat1", "root", CHAT | usage(10, 1)),
            span("chat2", "root", CHAT | usage(20, 2)),
        ],
        (30, 3, None),
    ),
    "nested agents and chains that add up": (
        [
            span("root", None, AGENT | usage(10, 1)),
            span("sub", "root", AGENT | usage(10, 1)),
            span("chain", "sub", CHAIN | usage(10, 1)),
            span("chat", "chain", CHAT | usage(10, 1)),
        ],
        (10, 1, None),
    ),
    "a gateway below the model's client": (
        [
            span("root", None, AGENT),
            span("chat", "root", CHAT | usage(10, 1)),
            span("http", "chat", {"http.request.method": "POST"}),
            span("gate", "http", CHAT | usage(10, 1)),
        ],
        (10, 1, None),
    ),
    "a gateway that alone knows": (
        [span("root", None, AGENT), span("chat", "root", CHAT), span("gate", "chat", CHAT | usage(10, 1))],
        (10, 1, None),
    ),
    "a gateway below a client whose counts are none": (
        [
            span("root", None, AGENT),
            span("chat", "root", CHAT | {"gen_ai.usage.input_tokens": "many"}),
            span("gate", "chat", CHAT | usage(10, 1)),
        ],
        (10, 1, None),
    ),
    "an agent that alone knows": ([span("root", None, AGENT | usage(30, 3, 1.5)), span("chat", "root", CHAT)],
                                  (30, 3, 1.5)),
    "an agent that alone knows, its models' counts being none": (
        [span("root", None, AGENT | usage(30, 3)), span("chat", "root", CHAT | {"gen_ai.usage.input_tokens": -1})],
        (30, 3, None),
    ),
    "an evaluator that adds up what its model took": (
        [
            span("root", None, AGENT),
            span("judge", "root", {"openinference.span.kind": "EVALUATOR", "llm.token_count.prompt": 10}),
            span("chat", "judge", CHAT | usage(10)),
        ],
        (10, None, None),
    ),
    "a model that asks another one, by way of a tool": (
        [
            span("root", None, AGENT),
            span("chat", "root", CHAT | usage(10, 1)),
            span("tool", "root", TOOL),
            span("inner", "tool", CHAT | usage(20, 2)),
        ],
        (30, 3, None),
    ),
    "nobody knows": ([span("root", None, AGENT), span("chat", "root", CHAT)], (None, None, None)),
    "zero": ([span("root", None, AGENT), span("chat", "root", CHAT | usage(0, 0, 0.0))], (0, 0, None)),
}  # fmt: skip


@pytest.mark.parametrize(("spans", "cost"), COSTS.values(), ids=COSTS)
def test_every_token_is_counted_once(spans: list[Any], cost: tuple[int | None, int | None, float | None]) -> None:
    assert cost_of(run_of(*spans)) == pytest.approx(cost)


def test_sums_beyond_the_column_range_do_not_lose_the_run() -> None:
    tokens = [span(f"chat{n}", "root", CHAT | usage(2**63 - 1, 1)) for n in range(2)]
    assert cost_of(run_of(span("root", None, AGENT), *tokens))[1] == 2
    costs = [span(f"chat{n}", "root", CHAT | usage(1, 1, 1e12)) for n in range(2)]
    assert cost_of(run_of(span("root", None, AGENT), *costs))[:2] == (2, 2)
