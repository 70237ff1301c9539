"""Read the conversation in a span's messages: the user's question, the answer, and tool calls with their results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.messages import Message, ToolRequest, ToolResult, parsed, read_messages
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, clean_text
from relab.telemetry.otlp.text import MAX_INPUT_CHARS, MAX_OUTPUT_CHARS, as_text

ANSWERING_TOOLS: Final = frozenset(("final_answer", "final_result"))
"""Tools of smolagents and pydantic-ai that do nothing: a model calls them to give its answer as an argument."""
MAX_CALLS = 1_000
"""The maximum number of tool requests, and of results, that are read from the messages of one span."""


class Talk(NamedTuple):
    """The parts of a conversation with a model, as far as the messages of one span contain them.

    Attributes:
        question: the newest text of a user in the input; None if none was captured.
        answer: the text of the output; None if the output ends with a request of a tool, or if no text was captured.
        requests: the tool calls that the output requests.
        earlier: the tool calls in the input; they come from earlier turns of the conversation.
        results: the results of tools in the input. If the output is a graph's final state, also those in this state.
        opening: the first text of a user in the input of a model call. Model calls with the same opening belong to the
            same conversation.
        rejected: why the program rejected the model's previous answer; None if it did not.
        recalled: how many calls in `earlier` come before the newest text of the user.
    """

    question: str | None = None
    answer: str | None = None
    requests: tuple[ToolRequest, ...] = ()
    earlier: tuple[ToolRequest, ...] = ()
    results: tuple[ToolResult, ...] = ()
    opening: str | None = None
    rejected: str | None = None
    recalled: int = 0

    def completed(self, other: Talk) -> Talk:
        """Return a copy of this conversation in which each empty field has the value of the same field of `other`."""
        return Talk(
            self.question or other.question,
            self.answer or other.answer,
            self.requests or other.requests,
            self.earlier or other.earlier,
            self.results or other.results,
            self.opening or other.opening,
            self.rejected or other.rejected,
            self.recalled if self.earlier else other.recalled,
        )


_SILENT: Final = Talk()


def talk_of(role: Role, attributes: Attributes, taken: list[Message] | None, given: list[Message] | None) -> Talk:
    """Return the user's question, the answer and the tool calls in the messages of a span.

    The result is empty if the span is not that of a model, an agent or a chain.

    Args:
        role: the role of the span.
        attributes: the attributes of the span. A question or an answer that the messages lack is searched here; for a
            model, only if there are no messages.
        taken: the input messages; None if the input is not a list of messages.
        given: the output messages; None if the output is not a list of messages.
    """
    if role is not Role.LLM and role is not Role.AGENT and role is not Role.CHAIN:
        return _SILENT
    took, gave = attributes.get(v.INPUT), attributes.get(v.OUTPUT)
    if taken is None and given is None and took is None and gave is None:
        return _SILENT
    is_model = role is Role.LLM
    question = _user_text(taken) if taken else None
    if question is None and took is not None and not (is_model and taken is not None):
        question = _plain(took, _QUESTIONS)
    answer = _answer_text(given) if given else None
    returned: list[ToolResult] = []
    if answer is None and gave is not None and not (is_model and given is not None):
        answer = _plain(gave, _ANSWERS, returned=returned)
    if answer is None and taken and not is_model:
        answer = _last_answer(taken)
    earlier = _requests(taken) if taken else ()
    return Talk(
        question and question[:MAX_INPUT_CHARS],
        answer and answer[:MAX_OUTPUT_CHARS],
        _requests(given) if given else (),
        earlier,
        tuple(_results(taken or ()) + returned)[-MAX_CALLS:],
        next((message.text[:MAX_INPUT_CHARS] for message in taken if message.role == "user" and message.text), None)
        if taken and is_model
        else None,
        _rejection(taken[-1]) if taken and is_model else None,
        _recalled(taken, len(earlier)) if taken and earlier and is_model else 0,
    )


def _results(messages: Sequence[Message]) -> list[ToolResult]:
    """Return the results of tools in messages.

    Missing fields of a result are copied from the request to which it belongs:

    - A result with a call id and no name gets the name of the request with this id.
    - A result with neither belongs to a request by order: the nth result after a message with requests belongs to the
      nth request in this message. It gets the call id and the name of this request.
    """
    found: list[ToolResult] = []
    names: dict[str | None, str] = {}
    waiting: list[ToolRequest] = []
    for message in messages:
        for result in message.results:
            request = waiting.pop(0) if waiting else None
            if result.name is None and result.call_id in names:
                found.append(result._replace(name=names[result.call_id]))
            elif request is None or result.call_id is not None or result.name is not None:
                found.append(result)
            else:
                found.append(result._replace(call_id=request.call_id, name=request.name))
        if message.requests:
            waiting = list(message.requests[:MAX_CALLS])
            names.update((request.call_id, request.name) for request in waiting if request.call_id is not None)
    return found


def _recalled(messages: Sequence[Message], count: int) -> int:
    """Return how many of the last `count` tool requests in the messages come before the newest text of the user.

    Return 0 if there is no such text. Requests to call one of `ANSWERING_TOOLS` are not counted. Messages that a
    framework writes in the name of the user (`_FEEDBACK`) are not texts of the user.
    """
    for message in reversed(messages):
        if message.role == "user" and message.text and not message.results and _FEEDBACK.match(message.text) is None:
            return max(count, 0)
        count -= len([request for request in message.requests if request.name not in ANSWERING_TOOLS])
    return 0


def _rejection(last: Message) -> str | None:
    """Return the error with which the agent's program rejected the model's previous answer; None if it did not.

    `last` is the last message in the input of a model call. After a rejection, this message contains the error.
    """
    if last.text:
        # Beside a user's text, the result of an answering tool belongs to the accepted answer of an earlier turn.
        return last.text[:MAX_OUTPUT_CHARS] if _FEEDBACK.match(last.text) else None
    # After an accepted answer, no model is called. pydantic-ai rejects the arguments of any tool in the same words.
    rejections = (
        result.text
        for result in last.results
        if result.text and (result.name in ANSWERING_TOOLS or _FAILED_CHECK.match(result.text))
    )
    return next(rejections, None)


def _requests(messages: Sequence[Message] | None) -> tuple[ToolRequest, ...]:
    requests = [
        request for message in messages or () for request in message.requests if request.name not in ANSWERING_TOOLS
    ]
    return tuple(requests[-MAX_CALLS:])


_TASK: Final = re.compile(
    r"\s*(?:New task:\n(?P<smolagents>.*)|Current Task: (?P<crewai>.*?)\n\nThis is the expected criteria for your final answer:.*)",
    re.DOTALL,
)
"""The words with which smolagents and CrewAI surround the task in their messages."""
_FAILED_CHECK: Final = re.compile(r"(?:Call id: \S+\s+)?Error:\s+Check \w+ failed with error: ")
"""The beginning of a tool's result in which smolagents rejects an answer."""
_FEEDBACK: Final = re.compile(
    r"Your previous response failed the application's validation|Validation feedback:\n|\d+ validation errors?:\n"
    rf"|{_FAILED_CHECK.pattern}"
)
"""The beginning of a message in which pydantic-ai, in the name of the user, or smolagents rejects an answer."""


def _user_text(messages: Sequence[Message] | None) -> str | None:
    found = next(
        (
            message.text
            for message in reversed(messages or ())
            if message.role == "user" and message.text and _FEEDBACK.match(message.text) is None
        ),
        None,
    )
    task = _TASK.fullmatch(found) if found else None
    return found if task is None else task["smolagents"] or task["crewai"]


def _answer_text(messages: Sequence[Message]) -> str | None:
    """Return the answer in the output messages of a span; None if they contain no text.

    Usually, it is the text after the last tool request or tool result. But a model can also call a tool that does
    nothing (`ANSWERING_TOOLS`), with the answer as its argument. If the last message with tool requests or results
    requests only such tools, the answer is in the arguments of the first request.
    """
    for place, message in reversed(list(enumerate(messages))):
        final = [request for request in message.requests if request.name in ANSWERING_TOOLS]
        if final and len(final) == len(message.requests):
            return _given_answer(final[0].arguments)
        if message.requests or message.results:
            messages = messages[place + 1 :]
            break
    return "\n".join(message.text for message in messages if message.text) or None


def _given_answer(arguments: Any) -> str | None:
    """Return the answer in `arguments`, the arguments of a tool that a model calls only to answer (`ANSWERING_TOOLS`).

    The result is a text, or the JSON of a structured answer.
    """
    only = arguments.get("answer") if isinstance(arguments, dict) and len(arguments) == 1 else None
    return _plain(arguments, _ANSWERS) or as_text(only if only is not None else arguments)


def _last_answer(messages: Sequence[Message]) -> str | None:
    """Return the text of the last message; None if it is not the assistant's, or if it requests a tool."""
    last = messages[-1]
    return last.text or None if last.role == "assistant" and not last.requests else None


_QUESTIONS: Final = (
    "input", "question", "query", "task", "prompt", "user_input", "user_message", "user_msg", "message", "request", "topic",
    "objective", "goal", "text", "content", "inputs",
)  # fmt: skip
_ANSWERS: Final = (
    "output", "answer", "final_answer", "final_output", "result", "response", "raw", "text", "content", "message", "outputs",
)  # fmt: skip
"""Fields in which agents and chains report their input and output, the most specific first."""


def _plain(value: Any, fields: tuple[str, ...], depth: int = 0, returned: list[ToolResult] | None = None) -> str | None:
    """Return the text in `value`, the recorded input or output of a span; None if it contains no text.

    Args:
        value: a text, messages, or another object.
        fields: the names of the fields of an object that may hold the text; the first non-empty one is used.
        depth: the number of objects that enclose `value`.
        returned: the results of tools in messages are added here.
    """
    if isinstance(value, str):
        found = parsed(value) if value.startswith(("{", "[", '"')) else None
        value = found if found is not None else value
    if isinstance(value, str):
        is_text = value != "null" and _PRINTED_OBJECT.match(value) is None
        return clean_text(value) or None if is_text else None
    messages = read_messages(value)
    if messages and any(message.role for message in messages):
        if returned is not None:
            returned.extend(_results(messages))
        if fields is _ANSWERS and isinstance(value, dict):
            structured = next((value[key] for key in _STRUCTURED if value.get(key) is not None), None)
            if structured is not None:
                return as_text(structured)
        last = _last_answer(messages) if fields is _ANSWERS else _user_text(messages)
        return last and clean_text(last)
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        inner = _inner(value, fields)
        return _plain(inner, fields, depth + 1) if inner else None
    return None


def _inner(value: dict[str, Any], fields: tuple[str, ...]) -> Any:
    """Return the value that holds the question or the answer in `value`, the input or output of a span.

    The first of these values that exists is returned; None without one:

    - the first of `fields` that is in the object and not empty;
    - the first positional argument of a function (`args`), or all keyword arguments (`kwargs`) if `args` is empty;
    - the text in the only field of the object. The field `output_type` (MLflow) is ignored: it names a class.
    """
    found = next((value[field] for field in fields if value.get(field)), None)
    if found is not None:
        return found
    arguments = next((value[key] for key in ("args", "kwargs") if value.get(key)), None)
    if arguments is not None:
        return arguments[0] if isinstance(arguments, list) else arguments
    [(name, only)] = value.items() if len(value) == 1 else [("", None)]
    return only if isinstance(only, str) and name != "output_type" else None


_STRUCTURED: Final = ("structured_response", "structuredResponse")
"""The field of LangChain's agents, in Python and in JavaScript, with the answer if the program asked for an object."""
_MAX_DEPTH: Final = 4
_PRINTED_OBJECT: Final = re.compile(
    r"<?[A-Za-z_][\w.]*(?:\(\w+=| object at 0x)|<[A-Za-z_][\w.]* [^\n<>]{0,200}<class '"
)
"""An object as Python prints it: it is not a text that a user has written or read."""
