"""How much past incidents say for a cause: a bounded factor for each, by how much they looked like what is seen now. Pure.

What was like today and turned out to be X makes X likelier to begin with. That is all: the factor is a prior's, bounded
however many incidents there are, and what is seen now is weighed against it like against any prior.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from relab.knowledge.models import FactValue, PastIncident, Resolver

MOST_FROM_MEMORY: Final = 4.0
"""By which factor past incidents may raise the prior of a cause at most."""

_NOT_ALIKE: Final = 0.5
"""Two moments of one service share most facts; only what goes beyond this likeness counts."""
_TEMPLATES_WEIGH: Final = 0.3
_TRUST: Final = {Resolver.PERSON: 1.0, Resolver.RESPONDER: 0.8, Resolver.ITSELF: 0.4}
"""How sure the cause of an incident is, by who ended it."""
_MOST_FROM_ONE: Final = 0.6
"""How far one incident alone raises a factor, of the whole way."""


def memory_factors(
    facts: Mapping[str, FactValue], templates: Mapping[str, int], incidents: Iterable[PastIncident]
) -> dict[str, float]:
    """Return by cause the factor for its prior, from above 1 to `MOST_FROM_MEMORY`; causes without one are not in it.

    Args:
        facts: what is seen now.
        templates: of the log lines that are seen now, with their counts.
        incidents: of the past.
    """
    doubt: dict[str, float] = {}
    for incident in incidents:
        said = _said(likeness(facts, templates, incident), incident)
        if said > 0:
            # Incidents are taken for independent witnesses: each lessens the doubt that is left.
            doubt[incident.cause] = doubt.get(incident.cause, 1.0) * (1 - said)
    return {cause: 1 + (MOST_FROM_MEMORY - 1) * (1 - left) for cause, left in sorted(doubt.items())}


def likeness(facts: Mapping[str, FactValue], templates: Mapping[str, int], incident: PastIncident) -> float:
    """Return how much a moment is like what was seen in an incident, 0 to 1; what only one of them knows is unlike."""
    names = facts.keys() | incident.facts.keys()
    by_facts = sum(_alike(facts.get(name), incident.facts.get(name)) for name in names) / len(names) if names else 0.0
    if not templates and not incident.templates:
        return by_facts
    by_templates = _cosine(templates, incident.templates)
    if not names:
        return by_templates
    return (1 - _TEMPLATES_WEIGH) * by_facts + _TEMPLATES_WEIGH * by_templates


def _said(alike: float, incident: PastIncident) -> float:
    beyond = max(alike - _NOT_ALIKE, 0.0) / (1 - _NOT_ALIKE)
    return _MOST_FROM_ONE * _TRUST[incident.resolved_by] * beyond


def _alike(now: FactValue | None, then: FactValue | None) -> float:
    if now is None or then is None or isinstance(now, bool) or isinstance(then, bool):
        return float(now is not None and now is then)
    if isinstance(now, str) or isinstance(then, str):
        return float(now == then)
    if not (math.isfinite(now) and math.isfinite(then)):
        return 0.0
    # The same order of magnitude is what matters; the 1 keeps 0 and 0.01 near each other.
    low, high = sorted((abs(now), abs(then)))
    return (low + 1) / (high + 1) if (now >= 0) == (then >= 0) else 0.0


def _cosine(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Return how alike two sets of templates are; counts by their logarithm, so that one flood does not drown the rest."""
    left, right = ({name: math.log1p(max(count, 0)) for name, count in each.items()} for each in (one, other))
    norm = math.sqrt(sum(value**2 for value in left.values()) * sum(value**2 for value in right.values()))
    if not norm:
        return 0.0
    return min(sum(value * right.get(name, 0.0) for name, value in left.items()) / norm, 1.0)
