"""The ids of tool calls in the messages of a trace, and which of these calls an earlier run has made."""

from __future__ import annotations

from collections.abc import Sequence

from relab.telemetry.models import CALL
from relab.telemetry.otlp.facts import SpanFacts
from relab.telemetry.otlp.roles import Role


def spoken_ids(spans: Sequence[SpanFacts]) -> set[str]:
    """Return the ids of the tool calls that the messages of the spans request or have results of."""
    talks = [facts.talk for facts in spans]
    requests = (request.call_id for talk in talks for request in (*talk.requests, *talk.earlier))
    results = (result.call_id for talk in talks for result in talk.results)
    return {call_id for call_id in (*requests, *results) if call_id is not None}


def past_ids(spans: Sequence[SpanFacts]) -> set[str]:
    """Return the ids of tool calls that earlier runs made, and that models of this trace only got as history.

    A call counts as made by an earlier run if it comes before the user's newest text in the input of a model, and if
    neither an earlier model call nor a tool's span of this trace has its id. `spans` are all spans of the trace, sorted
    by start.
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
