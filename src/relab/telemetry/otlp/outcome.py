"""Determine how a span ended, from its status, `error.type` and exception events.

The status alone is not reliable: after an interrupted stream, instrumentations often overwrite the
error with OK. So `error.type` and exception events count too.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relab.telemetry.models import StepStatus
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.spans import STATUS_ERROR, Span, SpanEvent
from relab.telemetry.otlp.vocabulary import UNNAMED_ERROR
from relab.telemetry.outcome import is_cancellation

EXCEPTION_EVENT: Final = "exception"

# Exceptions for control flow, not errors: LangGraph raises them to pause or to jump, Python to end a generator.
_CONTROL_FLOW: Final = frozenset(
    (
        "GraphInterrupt",
        "NodeInterrupt",
        "GraphBubbleUp",
        "ParentCommand",
        "GeneratorExit",
        "StopIteration",
        "StopAsyncIteration",
    )
)


class SpanOutcome(NamedTuple):
    """The outcome of a span: its status and the error that it reports."""

    status: StepStatus
    error_class: str | None = None
    error_message: str | None = None


_SUCCESS: Final = SpanOutcome(StepStatus.SUCCESS)
_RUNNING: Final = SpanOutcome(StepStatus.RUNNING)


def outcome_of(span: Span) -> SpanOutcome:
    """Return the status of a span and its error. A span without an end time and without an error is running."""
    error_type = span.attributes.get("error.type")
    if span.status != STATUS_ERROR and error_type is None and not span.events:
        # Without an error status, an error type or an exception event, the span did not fail.
        return _SUCCESS if span.end_us is not None else _RUNNING
    exception = _last_exception(span.events)
    if span.status != STATUS_ERROR and not error_type and exception is None:
        return _SUCCESS if span.end_us is not None else _RUNNING
    error_class, error_message = _name_error(span, error_type, exception)
    if (error_class or "").rpartition(".")[2] in _CONTROL_FLOW:
        return _SUCCESS if span.end_us is not None else _RUNNING
    is_cancelled = is_cancellation(error_class or "") and not _TIME_LIMIT.search((error_message or "")[:1_000])
    status = StepStatus.CANCELLED if is_cancelled else StepStatus.FAILURE
    return SpanOutcome(status, error_class, error_message)


def is_interrupted(span: Span) -> bool:
    """Return whether LangGraph ended a span to wait for a person; the run continues in another trace."""
    exception = _last_exception(span.events)
    named, _ = _name_error(span, None, exception) if exception is not None else (None, None)
    return (named or "").rpartition(".")[2] in ("GraphInterrupt", "NodeInterrupt")


def _last_exception(events: tuple[SpanEvent, ...]) -> SpanEvent | None:
    exceptions = [event for event in events if event.name == EXCEPTION_EVENT]
    return max(exceptions, key=lambda event: event.time_us) if exceptions else None


def _name_error(span: Span, error_type: object, exception: SpanEvent | None) -> tuple[str | None, str | None]:
    raised = exception.attributes if exception is not None else {}
    error_class = raised.get("exception.type") or (error_type if error_type != UNNAMED_ERROR else None)
    message = raised.get("exception.message") or span.status_message or span.attributes.get("error.message")
    if error_class == "Exception" and isinstance(message, str) and _TRACEBACK in message:
        return _in_traceback(message)
    error_class, message = (str(error_class) if error_class else None, str(message) if message else None)
    if error_class is not None and error_class.endswith(_GROUP) and message is not None and _ONLY_ONE in message:
        return _in_group(raised.get("exception.stacktrace")) or (error_class, message)
    if error_class in _UNNAMED_JS and message is not None:
        error_class, message = _in_javascript(error_class, message)
    if error_class is None and message is not None and _CLASS_ALONE.fullmatch(message) is not None:
        # Langfuse reports an exception without a text, such as Python's CancelledError, by the name of its class.
        return message, message
    if error_class is not None and error_class.isdecimal():
        error_class = _named_in_stack(str(raised.get("exception.stacktrace") or "")) or error_class
    return error_class, message


def _in_group(stack: object) -> tuple[str, str] | None:
    """Return `(class, message)` of the only error in an `ExceptionGroup`; None if the stack trace does not name it.

    A task group wraps the error of its only failed task in an exception group; the message of this group does not name
    the error.
    """
    if not isinstance(stack, str):
        return None
    # The traceback of the innermost error comes last, and its first line that matches names the error: further lines of
    # the error's message, which can match too, come after it.
    named = _GROUPED.search(stack, max(stack.rfind(_TRACEBACK), 0))
    return (named["name"], named["message"] or named["name"]) if named is not None else None


def _named_in_stack(stack: str) -> str | None:
    """Return the class of a JavaScript error, read from its printed stack; None if the stack does not name it.

    The stack is needed if an error has a field `code`: OpenTelemetry for JavaScript then reports this number in place
    of the class. For example, it reports 20 for an AbortError, and 23 for a TimeoutError.
    """
    named = _NAMED_ERROR.match(stack)
    return named["name"] if named is not None and named["name"] not in _UNNAMED_JS else None


def _in_javascript(error_class: str | None, message: str) -> tuple[str | None, str]:
    """Return `(class, message)` of a JavaScript error that names its class only in its message.

    LangChain.js writes the error's stack behind its message, and the OpenAI Agents SDK writes the error as JSON.
    """
    if message.startswith(_AGENT_RUN):
        found = parsed(message.removeprefix(_AGENT_RUN))
        told = found.get("error") if isinstance(found, dict) else None
        named = _NAMED_ERROR.match(told) if isinstance(told, str) else None
        if named is not None:
            error_class, message = named["name"], named.string[named.end() :] or message
    head, frame, _ = message.partition(_JS_FRAME)
    for named in _JS_ERROR.finditer(head) if frame else ():
        # The stack begins with the class and the same message. The lengths are compared first, so the time is linear.
        if len(head) - named.end() == named.start() and head.startswith(head[named.end() :]):
            error_class, message = named["name"], head[: named.start()].strip() or message
            break
    return ("AbortError" if error_class in _UNNAMED_JS and message in _ABORTS else error_class), message


def _in_traceback(message: str) -> tuple[str, str]:
    """Return `(class, message)` of the error in an exception message that contains a printed traceback.

    LangSmith reports an exception of the class `Exception` whose message is the traceback of the real error.
    """
    printed, _, frames = message.partition(_TRACEBACK)
    # The first line that is not indented names the error that was raised.
    line = next((line for line in frames.splitlines() if line and not line[0].isspace()), "")
    named = _NAMED_ERROR.match(line)
    if named is None:
        return "Exception", printed.strip() or message
    # A text of several lines is complete only where the error is printed.
    is_plain = line[named.end() :] and printed.startswith(f"{named['name'].rpartition('.')[2]}(")
    return named["name"], line[named.end() :] if is_plain else printed.strip() or line


_GROUP: Final = "ExceptionGroup"
_ONLY_ONE: Final = "(1 sub-exception)"
_GROUPED: Final = re.compile(r"^ {4,}\| (?P<name>[A-Za-z_]\w*(?:\.\w+)*)(?:: (?P<message>.*))?$", re.MULTILINE)
"""A line of a group's stack trace that names an error."""
_UNNAMED_JS: Final = (None, "Error")
_AGENT_RUN: Final = "Error in agent run: "
_JS_FRAME: Final = "\n    at "
_JS_ERROR: Final = re.compile(r"\n\n(?P<name>[A-Za-z_$][\w$.]{0,99}): ")
_ABORTS: Final = frozenset(("Abort", "Request was aborted."))
"""The messages with which LangGraph.js, and the clients of OpenAI and Anthropic, report that their caller aborted them."""
_TIME_LIMIT: Final = re.compile(r"\btime[ -]?out\b|\btimed[ -]out\b|\bdeadline\b", re.IGNORECASE)
"""Words in the message of a cancellation that show that a time limit, not a person or a program, ended the work."""
_CLASS_ALONE: Final = re.compile(r"(?:[A-Za-z_]\w{0,99}\.){0,9}[A-Z]\w{0,99}(?:Error|Exception|Interrupt)")
_TRACEBACK: Final = "Traceback (most recent call last):"
_NAMED_ERROR: Final = re.compile(r"(?P<name>[A-Za-z_][\w.]{0,199}): ")
