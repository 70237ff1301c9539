"""Read a responder's status from `GET /agent/status`. The responder may be any program, so any JSON is tolerated.

{
  "polls": 128,                                   number of the responder's polls of the target
  "incident": null | {                            the incident that is open now
    "id": "i-7",                                  a text or a whole number that differs from the previous incident's
    "phase": "diagnose",                          `escalated` and `approve`: the responder asks a person
    "escalated": false,                           true: the same as the phase `escalated`
    "diagnosis": [{"cause": "database_down"}, …]  the most likely first; plain strings are read, too
    "actions": [{"action": "restart-database",    the responder's actions, oldest first
              "verdict": null | "failed" | …}]    the result; `failed` and `worse`: it has not helped
  },
  "cost_usd": 0.0,                                cost of language models so far, in US dollars
  "tokens": 0                                     tokens of language models so far, in and out
}

All fields may be left out. Other fields are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

ASKS: Final = frozenset(("escalated", "approve"))
_MAX_CAUSES: Final = 100
_MAX_ACTIONS: Final = 100
_MAX_LENGTH: Final = 200
_MAX_COUNT: Final = 1 << 50
"""Larger numbers of polls or tokens are ignored: no real number is so large, and metrics are summed as JSON numbers."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The status of a responder at one poll.

    Attributes:
        at_s: time of the poll, in seconds after the responder was ready.
        answered: whether the responder answered with a JSON object.
        incident: the id of the responder's open incident; None if no incident is open.
        phase: the phase of the open incident, such as `diagnose`; empty if the status names none.
        causes: the names of the causes in the diagnosis, the most likely cause first; empty without a diagnosis.
        escalated: whether the incident is handed to a person, or waits for a person's approval.
        polls: number of the responder's polls of the target so far; None if the status has no valid number.
        cost_usd: cost of language models so far, in US dollars; None if the status has no valid cost.
        tokens: number of language model tokens so far; None if the status has no valid number.
        acts: `(action, verdict)` of each action for the incident, oldest first; the verdict is empty before it exists.
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
    """Parse a responder's status document; invalid fields are treated as absent.

    The docstring of this module lists the fields of the document.

    Args:
        at_s: time of the poll, in seconds after the responder was ready.
        document: the JSON that the responder returned. If it is not an object, the result has `answered` False, which
            means that the responder did not answer.
    """
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
        acts=_acts(incident.get("actions")),
        escalated=phase in ASKS or incident.get("escalated") is True,
    )


def _causes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, list):
        return ()
    words = (_word(item.get("cause") if isinstance(item, Mapping) else item) for item in value[:_MAX_CAUSES])
    # Of duplicate causes, keep the higher-ranked one.
    return tuple(dict.fromkeys(word for word in words if word))


def _acts(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        return ()
    rows = (item for item in value[:_MAX_ACTIONS] if isinstance(item, Mapping))
    return tuple((_word(row.get("action")), _word(row.get("verdict"))) for row in rows)


def _word(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # Python refuses to convert larger integers to text.
        return str(value) if abs(value) < 10**_MAX_LENGTH else ""
    return value[:_MAX_LENGTH] if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def _amount(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
