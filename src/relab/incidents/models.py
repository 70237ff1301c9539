"""Value types of the responder: the snapshot that a poll of the target gives, and the anomalies found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

POLL_LATENCY: Final = "answer.ms"
"""The signal of how long the target took to answer a poll, in milliseconds.

The target's own figures begin when it reads a request, so they do not include the time that the request waits for a
processor before that.
"""


_DEPENDENCY: Final = "dependency."


class AbsenceReason(StrEnum):
    """Why a part of a poll, such as `health` or `metrics`, is absent: no connection, a time-out, or an unusable answer.

    Each reason needs a different reaction of the operators.
    """

    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREADABLE = "unreadable"


def dependency_of(signal: str) -> str | None:
    """Return the name of the dependency whose state a signal is; None for any other signal.

    The state of the dependency `cache` is the signal `dependency.cache`, and its error code `dependency.cache.sqlstate`.
    """
    # The target chooses the names, which may contain dots, such as `api.example.com`.
    if not signal.startswith(_DEPENDENCY) or signal.endswith(".sqlstate"):
        return None
    return signal.removeprefix(_DEPENDENCY)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The result of one poll of a target, as numbers and words by name.

    Attributes:
        at_us: when the requests of the poll were sent, in microseconds since 1970.
        told_at_us: the latest time stated in the target's answers, in microseconds since 1970; None if they state none.
        numbers: `errors.pct`, `latency.p95_ms`, `traffic.rps`, `pool.used_pct` and others, as far as known.
        words: the states `health`, `pool`, `dependency.database`, `worker.1` and others.
        absent: `{part: reason}` for parts without a usable answer, such as `health` or `metrics`.
        absurd: the names of values that are impossible (negative, not a number, above 100 percent) and not stored.
        templates: the number of log lines since the previous poll, by log template (a line with its variable parts
            masked).
    """

    at_us: int
    told_at_us: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, AbsenceReason] = field(default_factory=dict)
    absurd: tuple[str, ...] = ()
    templates: Mapping[str, int] = field(default_factory=dict)

    @property
    def failing(self) -> frozenset[str]:
        """The names of the dependencies that the target reports as failing."""
        found = (dependency_of(name) for name, word in self.words.items() if word == "failing")
        return frozenset(name for name in found if name is not None)


class Severity(StrEnum):
    """How severely a problem affects users: warning, degraded or critical. The members are ordered, the least first."""

    WARNING = "warning"
    DEGRADED = "degraded"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A problem of the target that a detector, an alert or a person has reported.

    Attributes:
        detector: the origin of the report: `alert`, `trigger` (a person), or a detector. `seed_rule`: many errors, a
            critical connection pool and slow answers together. `burn_rate`: the error budget is used up too fast.
            `level_shift`: a signal is far above its usual value. `trend`: a signal grows and will soon reach its limit.
            `absence`: an answer or the traffic is missing, the target's time stands still, or a value is impossible.
            `state`: the target reports a bad state.
        signal: the name of the signal in the snapshot, or of an alert, a missing answer or another problem.
        value: the value found; None if there is no number.
        expected: the bound that the value violates, or the usual value; None if there is no number.
        detail: one sentence for people.
        opens: whether this anomaly alone may open an incident, because users notice it or soon will.
    """

    detector: str
    signal: str
    severity: Severity
    value: float | None
    expected: float | None
    detail: str
    opens: bool = True
