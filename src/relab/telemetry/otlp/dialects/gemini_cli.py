"""The dialect of Gemini CLI, which uses OpenTelemetry's GenAI names, but in part other formats of their values.

The input and the output of a tool call are objects of Gemini CLI, not messages.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_CALL_ID: Final = "gen_ai.tool.call_id"
_DESCRIPTION: Final = "gen_ai.agent.description"
_CONTEXT: Final = "<session_context>"


def _translate(span: Span, values: Values) -> None:
    if values.get(v.AGENT_NAME) != "gemini-cli":
        return
    operation = span.attributes.get(v.OPERATION)
    if operation == "tool_call":
        values[v.ROLE] = Role.TOOL
        _translate_tool_call(values)
    elif operation == "schedule_tool_calls":
        # It repeats the objects of the calls inside it.
        values.pop(v.INPUT_MESSAGES, None)
        values.pop(v.OUTPUT_MESSAGES, None)
    elif operation == "llm_call":
        values[v.ROLE] = Role.LLM
        _leave_out_context(values)
        _join_pieces(values)


def _translate_tool_call(values: Values) -> None:
    """Read a tool call's arguments from its request (input), and its result and error from its answer (output)."""
    add(values, v.TOOL_CALL_ID, text_of(values, _CALL_ID))
    asked, done = _object(values.pop(v.INPUT_MESSAGES, None)), _object(values.pop(v.OUTPUT_MESSAGES, None))
    add(values, v.TOOL_ARGUMENTS, asked.get("args"))
    answer = _object(done.get("response"))
    parts = answer.get("responseParts")
    first = parts[0] if isinstance(parts, list) and parts else None
    found = _object(_object(_object(first).get("functionResponse")).get("response"))
    add(values, v.TOOL_RESULT, found.get("output", found.get("error")))
    if done.get("status") == "error" or _object(answer.get("data")).get("isError") is True:
        add(values, v.ERROR_TYPE, text_of(answer, "errorType") or "tool_error")
        add(values, v.ERROR_MESSAGE, text_of(found, "error", "output"))


def _leave_out_context(values: Values) -> None:
    """Remove from a model's input the session context, a text that Gemini CLI adds before the first prompt."""
    messages = parsed(values[v.INPUT_MESSAGES]) if isinstance(values.get(v.INPUT_MESSAGES), str) else None
    if not isinstance(messages, list):
        return
    for message in messages:
        parts = message.get("parts") if isinstance(message, dict) else None
        if isinstance(parts, list):
            message["parts"] = [part for part in parts if not str(_object(part).get("text")).startswith(_CONTEXT)]
    values[v.INPUT_MESSAGES] = messages


def _join_pieces(values: Values) -> None:
    """Join the pieces of a streamed answer, which Gemini CLI reports as several output messages, to one message.

    Texts that follow each other become one text. Null is a piece without content. If all pieces are without content,
    the message has an empty text. If a message has other fields than `role` and `parts`, change nothing.
    """
    pieces = parsed(values[v.OUTPUT_MESSAGES]) if isinstance(values.get(v.OUTPUT_MESSAGES), str) else None
    if not isinstance(pieces, list) or not pieces:
        return
    contents = [piece for piece in pieces if piece is not None]
    if not all(isinstance(content, dict) and content.keys() <= {"role", "parts"} for content in contents):
        return
    given = [parts for content in contents if isinstance(parts := content.get("parts"), list)]
    joined: list[Any] = []
    for is_text, parts in itertools.groupby(itertools.chain.from_iterable(given), _is_text):
        if is_text:
            joined.append({"text": "".join(part["text"] for part in parts)})
        else:
            joined.extend(parts)
    values[v.OUTPUT_MESSAGES] = [{"role": "model", "parts": joined or [{"text": ""}]}]


def _is_text(part: Any) -> bool:
    """Return whether a part of a message is a text of the answer: it has the field `text` and no other field.

    A part that is a thought also has a text, but has a second field.
    """
    return isinstance(part, dict) and part.keys() == {"text"} and isinstance(part["text"], str)


def _object(value: Any) -> dict[str, Any]:
    """Return an object, or the object in a JSON text; empty if `value` is neither."""
    found = parsed(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


GEMINI_CLI = Dialect(name="Gemini CLI", signs=frozenset((_CALL_ID, _DESCRIPTION)), translate=_translate)
