"""The dialect of Claude Code: `span.type` states the kind of a span.

Log events have the cost of a model call and, if the user enables their export, prompts, arguments and answers. These
events belong to the span of the prompt or of a sub-agent, and name the model call or the tool call that they describe;
`events_by_subject` adds them to the span of this call. A tool call has three spans: the call, the wait for permission
(`tool.blocked_on_user`) and the execution. `collapse.py` joins the last two with the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span, SpanEvent

_TYPE: Final = "span.type"
_PREFIX: Final = "claude_code."
_REDACTED: Final = "<REDACTED>"
"""The text that Claude Code exports in place of a text that the user does not want to export."""
_REQUEST: Final = "claude_code.api_request"
_RESPONSE: Final = "claude_code.assistant_response"
_TOOL_RESULT: Final = "claude_code.tool_result"
_REQUEST_ID: Final = "request_id"
_CALL_ID: Final = "tool_use_id"
_ANSWERING_TOOL: Final = "StructuredOutput"
"""The tool with which a model gives its answer if the user asked for an object."""
_ARGUMENTS: Final = ("file_path", "full_command", "skill_name", "subagent_type")
_RESULTS: Final = ("output", "content")


def _translate(span: Span, values: Values) -> None:
    translate = _TRANSLATIONS.get(str(span.attributes.get(_TYPE)))
    if translate is not None and span.name.startswith(_PREFIX):
        translate(span, values)


def events_by_subject(
    events: Mapping[str, Sequence[SpanEvent]], spans: Iterable[Span]
) -> Mapping[str, Sequence[SpanEvent]]:
    """Return the log events of a trace as `{span id: events}`; some events are added to a second span.

    An event that names a model call or a tool call is also added to the span of this call. If several spans have the
    id of the call, only the first one gets the event.

    Args:
        events: `{span id: events}`.
        spans: the spans of the trace.
    """
    named: dict[tuple[str, str], list[SpanEvent]] = {}
    for event in (event for found in events.values() for event in found):
        for key in _SUBJECTS.get(event.name, ()):
            subject = event.attributes.get(key)
            if subject and isinstance(subject, str):
                named.setdefault((key, subject), []).append(event)
    if not named:
        return events
    placed = {span_id: list(found) for span_id, found in events.items()}
    for span in spans:
        key = _SUBJECT_KEYS.get(str(span.attributes.get(_TYPE)), "")
        subject = span.attributes.get(key)
        if subject and isinstance(subject, str):
            # Only the first span gets them: many spans that claim one call would make this quadratic.
            placed.setdefault(span.span_id, []).extend(named.pop((key, subject), ()))
    return placed


_SUBJECTS: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {_REQUEST: (_REQUEST_ID,), _RESPONSE: (_REQUEST_ID,), _TOOL_RESULT: (_REQUEST_ID, _CALL_ID)}
)
_SUBJECT_KEYS: Final[Mapping[str, str]] = MappingProxyType({"llm_request": _REQUEST_ID, "tool": _CALL_ID})


def _translate_interaction(span: Span, values: Values) -> None:
    values[v.ROLE] = Role.AGENT
    add(values, v.AGENT_NAME, "claude-code")
    events = sorted(span.events, key=lambda event: event.time_us)
    prompts = [event.attributes.get("prompt") for event in events if event.name == "claude_code.user_prompt"]
    asked = [text for text in (span.attributes.get("user_prompt"), *prompts) if _is_shown(text)]
    taken: list[dict[str, Any]] = [{"role": "user", "content": asked[0]}] if asked else []
    taken.extend(_request(event.attributes) for event in events if event.name == _TOOL_RESULT)
    answers = list(_answers(events))
    add(values, v.INPUT_MESSAGES, taken or None)
    add(values, v.OUTPUT_MESSAGES, [{"role": "assistant", "content": answers[-1]}] if answers and answers[-1] else None)


def _answers(events: Sequence[SpanEvent]) -> Iterator[str | None]:
    """Yield the answers of a model in order of time; None stands for a response that is not an answer.

    - A response yields its text. It yields None if the text is empty or hidden, or if the response requested a tool.
    - A successful call of `_ANSWERING_TOOL`, the tool with which a model gives an object as its answer, yields the
      input of the tool.
    - Any other tool result without a request id yields None: a response requested the tool, but it is not known which.
    - Any other tool result with a request id yields nothing: the response with this id already yields None.

    `events` are the log events of a prompt, in order of time.
    """
    results = [event.attributes for event in events if event.name == _TOOL_RESULT]
    calling = {text_of(found, _REQUEST_ID) for found in results} - {None}
    for event in events:
        given = event.attributes
        if event.name == _RESPONSE:
            text = given.get("response")
            yield text if _is_shown(text) and text_of(given, _REQUEST_ID) not in calling else None
        elif event.name == _TOOL_RESULT:
            is_answer = given.get("tool_name") == _ANSWERING_TOOL and given.get("success") in ("true", True)
            if is_answer:
                yield text_of(given, "tool_input")
            elif text_of(given, _REQUEST_ID) is None:
                yield None


def _is_shown(text: Any) -> bool:
    return isinstance(text, str) and text not in ("", _REDACTED)


def _request(attributes: Attributes) -> dict[str, Any]:
    """Return an assistant's message with the tool request that led to a tool result.

    `attributes` are the attributes of the log event that reports the result; they include the request.
    """
    call = {"name": attributes.get("tool_name"), "arguments": attributes.get("tool_input")}
    return {"role": "assistant", "tool_calls": [{"id": attributes.get("tool_use_id"), "function": call}]}


def _translate_model_call(span: Span, values: Values) -> None:
    attributes = span.attributes
    values[v.ROLE] = Role.LLM
    read, written = attributes.get("cache_read_tokens"), attributes.get("cache_creation_tokens")
    counts = [count for count in (attributes.get("input_tokens"), read, written) if isinstance(count, int)]
    # Anthropic's count of the input leaves out the tokens of the cache.
    add(values, v.INPUT_TOKENS, sum(counts) if counts else None)
    add(values, v.OUTPUT_TOKENS, attributes.get("output_tokens"))
    add(values, v.CACHED_TOKENS, read)
    add(values, v.CACHE_WRITE_TOKENS, written)
    add(values, v.STATUS_CODE, attributes.get("status_code"))
    _add_answer(span, values)
    attempts = attributes.get("attempt")
    if isinstance(attempts, int) and attempts > 1:
        add(values, v.RESEND_COUNT, attempts - 1)


def _add_answer(span: Span, values: Values) -> None:
    """Add a model's answer to `values`: the text, the cost and the tool requests in the events of the model's span."""
    requests = [
        call for event in span.events if event.name == _TOOL_RESULT for call in _request(event.attributes)["tool_calls"]
    ]
    # Without the requests, a text beside them would be an answer.
    is_clear = bool(requests) or span.attributes.get("stop_reason") != "tool_use"
    for event in span.events:
        if event.name == _REQUEST:
            add(values, v.COST_USD, event.attributes.get("cost_usd"))
        elif event.name == _RESPONSE and is_clear and _is_shown(event.attributes.get("response")):
            message = {"role": "assistant", "content": event.attributes["response"], "tool_calls": requests}
            add(values, v.OUTPUT_MESSAGES, [message])
    if requests:
        add(values, v.OUTPUT_MESSAGES, [{"role": "assistant", "tool_calls": requests}])


def _translate_tool_call(span: Span, values: Values) -> None:
    attributes = span.attributes
    values[v.ROLE] = Role.TOOL
    add(values, v.TOOL_NAME, text_of(attributes, "tool_name"))
    for event in span.events:
        given = parsed(text_of(event.attributes, "tool_input") or "") if event.name == _TOOL_RESULT else None
        add(values, v.TOOL_ARGUMENTS, given if isinstance(given, dict) else None)
    arguments = {name: attributes[name] for name in _ARGUMENTS if attributes.get(name)}
    add(values, v.TOOL_ARGUMENTS, arguments or None)
    for event in span.events:
        if event.name == "tool.output":
            add(values, v.TOOL_RESULT, text_of(event.attributes, *_RESULTS))


def _translate_permission(span: Span, values: Values) -> None:
    if span.attributes.get("decision") == "reject":
        _translate_execution(span, values)
        values[v.ERROR_TYPE] = "PermissionDenied"
        values[v.ERROR_MESSAGE] = "The permission to run the tool was denied."


def _translate_execution(_span: Span, values: Values) -> None:
    values[v.ROLE] = Role.TOOL
    values[v.IS_PLUMBING] = True


_TRANSLATIONS: Final[Mapping[str, Callable[[Span, Values], None]]] = MappingProxyType(
    {
        "interaction": _translate_interaction,
        "llm_request": _translate_model_call,
        "tool": _translate_tool_call,
        "tool.blocked_on_user": _translate_permission,
        "tool.execution": _translate_execution,
    }
)

CLAUDE_CODE = Dialect(name="Claude Code", signs=frozenset((_TYPE,)), translate=_translate)
