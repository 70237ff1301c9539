"""Raise the prior probability of a cause if past incidents with this cause resemble the current incident. Pure.

A similar incident with the cause X makes X more probable a priori. The factor is bounded however many incidents there
are, and it changes only the prior, so current evidence can outweigh it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from relab.knowledge.deviations import closeness
from relab.knowledge.models import FactValue, PastIncident, Resolver

MAX_ODDS_FROM_MEMORY: Final = 4.0
"""The largest factor by which past incidents raise the prior of a cause."""

_NOT_ALIKE: Final = 0.5
"""Only an incident that is more similar than this counts: any two moments of one service share many facts."""
_TEMPLATES_WEIGH: Final = 0.3
_TRUST: Final = {Resolver.PERSON: 1.0, Resolver.RESPONDER: 0.8, Resolver.ITSELF: 0.4}
"""How reliable the recorded cause of an incident is, by who ended it."""
_MAX_SHARE_OF_ONE: Final = 0.6
"""The share of the largest possible raise that one incident alone can cause."""


def memory_factors(
    facts: Mapping[str, FactValue], templates: Mapping[str, int], incidents: Iterable[PastIncident]
) -> dict[str, float]:
    """Return the factors by which similar past incidents raise the prior probabilities of causes, by cause.

    A factor is above 1 and at most `MAX_ODDS_FROM_MEMORY`. It grows with the number and the similarity of the past
    incidents. A cause without similar incidents has no factor.

    Args:
        facts: the facts of the current incident, by name.
        templates: templates of the current log lines, with the number of lines of each.
        incidents: past incidents.
    """
    doubt: dict[str, float] = {}
    for incident in incidents:
        said = _said(likeness(facts, templates, incident), incident)
        if said > 0:
            # Incidents are treated as independent evidence: each reduces the remaining doubt.
            doubt[incident.cause] = doubt.get(incident.cause, 1.0) * (1 - said)
    return {cause: 1 + (MAX_ODDS_FROM_MEMORY - 1) * (1 - left) for cause, left in sorted(doubt.items())}


def likeness(facts: Mapping[str, FactValue], templates: Mapping[str, int], incident: PastIncident) -> float:
    """Return how similar the current state of a service and a past incident are, 0 to 1.

    A fact that only one of the two has counts as different.

    Args:
        facts: the current facts, by name.
        templates: the templates of the current log lines, with the number of lines of each.
        incident: the past incident.
    """
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
    return _MAX_SHARE_OF_ONE * _TRUST[incident.resolved_by] * beyond


def _alike(now: FactValue | None, then: FactValue | None) -> float:
    if now is None or then is None or isinstance(now, bool) or isinstance(then, bool):
        return float(now is not None and now is then)
    if isinstance(now, str) or isinstance(then, str):
        return float(now == then)
    if not (math.isfinite(now) and math.isfinite(then)):
        return 0.0
    return closeness(now, then)


def _cosine(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Return the cosine similarity of two mappings `{log template: number of lines}`.

    The vectors hold the logarithms of the numbers, log(1 + n).
    """
    # Logarithms, so that one frequent template does not dominate.
    left, right = ({name: math.log1p(max(count, 0)) for name, count in each.items()} for each in (one, other))
    norm = math.sqrt(sum(value**2 for value in left.values()) * sum(value**2 for value in right.values()))
    if not norm:
        return 0.0
    return min(sum(value * right.get(name, 0.0) for name, value in left.items()) / norm, 1.0)
