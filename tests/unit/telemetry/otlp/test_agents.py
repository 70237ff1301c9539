"""The agents of a trace: which spans belong to an agent, and which agent called or handed over to another."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, Attributes, extra, load, record_of_spans, run_of, span


def named(name: str, **more: Any) -> Attributes:
    return AGENT | {"gen_ai.agent.name": name} | more


def talks(question: str, answer: str | None = None, *, after: list[Any] | None = None) -> Attributes:
    """Return the attributes of a model call with the messages of a conversation and its answer."""
    taken = [{"role": "user", "parts": [{"type": "text", "content": question}]}, *(after or [])]
    given = [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}] if answer else []
    return CHAT | {"gen_ai.input.messages": taken, "gen_ai.output.messages": given}


def asks(question: str, tool: str, **arguments: str) -> Attributes:
    request = {"type": "tool_call", "id": question, "name": tool, "arguments": arguments}
    given = [{"role": "assistant", "parts": [request]}]
    return talks(question) | {"gen_ai.output.messages": given}


def after(question: str, tool: str, response: str) -> list[Any]:
    """Return the messages of a tool's request and result, in the form that the next model call receives."""
    return [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": question, "name": tool, "arguments": {}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": question, "response": response}]},
    ]


def agents(*spans: Any) -> list[tuple[str, str | None, str | None]]:
    return [(agent.name, agent.parent, agent.relation) for agent in run_of(*spans).agents]


def test_agent_inside_another_was_called_by_it() -> None:
    assert agents(
        span("root", None, named("boss"), end=9),
        span("chat", "root", CHAT, start=1, end=2),
        span("tool", "root", TOOL, start=3, end=8),
        span("sub", "tool", named("clerk"), start=4, end=7),
    ) == [("boss", None, None), ("clerk", "boss", "called")]


def test_tool_of_a_hand_over_ties_the_agents_and_its_call_names_the_target() -> None:
    spans = [
        span("root", None, {"http.request.method": "POST"}, end=9),
        span("front", "root", named("front_desk"), start=1, end=3),
        span("pass", "front", TOOL | {"gen_ai.tool.name": "transfer_to_billing_desk"}, start=2, end=3),
        span("billing", "root", named("billing desk"), start=4, end=8),
    ]
    assert agents(*spans) == [("front_desk", None, None), ("billing desk", "front_desk", "handed_over")]
    [call] = run_of(*spans).tool_calls
    assert (extra(call, "to_agent"), extra(call, "relation")) == ("billing desk", "handed_over")


def test_hand_over_step_is_named_after_its_target() -> None:
    handoff = {"openinference.span.kind": "TOOL", "tool.name": "handoff", "input.value": '{"to_agent": "billing"}'}
    run = run_of(
        span("root", None, {"http.request.method": "POST"}, end=9),
        span("front", "root", named("front"), start=1, end=2),
        span("pass", "root", handoff, title="FunctionTool.acall", start=3, end=4),
        span("billing", "root", named("billing"), start=5, end=8),
    )
    [step] = [step for step in run.steps if extra(step, "span_kind") == "handoff"]
    assert (step.name, step.agent_name, extra(step, "to_agent")) == ("handoff to billing", "front", "billing")
    assert [(agent.name, agent.parent) for agent in run.agents] == [("front", None), ("billing", "front")]


def test_span_that_only_contains_agents_is_not_listed_as_an_agent() -> None:
    assert agents(
        span("root", None, named("workflow"), end=9),
        span("one", "root", named("north"), start=1, end=2),
        span("chat1", "one", CHAT, start=1, end=2),
        span("two", "root", named("south"), start=3, end=4),
        span("chat2", "two", CHAT, start=3, end=4),
    ) == [("north", None, None), ("south", None, None)]


def test_model_calls_inside_a_tool_that_names_a_coworker_belong_to_that_agent() -> None:
    delegation = TOOL | {
        "gen_ai.tool.name": "Delegate work to coworker",
        "gen_ai.tool.call.arguments": {"task": "Refund 5 EUR.", "coworker": "billing"},
    }
    run = run_of(
        span("root", None, named("front"), end=9),
        span("first", "root", CHAT, start=1, end=2),
        span("ask", "root", delegation, start=3, end=8),
        span("inner", "ask", CHAT, start=4, end=5),
        span("refund", "ask", TOOL | {"gen_ai.tool.name": "refund"}, start=6, end=7),
    )
    assert [(agent.name, agent.parent, agent.relation) for agent in run.agents] == [
        ("front", None, None),
        ("billing", "front", "called"),
    ]
    assert {call.tool_name: extra(call, "agent_name") for call in run.tool_calls} == {
        "Delegate work to coworker": "front",
        "refund": "billing",
    }


def test_request_that_runs_an_agent_gets_the_answer_of_its_span() -> None:
    run = run_of(
        span("root", None, named("boss"), end=9),
        span("chat", "root", asks("Refund it.", "clerk", task="Refund 5 EUR."), start=1, end=2),
        span("sub", "root", named("clerk", **{"agent.output": "Done."}), start=3, end=8),
    )
    [call] = run.tool_calls
    assert (call.tool_name, call.status.value, call.result_summary) == ("clerk", "success", "Done.")


def test_conversations_without_names_are_separate_agents() -> None:
    spans = [
        span("root", None, {"http.request.method": "POST"}, end=20),
        span("a1", "root", asks("Where is A-17?", "lookup", order="A-17"), start=1, end=2),
        span("a2", "root", talks("Where is A-17?", "I cannot say.", after=after("Where is A-17?", "lookup", "Error: no such table")), start=3, end=4),
        span("b1", "root", asks("Where is B-20?", "lookup", order="B-20"), start=5, end=6),
        span("b2", "root", talks("Where is B-20?", "Shipped.", after=after("Where is B-20?", "lookup", "shipped")), start=7, end=8),
    ]  # fmt: skip
    run = run_of(*spans)
    assert [(agent.name, agent.question, agent.answer) for agent in run.agents] == [
        ("conversation 1", "Where is A-17?", "I cannot say."),
        ("conversation 2", "Where is B-20?", "Shipped."),
    ]
    assert [extra(call, "agent_name") for call in run.tool_calls] == ["conversation 1", "conversation 2"]


def test_model_calls_without_earlier_messages_are_one_agent() -> None:
    # A loop that writes a new prompt for each step, or a call that only classifies, continues no conversation.
    spans = [
        span("root", None, {"http.request.method": "POST"}, end=20),
        span("a", "root", talks("Is it about an order?", "Yes."), start=1, end=2),
        span("b1", "root", asks("Where is B-20?", "lookup", order="B-20"), start=5, end=6),
        span("b2", "root", talks("Where is B-20?", "Shipped.", after=after("Where is B-20?", "lookup", "shipped")), start=7, end=8),
    ]  # fmt: skip
    assert run_of(*spans).agents == ()


def test_conversation_about_the_task_of_a_tool_call_is_a_called_agent() -> None:
    spans = [
        span("root", None, {"http.request.method": "POST"}, end=20),
        span("a1", "root", asks("Please refund A-17.", "ask_other", task="Refund 5 EUR for A-17."), start=1, end=2),
        span("b1", "root", asks("Refund 5 EUR for A-17.", "refund", order="A-17"), start=3, end=4),
        span("b2", "root", talks("Refund 5 EUR for A-17.", "Done.", after=after("Refund 5 EUR for A-17.", "refund", "ok")), start=5, end=6),
        span("a2", "root", talks("Please refund A-17.", "Refunded.", after=after("Please refund A-17.", "ask_other", "Done.")), start=7, end=8),
    ]  # fmt: skip
    assert agents(*spans) == [("conversation 1", None, None), ("conversation 2", "conversation 1", "called")]


def test_agent_whose_name_has_only_symbols_is_not_the_target_of_every_hand_over() -> None:
    run = run_of(
        span("root", None, {"http.request.method": "POST"}, end=9),
        span("front", "root", named("front"), start=1, end=3),
        span(
            "pass",
            "front",
            TOOL | {"gen_ai.tool.name": "transfer_to_unknown", "gen_ai.tool.call.arguments": '{"n": 1}'},
            start=2,
            end=3,
        ),
        span("robot", "root", named("🤖"), start=4, end=8),
    )
    assert [(agent.name, agent.parent) for agent in run.agents] == [("front", None), ("🤖", None)]


def test_agent_that_takes_over_inside_the_model_call_that_handed_over_gives_the_answer_and_has_its_own_tokens() -> None:
    """Google ADK for TypeScript ends the span of the call that hands over after the agent that takes over."""

    def counts(tokens: int) -> Attributes:
        return {"gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 1}

    hand_over = {"gen_ai.response.finish_reasons": ["tool_calls"]}
    run = run_of(
        span("desk", None, named("desk"), end=9),
        span("c1", "desk", asks("Where is it?", "transfer_to_agent", agent="billing") | hand_over | counts(100), end=8),
        span("pass", "c1", TOOL | {"gen_ai.tool.name": "transfer_to_agent"}, start=1, end=2),
        span("billing", "c1", named("billing"), start=3, end=7),
        span("c2", "billing", talks("Where is it?", "It was paid.") | counts(200), start=4, end=6),
    )

    assert run.answer == "It was paid."
    assert run.cost is not None
    assert run.cost.tokens_prompt == 300


def test_model_call_that_gave_an_answer_after_the_agent_inside_it_has_the_last_word() -> None:
    run = run_of(
        span("root", None, {"http.request.method": "POST"}, end=9),
        span("c1", "root", talks("Where is it?", "Billing says paid."), end=8),
        span("billing", "c1", named("billing"), start=3, end=7),
        span("c2", "billing", talks("Where is it?", "It was paid."), start=4, end=6),
    )

    assert run.answer == "Billing says paid."


def test_agent_called_as_a_tool_inside_the_model_call_does_not_give_the_answer_of_its_caller() -> None:
    """Google ADK's model calls enclose the tools that they request."""
    asked = asks("Where is it?", "billing") | {"gen_ai.response.finish_reasons": ["tool_calls"]}
    record = record_of_spans(
        span("desk", None, named("desk"), end=9),
        span("c1", "desk", asked, end=8),
        span("call", "c1", TOOL | {"gen_ai.tool.name": "billing"}, start=1, end=7),
        span("billing", "call", named("billing"), start=2, end=6),
        span("c2", "billing", talks("Where is it?", "It was paid."), start=3, end=5),
    )

    assert load(record).answer is None
    assert (record.row.outcome, record.row.outcome_rule) == ("unknown", "no_answer")


def two_hand_overs(*, is_span_last: bool, starts: tuple[float, float] = (2, 5)) -> list[SpanMessage]:
    """Return a trace in which "front" and "desk" hand over to "billing".

    The hand-over by "desk" has a tool's span; only a message reports the one by "front". `starts` are their times.
    """
    tool = "transfer_to_billing"
    message, call = starts if is_span_last else reversed(starts)
    return [
        span("root", None, {"http.request.method": "POST"}, end=9),
        span("front", "root", named("front"), start=0, end=7),
        span("ask1", "front", asks("Where is my bill?", tool), start=message - 1, end=message),
        span("desk", "root", named("desk"), start=0, end=7),
        span("ask2", "desk", asks("Is it paid?", tool), start=call - 1, end=call),
        span("pass", "desk", TOOL | {"gen_ai.tool.name": tool, "gen_ai.tool.call.id": "Is it paid?"}, start=call),
        span("billing", "root", named("billing"), start=6, end=8),
    ]


def test_last_hand_over_decides_the_parent_if_only_messages_report_the_earlier_one() -> None:
    assert ("billing", "desk", "handed_over") in agents(*two_hand_overs(is_span_last=True))


def test_last_hand_over_decides_the_parent_if_only_messages_report_it() -> None:
    assert ("billing", "front", "handed_over") in agents(*two_hand_overs(is_span_last=False))


@given(st.data(), st.booleans(), st.sampled_from([(2, 5), (3, 3)]))
@examples(60)
def test_order_of_arrival_does_not_change_the_parents_of_agents(
    data: st.DataObject, is_span_last: bool, starts: tuple[float, float]
) -> None:
    trace = two_hand_overs(is_span_last=is_span_last, starts=starts)
    arrived = data.draw(st.permutations(trace))
    assert agents(*arrived) == agents(*trace)
    assert record_of_spans(*arrived) == record_of_spans(*trace)
