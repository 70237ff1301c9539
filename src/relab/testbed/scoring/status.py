"""What a responder says of itself at `GET /agent/status`. It is somebody else's program: whatever it says is read.

{
  "polls": 128,                                   how often it has looked at the target, if it counts
  "incident": null | {                            the incident that is open now
    "id": "i-7",                                  anything that tells it from the one before
    "phase": "diagnose",                          `escalated` and `approve` mean: a person is asked
    "diagnosis": [{"cause": "database_down"}, …]  the likeliest first; words alone are read, too
    "acts": [{"action": "restart-database",       what was done for it, the first first
              "verdict": null | "failed" | …}]    what came of it: `failed` and `worse` mean that it has not helped
  },
  "cost_usd": 0.0,                                what models have cost so far
  "tokens": 0                                     and how many tokens they were, in and out
}

All of it may be left out. Further fields are nobody's concern here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

ASKS: Final = frozenset(("escalated", "approve"))
_MOST_CAUSES: Final = 100
_MOST_ACTS: Final = 100
_LONGEST: Final = 200
_MOST_COUNTED: Final = 1 << 50
"""More nobody counts, and figures are summed as numbers of JSON."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A responder as it was seen once.

    Attributes:
        at_s: when, after it was ready.
        answered: whether it answered at all.
        incident: the id of the open incident; None if none is.
        causes: the diagnosis, the likeliest first; empty as long as it has none.
        escalated: whether it has asked for a person.
        polls, cost_usd, tokens: as it counts them; None if it does not.
        acts: action and verdict of what was done for the incident; an empty verdict where there is none yet.
    """

    at_s: float
    answered: bool = True
    incident: str | None = None
    phase: str = ""
    causes: tuple[str, ...] = ()
    escalated: bool = False
    polls: int | None = None
    cost_usd: float | None = None
    tokens: int | None = None
    acts: tuple[tuple[str, str], ...] = ()


def read_status(at_s: float, document: Any) -> Sight:
    """Return what a status says; what is not as it should be is not there."""
    if not isinstance(document, Mapping):
        return Sight(at_s, answered=False)
    incident = document.get("incident")
    found = Sight(
        at_s,
        polls=_count(document.get("polls")),
        cost_usd=_amount(document.get("cost_usd")),
        tokens=_count(document.get("tokens")),
    )
    if not isinstance(incident, Mapping):
        return found
    phase = _word(incident.get("phase"))
    return replace(
        found,
        incident=_word(incident.get("id")) or "?",
        phase=phase,
        causes=_causes(incident.get("diagnosis")),
        acts=_acts(incident.get("acts")),
        escalated=phase in ASKS or incident.get("escalated") is True,
    )


def _causes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, list):
        return ()
    words = (_word(item.get("cause") if isinstance(item, Mapping) else item) for item in value[:_MOST_CAUSES])
    # Named twice is named once, at the better place.
    return tuple(dict.fromkeys(word for word in words if word))


def _acts(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        return ()
    rows = (item for item in value[:_MOST_ACTS] if isinstance(item, Mapping))
    return tuple((_word(row.get("action")), _word(row.get("verdict"))) for row in rows)


def _word(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # Beyond this Python refuses to write a number out.
        return str(value) if abs(value) < 10**_LONGEST else ""
    return value[:_LONGEST] if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNTED else None


def _amount(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
