"""Convert events of Inspect's transcripts to events of a harness (`hook_events_v1`).

A call of the model begins a step, and the tool calls after it belong to the step. The schema `hook_events_v1` has no
field for the arguments and results of tools and the answers of the model. They are stored in an event's `ext`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pydantic_core

from relab.core.clock import format_time, parse_time
from relab.core.json import is_number
from relab.experiments.inspect_logs.logs import InspectSample, clean, object_of, text_of
from relab.experiments.inspect_logs.scores import error_class
from relab.experiments.models import TrialIds
from relab.experiments.trial.events import MAX_EVENTS

MAX_TEXT: Final = 100_000
_MAX_NAME: Final = 200
_MAX_MS: Final = 10**12


def hook_events(sample: InspectSample, ids: TrialIds, started_at: str) -> Iterator[dict[str, Any]]:
    """Convert a sample to the events of a trial, and yield them; stop after `MAX_EVENTS`, the limit of a trial.

    Args:
        sample: the sample.
        ids: the ids of the trial that is made from the sample.
        started_at: the start of the sample in RFC 3339, which is used for events without a valid time.
    """
    for seq, event in enumerate(_events(sample, started_at)):
        # The rest of a longer transcript is left out, so that the trial's events stay valid.
        if seq >= MAX_EVENTS:
            return
        yield {"event_type": event["event_type"], "ts": event["ts"], "seq": seq, "ids": ids.to_json(), **event}


def span_of(sample: InspectSample, fallback_us: int) -> tuple[int, int]:
    """Return the start and the end of a sample in microseconds since 1970.

    If the log has no times for the sample, both are `fallback_us`.
    """
    times = [time for event in sample.events if (time := _time(event.get("timestamp"))) is not None]
    started = _time(sample.document.get("started_at")) or min(times, default=fallback_us)
    ended = _time(sample.document.get("completed_at")) or max(times, default=started)
    return started, max(started, ended)


def _events(sample: InspectSample, started_at: str) -> Iterator[dict[str, Any]]:
    step, at = -1, started_at
    for event in sample.events:
        kind = event.get("event")
        begun = _text_of_time(event.get("timestamp"), at)
        at = _text_of_time(event.get("completed"), begun)
        if kind == "model":
            if step >= 0:
                yield {"event_type": "agent_step_end", "ts": begun, "step_index": step}
            step += 1
            yield {"event_type": "agent_step_start", "ts": begun, "step_index": step}
            yield {"event_type": "model_call_end", "ts": at, "step_index": step} | _model_call(event, step)
        elif kind == "tool":
            call = {"event_type": "tool_call_end", "ts": at, **_tool_call(event)}
            yield call | ({"step_index": step} if step >= 0 else {})
        elif kind in {"error", "sample_limit"}:
            yield {"event_type": "error", "ts": at, **_error(event)} | ({"step_index": step} if step >= 0 else {})
    if step >= 0:
        yield {"event_type": "agent_step_end", "ts": at, "step_index": step}


def _model_call(event: Mapping[str, Any], turn: int) -> dict[str, Any]:
    output = object_of(event.get("output"))
    usage = object_of(output.get("usage"))
    error = event.get("error") or output.get("error")
    found: dict[str, Any] = {
        "call_id": _name(event.get("uuid")) or f"model_{turn}",
        "turn_index": turn,
        "outcome": _outcome(text_of(error), "model_error") if error else {"status": "ok"},
        "model": {"identity": _name(event.get("model")) or "model"},
        "timing": _timing(event),
    }
    tokens = {"tokens_in": _tokens_in(usage), "tokens_out": usage.get("output_tokens")}
    spent = {name: value for name, value in tokens.items() if type(value) is int and 0 <= value < 2**63}
    if spent:
        found["usage"] = spent
    answer = _text(_answer(output))
    calls = [call for call in _message(output).get("tool_calls") or () if isinstance(call, dict)]
    ext = {"output": answer or None, "tool_calls": [_name(call.get("function")) for call in calls] or None}
    return found | {"ext": {name: value for name, value in ext.items() if value is not None}}


def _tokens_in(usage: Mapping[str, Any]) -> int | None:
    """Return the number of tokens of the prompt, including tokens of a provider's cache; None if it is unknown."""
    # Inspect's own count leaves out tokens that were read from or written to the cache.
    names = ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")
    found = [usage[name] for name in names if type(usage.get(name)) is int]
    return sum(found) if found else None


def _tool_call(event: Mapping[str, Any]) -> dict[str, Any]:
    error = event.get("error")
    outcome: dict[str, Any] = {"status": "ok"}
    if isinstance(error, dict):
        outcome = _outcome(text_of(error.get("message")), _name(error.get("type")) or "tool_error")
    elif event.get("failed"):
        outcome = _outcome("the tool failed", "tool_error")
    arguments = clean(event.get("arguments"))
    if len(pydantic_core.to_json(arguments)) > MAX_TEXT:
        arguments = _text(str(arguments))
    ext = {"arguments": arguments, "result": _text(text_of(event.get("result"))) or None}
    return {
        "call_id": _name(event.get("id")) or "tool",
        "tool": {"name": _name(event.get("function")) or "tool"},
        "outcome": outcome,
        "timing": _timing(event),
        "ext": {name: value for name, value in ext.items() if value is not None},
    }


def _error(event: Mapping[str, Any]) -> dict[str, Any]:
    if event.get("event") == "sample_limit":
        kind = _name(event.get("type")) or "sample"
        return {"error_type": f"{kind}_limit", "message": _text(text_of(event.get("message"))) or f"{kind} limit"}
    error = object_of(event.get("error"))
    message = _text(text_of(error.get("message"))) or "error"
    found = {"error_type": error_class(message), "message": message}
    stack = error.get("traceback")
    return found | ({"stack": _text(stack)} if isinstance(stack, str) and stack else {})


def _outcome(message: str, error_type: str) -> dict[str, Any]:
    return {"status": "error", "error_type": error_type, "message": _text(message)}


def _timing(event: Mapping[str, Any]) -> dict[str, int]:
    begun, ended = _time(event.get("timestamp")), _time(event.get("completed"))
    working = event.get("working_time")
    if is_number(working) and 0 <= working < _MAX_MS / 1_000:
        return {"duration_ms": int(working * 1_000)}
    if begun is None or ended is None or ended < begun:
        return {}
    return {"duration_ms": (ended - begun) // 1_000}


def answer_of(sample: InspectSample) -> str:
    """Return the text of the sample's final answer; an empty text if the sample has no answer."""
    return _text(_answer(sample.section("output")))


def _answer(output: Mapping[str, Any]) -> str:
    completion = output.get("completion")
    return completion if isinstance(completion, str) and completion else text_of(_message(output).get("content"))


def _message(output: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = output.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return object_of(object_of(first).get("message"))


def _text(text: str) -> str:
    return str(clean(text[:MAX_TEXT]))


def _name(value: Any) -> str | None:
    return str(clean(value[:_MAX_NAME])) if isinstance(value, str) and value else None


def _time(value: Any) -> int | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _text_of_time(value: Any, fallback: str) -> str:
    found = _time(value)
    return fallback if found is None else format_time(found)
