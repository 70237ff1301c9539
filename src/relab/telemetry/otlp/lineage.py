"""Who is above whom in a trace: for each span what surrounds it.

Parents may be missing (late, or in another system) and may even form a circle. Spans on a
circle count as having no parent, all of them, so that the answer does not depend on where
one starts to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from relab.telemetry.otlp.facts import CALL, STEP, SpanFacts
from relab.telemetry.otlp.roles import MODEL_ROLES, Role


class Surroundings(NamedTuple):
    """What a span's children find around them: the nearest of each, or None."""

    step: str | None = None
    call: str | None = None
    agent: str | None = None
    """The span id of the agent."""
    is_known: bool = False
    """Whether the span or one above it is an agent's doing."""
    is_billed: bool = False
    """Whether the tokens of what is below are already counted."""


NOTHING = Surroundings()


def surroundings(facts: Mapping[str, SpanFacts]) -> dict[str, Surroundings]:
    """Return `{span id: what surrounds that span}`, itself not included, for spans by id."""
    outside: dict[str, Surroundings] = {}
    inside: dict[str, Surroundings] = {}
    for span_id, span_facts in facts.items():
        if span_id in outside:
            continue
        parent = span_facts.span.parent_id
        within = inside.get(parent)
        if within is None and parent in facts:
            _climb(span_id, facts, outside, inside)
        else:
            outside[span_id] = within or NOTHING
    return outside


def _climb(
    span_id: str, facts: Mapping[str, SpanFacts], outside: dict[str, Surroundings], inside: dict[str, Surroundings]
) -> None:
    """Settle a span and all above it, from the top down."""
    path: dict[str, None] = {}
    here = span_id
    while here in facts and here not in outside and here not in path:
        path[here] = None
        here = facts[here].span.parent_id
    above = list(path)
    if here in path:
        start = above.index(here)
        for circular in above[start:]:
            outside[circular] = NOTHING
        del above[start:]
    for below in reversed(above):
        parent = facts[below].span.parent_id
        if parent not in facts:
            outside[below] = NOTHING
            continue
        within = inside.get(parent)
        if within is None:
            within = inside[parent] = _within(facts[parent], outside[parent])
        outside[below] = within


def _within(facts: SpanFacts, around: Surroundings) -> Surroundings:
    span_id = facts.span.span_id
    return Surroundings(
        span_id if facts.kind == STEP else around.step,
        span_id if facts.kind == CALL else around.call,
        span_id if facts.role is Role.AGENT else around.agent,
        facts.role is not Role.OTHER or around.is_known,
        around.is_billed or (facts.usage is not None and facts.role in MODEL_ROLES),
    )
