"""Values of the responder: what a poll has seen, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

ANSWER: Final = "answer.ms"
"""The signal of how long the target took to answer a poll. Its own figures begin when a request is read: what waits for
a processor before that is in none of them."""


class Absence(StrEnum):
    """Why a part of a poll is not there: three very different things to an operator."""

    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One poll of a target, as numbers and words by name.

    Attributes:
        at_us: when it was asked for.
        told_at_us: the target's own time in its answer; None if it told none. One that stands still is frozen.
        numbers: `errors.pct`, `latency.p95_ms`, `traffic.rps`, `pool.used_pct` and the like; what is not known is absent.
        words: `health`, `pool`, `dependency.database`, `worker.1` and the like.
        absent: parts that did not answer as they should, and why.
        absurd: fields whose values cannot be (negative, not a number, above 100 percent); they are in no other place.
        templates: how many log lines of each template came since the poll before.
    """

    at_us: int
    told_at_us: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, Absence] = field(default_factory=dict)
    absurd: tuple[str, ...] = ()
    templates: Mapping[str, int] = field(default_factory=dict)

    @property
    def failing(self) -> frozenset[str]:
        """What the target depends on and calls failing."""
        of = (
            name.removeprefix("dependency.")
            for name, word in self.words.items()
            if word == "failing" and name.startswith("dependency.")
        )
        return frozenset(name for name in of if "." not in name)


class Severity(StrEnum):
    """What users notice of it."""

    WARNING = "warning"
    DEGRADED = "degraded"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that a detector finds wrong.

    Attributes:
        detector: which: `seed_rule`, `burn_rate`, `level_shift`, `trend`, `absence`, `state`; `alert`, `trigger` for those outside.
        signal: of the snapshot.
        value, expected: as found, and where the baseline or the rule has its bound; None where there is no number.
        detail: one sentence for people.
        opens: whether an incident may open on it alone: users notice it, or will.
    """

    detector: str
    signal: str
    severity: Severity
    value: float | None
    expected: float | None
    detail: str
    opens: bool = True
