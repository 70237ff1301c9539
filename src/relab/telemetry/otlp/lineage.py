"""Who is above whom in a trace: for each span what surrounds it.

Parents may be missing (late, or in another system) and may even form a circle. Spans on a
circle count as having no parent, all of them, so that the answer does not depend on where
one starts to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from relab.telemetry.otlp.facts import CALL, STEP, SpanFacts
from relab.telemetry.otlp.roles import Role


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
    circular = _on_circles(facts)
    outside: dict[str, Surroundings] = {"": NOTHING}
    inside: dict[str, Surroundings] = {}
    for span_id in facts:
        path = []
        here = span_id
        while here not in outside:
            path.append(here)
            parent = facts[here].span.parent_id
            if parent not in facts or here in circular:
                outside[here] = NOTHING
                break
            here = parent
        for below in reversed(path):
            parent = facts[below].span.parent_id
            if below not in outside:
                outside[below] = _inside(inside, outside, facts, parent)
    del outside[""]
    return outside


def _inside(
    inside: dict[str, Surroundings],
    outside: dict[str, Surroundings],
    facts: Mapping[str, SpanFacts],
    span_id: str,
) -> Surroundings:
    found = inside.get(span_id)
    if found is None:
        found = inside[span_id] = _within(facts[span_id], outside[span_id])
    return found


def _within(facts: SpanFacts, around: Surroundings) -> Surroundings:
    span_id = facts.span.span_id
    return Surroundings(
        span_id if facts.kind == STEP else around.step,
        span_id if facts.kind == CALL else around.call,
        span_id if facts.role is Role.AGENT else around.agent,
        facts.role is not Role.OTHER or around.is_known,
        around.is_billed or (facts.usage is not None and facts.role in {Role.LLM, Role.EMBEDDING}),
    )


def _on_circles(facts: Mapping[str, SpanFacts]) -> set[str]:
    circular: set[str] = set()
    settled: set[str] = set()
    for span_id in facts:
        path: dict[str, None] = {}
        here = span_id
        while here in facts and here not in settled and here not in path:
            path[here] = None
            here = facts[here].span.parent_id
        if here in path:
            ids = list(path)
            circular.update(ids[ids.index(here) :])
        settled.update(path)
    return circular
