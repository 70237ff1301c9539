"""Collapsing of spans: internal steps of frameworks are left out, and layers of one model call become one step."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, extra, id_of, run_of, span

CHAIN = {"openinference.span.kind": "CHAIN"}
LLM = {"openinference.span.kind": "LLM"}
ERROR = 2


def names(run: AgentRun) -> list[str]:
    return [step.name for step in run.steps]


def test_internal_steps_of_langchain_are_left_out_and_their_children_move_up() -> None:
    run = run_of(
        span("root", None, CHAIN, title="desk", end=9),
        span("node", "root", CHAIN, title="agent", start=1),
        span("seq", "node", CHAIN, title="RunnableSequence", start=2),
        span("prompt", "seq", CHAIN, title="Prompt", start=3),
        span("model", "seq", LLM, title="ChatOpenAI", start=4),
    )
    assert names(run) == ["agent", "ChatOpenAI"]
    assert run.steps[1].parent_step_id == id_of("node")


def test_internal_step_that_failed_by_itself_is_shown() -> None:
    run = run_of(
        span("root", None, CHAIN, title="desk", end=9),
        span("parser", "root", CHAIN, title="JsonOutputParser", start=1, status=ERROR, message="no JSON"),
    )
    assert names(run) == ["JsonOutputParser"]
    assert run.steps[0].error_message == "no JSON"


def test_internal_step_that_repeats_the_error_of_its_child_is_left_out() -> None:
    run = run_of(
        span("root", None, CHAIN, title="desk", end=9, status=ERROR),
        span("seq", "root", CHAIN, title="RunnableSequence", start=1, status=ERROR, message="boom"),
        span("model", "seq", LLM, title="ChatOpenAI", start=2, status=ERROR, message="boom"),
    )
    assert names(run) == ["ChatOpenAI"]


@pytest.mark.parametrize("name", ["LiteLLMModel.__call__", "LM.__call__", "OpenAI.chat"])
def test_model_call_named_after_a_public_method_is_a_step(name: str) -> None:
    run = run_of(
        span("root", None, {"openinference.span.kind": "AGENT"}, title="CodeAgent.run", end=9),
        span("model", "root", LLM, title=name, start=1),
    )
    assert names(run) == [name]
    assert run.steps[0].span_kind == "llm"


def test_preparation_of_a_model_call_is_left_out() -> None:
    run = run_of(
        span("root", None, {"openinference.span.kind": "AGENT"}, title="CodeAgent.run", end=9),
        span("prepare", "root", LLM, title="OpenAI._prepare_chat_with_tools", start=1),
        span("model", "root", LLM, title="OpenAI.chat", start=2),
    )
    assert names(run) == ["OpenAI.chat"]


def test_internal_step_at_the_top_is_the_run() -> None:
    run = run_of(span("seq", None, CHAIN, title="RunnableSequence", end=9), span("model", "seq", LLM, start=1))
    assert run.agent_name == "RunnableSequence"
    assert [step.step_id for step in run.steps] == [id_of("model")]


def test_three_layers_of_one_model_call_are_one_step_with_the_fields_of_all() -> None:
    def layer(**more: Any) -> dict[str, Any]:
        return LLM | {key.replace("__", "."): value for key, value in more.items()}

    run = run_of(
        span("root", None, AGENT, end=9),
        span("achat", "root", layer(), title="OpenAI.achat", start=1, end=8),
        span("chat", "achat", layer(llm__model_name="m-1"), title="OpenAI.chat", start=2, end=7),
        span("complete", "chat", layer(llm__token_count__prompt=7), title="OpenAI.complete", start=3, end=6),
    )
    assert names(run) == ["OpenAI.achat"]
    assert extra(run.steps[0], "model") == "m-1"
    assert extra(run.steps[0], "tokens_prompt") == 7
    assert run.model == "m-1"
    assert run.cost is not None
    assert run.cost.tokens_prompt == 7


def test_attempts_inside_a_model_call_are_all_shown() -> None:
    run = run_of(
        span("root", None, AGENT, end=9),
        span("call", "root", CHAT, title="call", start=1, end=8),
        span("try1", "call", CHAT, title="first", start=2, end=3, status=ERROR, message="429"),
        span("try2", "call", CHAT, title="second", start=4, end=7),
    )
    assert names(run) == ["call", "first", "second"]


def test_model_call_of_a_tool_is_not_joined_with_the_call_around_the_tool() -> None:
    run = run_of(
        span("root", None, AGENT, end=9),
        span("outer", "root", CHAT, start=1, end=8),
        span("agent2", "outer", AGENT | {"gen_ai.agent.name": "helper"}, start=2, end=7),
        span("inner", "agent2", CHAT, start=3, end=6),
        span("tool", "agent2", TOOL, start=3, end=4),
    )
    assert {step.step_id for step in run.steps} == {id_of("outer"), id_of("agent2"), id_of("inner")}


@pytest.mark.parametrize("layers", list(permutations("abc")), ids="".join)
def test_layers_that_begin_at_the_same_time_are_one_step(layers: tuple[str, str, str]) -> None:
    outer, middle, inner = layers
    run = run_of(
        span("root", None, AGENT, end=9),
        span(outer, "root", LLM, title="outer", start=1, end=8),
        span(middle, outer, LLM, title="middle", start=1, end=7),
        span(inner, middle, LLM | {"llm.model_name": "m-1"}, title="inner", start=1, end=6),
    )
    assert names(run) == ["outer"]
    assert extra(run.steps[0], "model") == "m-1"


def test_events_that_beeai_exports_as_spans_are_no_steps_calls_or_agents() -> None:
    def event(name: str, parent: str, kind: str, path: str, **more: Any) -> Any:
        attributes = {"openinference.span.kind": kind, "metadata.path": path, "metadata.id": "e5e3"}
        return span(name, parent, attributes, title=path.rpartition(".")[2], **more)

    tool = {"openinference.span.kind": "TOOL", "tool.name": "order_lookup", "metadata.class_name": "FunctionTool"}
    wrapped = '{"input": {"order_id": "A-17"}, "options": null}'
    run = run_of(
        span(
            "agent", None, {"openinference.span.kind": "AGENT", "agent.name": "order_desk"}, title="order_desk", end=9
        ),
        span("model", "agent", LLM, title="OpenAIChatModel", start=1),
        event("failed", "model", "LLM", "backend.openai.chat.error", start=1),
        span("tool", "agent", tool | {"input.value": wrapped}, title="order_lookup", start=2, status=ERROR),
        event("error", "tool", "TOOL", "tool.custom.order_lookup.error", start=2, status=ERROR),
        event("answer", "agent", "AGENT", "agent.requirement.final_answer", start=3),
    )
    assert (names(run), run.agent_name, extra(run, "agents")) == (["OpenAIChatModel"], "order_desk", None)
    assert [(call.tool_name, call.args_json) for call in run.tool_calls] == [("order_lookup", {"order_id": "A-17"})]
