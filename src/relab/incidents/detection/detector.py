"""What counts: anomalies that stay, told apart from those that pass; and polls that may be learnt from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relab.incidents.detection import detectors
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import Anomaly, Snapshot

_HISTORY: Final = 720
_AT_ONCE: Final = frozenset(("seed_rule", "trend"))
"""They look at enough by themselves."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a poll has come to.

    Attributes:
        confirmed: anomalies that count.
        passing: those that have not stayed long enough yet.
        is_stale: the target's figures are old: nothing may be concluded from them.
    """

    confirmed: tuple[Anomaly, ...] = ()
    passing: tuple[Anomaly, ...] = ()
    is_stale: bool = False

    @property
    def opens(self) -> bool:
        """Whether an incident may open."""
        return not self.is_stale and any(anomaly.opens for anomaly in self.confirmed)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing at all was found."""
        return not self.confirmed and not self.passing


@dataclass(slots=True)
class Detector:
    """Looks at one poll after the other.

    Args:
        settings: when something is wrong.
        baseline: what is usual; it is learnt from quiet polls.
    """

    settings: DetectionSettings
    baseline: Baseline = field(default_factory=Baseline)
    history: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    _seen: deque[Mapping[tuple[str, str], int]] = field(default_factory=deque)
    _grace_until_us: int = 0
    _grace_is_spent: bool = False

    def look(self, snapshot: Snapshot, *, learn: bool = True) -> Findings:
        """Take a poll in and return what it has come to.

        Args:
            snapshot: newer than all before; one that is not (a clock has jumped) begins the history anew.
            learn: whether it may be learnt from if it is quiet; not while an incident is open.
        """
        if self.history and snapshot.at_us <= self.history[-1].at_us:
            self.history.clear()
            self._seen.clear()
        self._notice_restart(snapshot)
        self.history.append(snapshot)
        found = self._run(snapshot)
        self._remember(snapshot, found)
        confirmed = tuple(anomaly for anomaly in found if self._is_confirmed(anomaly, snapshot.at_us))
        passing = tuple(anomaly for anomaly in found if anomaly not in confirmed)
        if not found:
            self._grace_is_spent = False
        is_stale = any(anomaly.signal == "timestamp" for anomaly in found)
        findings = Findings(confirmed, passing, is_stale)
        if learn and findings.is_quiet and not snapshot.absent:
            self.baseline.learn(snapshot)
        return findings

    def dump(self) -> dict[str, Any]:
        """Return what a responder that starts again goes on with."""
        return {"baseline": self.baseline.dump()}

    def _run(self, snapshot: Snapshot) -> list[Anomaly]:
        settings, history = self.settings, list(self.history)
        return [
            *detectors.seed_rule(snapshot, settings),
            *detectors.burn_rate(history, settings),
            *detectors.level_shift(snapshot, self.baseline, settings),
            *detectors.states(snapshot),
            *detectors.absence(history, self.baseline, settings),
            *detectors.trend(history, self.baseline, settings),
        ]

    def _remember(self, snapshot: Snapshot, found: Sequence[Anomaly]) -> None:
        self._seen.append({(item.detector, item.signal): snapshot.at_us for item in found})
        while len(self._seen) > max(self.settings.confirm_of, 1):
            self._seen.popleft()

    def _is_confirmed(self, anomaly: Anomaly, now_us: int) -> bool:
        if anomaly.detector in _AT_ONCE:
            return True
        key = (anomaly.detector, anomaly.signal)
        if sum(key in seen for seen in self._seen) < self.settings.confirm:
            return False
        # Who restarts a service on purpose is given the time for it; what is still wrong then counts.
        return now_us >= self._grace_until_us or anomaly.detector == "burn_rate"

    def _notice_restart(self, snapshot: Snapshot) -> None:
        """Begin a grace period when processes are younger than in the poll before; one, until all was quiet again.

        A crash loop restarts again and again: it is not waited for again and again.
        """
        before = self.history[-1] if self.history else None
        if before is None or self._grace_is_spent:
            return
        names = [name for name in snapshot.numbers if name.startswith("worker.") and name.endswith(".uptime_s")]
        if any(snapshot.numbers[name] < before.numbers.get(name, 0.0) for name in names):
            pause_s = self.settings.grace_polls * self.settings.poll_interval_s
            self._grace_until_us = snapshot.at_us + int(pause_s * 1e6)
            self._grace_is_spent = True
