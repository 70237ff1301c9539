"""Collect the ids of tool calls from the messages of a trace, and find the calls that an earlier run made.

The history of a conversation, which a model gets as input, repeats the tool calls of earlier runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from relab.telemetry.models import CALL
from relab.telemetry.otlp.facts import SpanFacts
from relab.telemetry.otlp.roles import Role


def spoken_ids(spans: Sequence[SpanFacts]) -> set[str]:
    """Return the ids of all tool calls whose request or result is in a message of these spans."""
    talks = [facts.talk for facts in spans]
    requests = (request.call_id for talk in talks for request in (*talk.requests, *talk.earlier))
    results = (result.call_id for talk in talks for result in talk.results)
    return {call_id for call_id in (*requests, *results) if call_id is not None}


def past_ids(spans: Sequence[SpanFacts]) -> set[str]:
    """Return the ids of tool calls that earlier runs made. The models of this trace only got them as history.

    An earlier run made a call if both hold: the call comes before the user's newest text in the input of a model; and
    its id is neither in an earlier model call nor in a tool's span of this trace.

    Args:
        spans: all spans of the trace, sorted by start.
    """
    models = [facts for facts in spans if facts.role is Role.LLM]
    if not any(facts.talk.recalled for facts in models):
        return set()
    known = {facts.item["tool_call_id"] for facts in spans if facts.kind == CALL and "tool_call_id" in facts.item}
    past: set[str] = set()
    for talk in [facts.talk for facts in models]:
        recalled = {call.call_id for call in talk.earlier[: talk.recalled] if call.call_id is not None}
        past |= recalled - known
        known.update([call.call_id for call in (*talk.earlier, *talk.requests) if call.call_id is not None])
    return past
