"""Answers of model calls: what a client received is read where no output messages show it, and an empty answer is one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, Attributes, exception, run_of, span, step_of

LLM = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-x"}
TOOL = {"openinference.span.kind": "TOOL", "tool.name": "order_lookup", "output.value": "shipped"}
BARE = {"llm.output_messages.0.message.role": "assistant"}
QUESTION = {"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "Where is A-17?"}

REQUEST = {"type": "function_call", "id": "__fake_id__", "call_id": "call_0", "name": "order_lookup", "arguments": "{}"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "think"}]}


def response(*output: Any) -> dict[str, Any]:
    """Return an answer of OpenAI's Responses API, as the OpenAI Agents SDK makes one of streamed chat completions."""
    return {"id": "resp_1", "object": "response", "error": None, "output": list(output), "usage": None}


def said(text: str) -> dict[str, Any]:
    """Return the message of an answer of the Responses API."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def completion(content: str | None, **fields: Any) -> dict[str, Any]:
    """Return an answer of the chat completions API, whose message has these other fields."""
    message = {"role": "assistant", "content": content, **fields}
    return {"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


def generated(content: str) -> dict[str, Any]:
    """Return the result of a model of LangChain."""
    kwargs = {"content": content, "type": "AIMessageChunk"}
    message = {"lc": 1, "type": "constructor", "id": ["langchain", "messages", "AIMessageChunk"], "kwargs": kwargs}
    return {"generations": [[{"text": content, "generation_info": None, "message": message}]], "llm_output": None}


def llama_index(*texts: str) -> dict[str, Any]:
    """Return a response of LlamaIndex."""
    return {"message": {"role": "assistant", "additional_kwargs": {}, "blocks": [{"text": text} for text in texts]}}


PENDING = {**response(), "status": "in_progress"}
ANSWERS: dict[str, tuple[Any, str | None]] = {
    "a list of responses": ([response(said("Shipped."))], "Shipped."),
    "a response": (response(REASONING, said("Shipped.")), "Shipped."),
    "a response that requests a tool": ([response(REQUEST)], "order_lookup({})"),
    "a response without output": ([response()], ""),
    "a response with an empty text": (response(said("")), ""),
    "a chat completion": (completion("Shipped."), "Shipped."),
    "an empty chat completion": (completion(""), ""),
    "a response that is not finished": (PENDING, json.dumps(PENDING)),
    "a sound": (completion(None, audio={"id": "a1", "data": "UklG", "transcript": "Shipped."}), "Shipped."),
    "a sound without its transcript": (completion("", audio={"id": "a1", "data": "UklG"}), "[audio]"),
    "an image": (
        completion("", images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,iV"}}]),
        "[image]",
    ),
    "a request in the old form": (completion("", function_call={"name": "pay", "arguments": "{}"}), "pay({})"),
    "LangChain": (generated("Shipped."), "Shipped."),
    "LangChain, empty": (generated(""), ""),
    "LangChain, a completion": ({"generations": [[{"text": "Shipped."}]]}, "Shipped."),
    "LangChain, a failed call": ({"generations": [[]], "llm_output": None}, ""),
    "LlamaIndex": (llama_index("Shipped."), "Shipped."),
    "LlamaIndex, empty": (llama_index(), ""),
    "LlamaIndex, empty and printed": ("assistant: None", ""),
    "an object of the program": ({"object": "parcel", "output": "none"}, '{"object": "parcel", "output": "none"}'),
    "a list of objects of the program": ([{"message": "hi"}], '[{"message": "hi"}]'),
    "an empty list": ([], "[]"),
    "Agno, an empty stream": ({"messages": []}, ""),
    "MLflow, no output": ("null", None),
    "no answer": (None, None),
}


@pytest.mark.parametrize(("output", "shown"), ANSWERS.values(), ids=ANSWERS)
def test_step_shows_the_answer_that_a_client_received(output: Any, shown: str | None) -> None:
    value = output if isinstance(output, str) else json.dumps(output)

    assert step_of(LLM | ({"output.value": value} if output is not None else {})).output_summary == shown


def test_output_messages_that_say_something_come_before_the_answer_that_a_client_received() -> None:
    output = BARE | {"llm.output_messages.0.message.content": "Shipped.", "output.value": json.dumps(completion("No."))}

    assert step_of(LLM | output).output_summary == "Shipped."


def run_with(last: Attributes) -> AgentRun:
    """Return the run of an agent whose model requests a tool, and then gives an answer with these attributes."""
    asked = LLM | QUESTION | {"output.value": json.dumps([response(REQUEST)])}
    return run_of(
        span("root", None, AGENT, end=9),
        span("m1", "root", asked, start=1, end=2),
        span("t1", "root", TOOL, start=3, end=4),
        span("m2", "root", LLM | QUESTION | last, start=5, end=6),
    )


def test_streamed_answer_of_the_agents_sdk_is_the_answer_of_the_run() -> None:
    later_input = {
        "llm.input_messages.1.message.role": "assistant",
        "llm.input_messages.1.message.tool_calls.0.tool_call.id": "call_0",
        "llm.input_messages.1.message.tool_calls.0.tool_call.function.name": "order_lookup",
        "llm.input_messages.1.message.tool_calls.0.tool_call.function.arguments": "{}",
    }

    run = run_with(later_input | {"output.value": json.dumps([response(said("Shipped."))])})

    assert (run.question, run.answer) == ("Where is A-17?", "Shipped.")
    # The request's `call_id`, and not its `id`, is that of the later input: the call is shown once.
    assert [call.tool_name for call in run.tool_calls] == ["order_lookup"]


@pytest.mark.parametrize(
    "last",
    [
        BARE | {"output.value": json.dumps(completion("")), "llm.finish_reason": "stop"},
        BARE | {"output.value": "assistant: None"},
        {"output.value": json.dumps([response()])},
    ],
    ids=["chat completion", "LlamaIndex", "response"],
)
def test_empty_answer_is_no_answer_of_the_run(last: Attributes) -> None:
    run = run_with(last)

    assert run.answer is None
    assert [step.output_summary for step in run.steps] == ["order_lookup({})", ""]


def test_empty_text_of_an_outer_report_does_not_hide_the_request_of_an_inner_one() -> None:
    request = {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "order_lookup",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}",
    }

    run = run_of(
        span("root", None, AGENT, end=9),
        span("outer", "root", LLM | {"output.value": json.dumps(llama_index())}, start=1, end=4),
        span("inner", "outer", LLM | request, start=2, end=3),
    )

    assert [step.output_summary for step in run.steps] == ["order_lookup({})"]


def test_inner_report_shows_the_input_of_a_model_even_if_the_outer_one_shows_the_answer() -> None:
    outer = {
        "input.value": json.dumps({"messages": ["ChatMessage(role='user')"]}),
        "output.value": json.dumps(llama_index("Shipped.")),
    }

    run = run_of(
        span("root", None, AGENT, end=9),
        span("outer", "root", LLM | outer, start=1, end=4),
        span("inner", "outer", LLM | QUESTION, start=2, end=3),
    )

    assert [(step.input_summary, step.output_summary) for step in run.steps] == [("Where is A-17?", "Shipped.")]


@pytest.mark.parametrize(
    "printed",
    [
        "null",
        '{"output_type": "str"}',
        "\"<AsyncAPIResponse [200 OK] type=<class 'openai.types.responses.response.Response'>>\"",
    ],
)
def test_absent_value_or_printed_object_is_no_question_and_no_answer(printed: str) -> None:
    chain = {"openinference.span.kind": "CHAIN", "input.value": printed, "output.value": printed}

    run = run_of(span("root", None, AGENT, end=9), span("one", "root", chain | AGENT, start=1, end=2))

    assert (run.question, run.answer) == (None, None)
    assert [(agent.question, agent.answer) for agent in run.agents] in ([], [(None, None)])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Why does type(None) print <class 'NoneType'>?", "Why does type(None) print <class 'NoneType'>?"),
        ("The result is <class 'int'>.", "The result is <class 'int'>."),
        ('{"issue_type": "billing"}', "billing"),
    ],
    ids=["question about a class", "answer about a class", "class of a ticket"],
)
def test_text_about_a_class_is_a_question_and_an_answer(text: str, shown: str) -> None:
    run = run_of(span("root", None, AGENT | {"input.value": text, "output.value": text}, end=9))

    assert (run.question, run.answer) == (shown, shown)


def test_printed_error_of_a_failed_model_call_is_its_error_and_no_answer() -> None:
    """BeeAI exports the error of a model call, as printed, as the output of the call and of the agent."""
    printed = (
        "ChatModelError(beeai_framework.backend.errors): Chat Model error\n"
        "  RateLimitError(litellm.exceptions): OpenAIException - quota exceeded"
    )
    raised = [exception("beeai_framework.backend.errors.ChatModelError", "Chat Model error")]

    def run(output: str, *, error: list[Any]) -> AgentRun:
        return run_of(
            span("agent", None, AGENT, end=9),
            span("m1", "agent", LLM | {"output.value": output}, start=1, end=2, status=2, events=error),
        )

    failed = run(printed, error=raised)
    assert failed.answer is None
    assert failed.steps[0].output_summary is None
    assert failed.steps[0].error_message == printed

    answers = (
        "ChatModelError was the error: Chat Model error",
        "ChatModelError: another one",
        "ChatModelError: Chat Model error means that the provider did not answer.",
        "ChatModelError(x): it says that there was a Chat Model error.",
    )
    for output in answers:
        assert run(output, error=raised).steps[0].output_summary == output
    assert (
        run(printed, error=[exception("ValueError", "Chat Model error")]).steps[0].error_message == "Chat Model error"
    )


def test_printed_error_in_the_output_of_a_failed_tool_stays_its_result() -> None:
    printed = "LookupError: no order\n  KeyError: A-17"
    tool = TOOL | {"output.value": printed}
    run = run_of(
        span("agent", None, AGENT, end=9),
        span("call", "agent", tool, start=1, end=2, status=2, events=[exception("LookupError", "no order")]),
    )

    [call] = run.tool_calls
    assert (call.result_summary, call.error_message) == (printed, "no order")
