"""What counts: anomalies that stay, told apart from those that pass; and polls that may be learnt from."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relab.incidents.detection import detectors
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import ANSWER, Anomaly, Severity, Snapshot

_HISTORY: Final = 720
_SEVERITIES: Final = list(Severity)
_MOST_WORKERS: Final = 500
_WORSE: Final = 1.2
"""Times as far beyond what is expected: no longer what a person has seen."""
_US: Final = 1_000_000
_MOST_GAP: Final = 60
"""In poll intervals: half an hour by default."""
_GONE_US: Final = 600 * 1_000_000
"""What a person has said may be, and was not seen for so long, is heeded again."""
LEAST_ERRORS: Final = 2.5
"""One error is told in several polls, and so are two: they confirm nothing but themselves. Shares are rounded."""
LEAST_OF_A_ROUTE: Final = 20
"""The 95th percentile of fewer requests is what one of them took."""
_AT_ONCE: Final = frozenset(("seed_rule", "trend"))
"""They look at enough by themselves."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a poll has come to.

    Attributes:
        confirmed: anomalies that count.
        passing: those that have not stayed long enough yet.
        is_stale: the target's figures are old: nothing may be concluded from them.
        is_pressing: an incident opens if the next poll shows the same; there is no reason to wait long for it.
    """

    confirmed: tuple[Anomaly, ...] = ()
    passing: tuple[Anomaly, ...] = ()
    is_stale: bool = False
    is_pressing: bool = False

    @property
    def opens(self) -> bool:
        """Whether an incident may open."""
        return not self.is_stale and any(anomaly.opens for anomaly in self.confirmed)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing at all was found."""
        return not self.confirmed and not self.passing


@dataclass(slots=True)
class _Muted:
    """What a person has said may be: how far it was beyond what is expected, when it was seen last, and how severe it was."""

    distance: float | None
    seen_at_us: int
    severity: str = Severity.CRITICAL


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
    _restarted_at_us: int | None = None
    _graced: set[str] = field(default_factory=set)
    _is_looping: bool = False
    _burnt_until_us: int = 0
    _uptimes: dict[str, float] = field(default_factory=dict)
    _muted: dict[tuple[str, str], _Muted] = field(default_factory=dict)

    def look(self, snapshot: Snapshot, *, learn: bool = True) -> Findings:
        """Take a poll in and return what it has come to.

        Args:
            snapshot: newer than all before; one that is not (a clock has jumped), or that comes long after them (the machine
                has slept), begins the history anew.
            learn: whether it may be learnt from if it is quiet; not while an incident is open.
        """
        if self._is_apart(snapshot):
            self.begin_anew()
        self._notice_restart(snapshot)
        self.history.append(snapshot)
        found = self._heeded(self._run(snapshot), snapshot.at_us)
        self._remember(snapshot, found)
        confirmed = tuple(anomaly for anomaly in found if self._is_confirmed(anomaly, snapshot))
        passing = tuple(anomaly for anomaly in found if anomaly not in confirmed)
        if not found:
            self._graced.clear()
            self._is_looping = False
        is_stale = any(anomaly.signal == "timestamp" for anomaly in found)
        is_pressing = not is_stale and any(self._is_pressing(anomaly, snapshot) for anomaly in passing)
        findings = Findings(confirmed, passing, is_stale, is_pressing)
        if learn and findings.is_quiet and not snapshot.absent:
            self.baseline.learn(snapshot)
        return findings

    def begin_anew(self) -> None:
        """Forget the polls of before; what is usual stays."""
        self.history.clear()
        self._seen.clear()
        # By the time of before, it might last for days.
        self._restarted_at_us, self._burnt_until_us = None, 0

    def settle(self) -> None:
        """Count no errors of until now as budget that is burnt: they belong to an incident that is over."""
        if self.history:
            self._burnt_until_us = self.history[-1].at_us

    def mute(self, anomalies: Iterable[Anomaly]) -> None:
        """Have these be no reason for anything until they have gone, or are a fifth worse: a person says that they may be.

        Polls are learnt from meanwhile, so that what stays becomes usual.
        """
        at_us = self.history[-1].at_us if self.history else 0
        self._muted |= {
            (item.detector, item.signal): _Muted(_distance(item), at_us, item.severity) for item in anomalies
        }

    def dump(self) -> dict[str, Any]:
        """Return what a responder that starts again goes on with."""
        muted = [[*key, item.distance, item.seen_at_us, item.severity] for key, item in self._muted.items()]
        return {"baseline": self.baseline.dump(), "muted": muted}

    def take(self, content: Mapping[str, Any]) -> None:
        """Go on with a `dump`, also one of an older release."""
        self.baseline.take(content.get("baseline", {}))
        self._muted |= {(detector, signal): _Muted(*more) for detector, signal, *more in content.get("muted", [])}

    def _is_apart(self, snapshot: Snapshot) -> bool:
        if not self.history:
            return False
        since_us = snapshot.at_us - self.history[-1].at_us
        # Rows of polls are counted in places; with a hole in it such a row tells of no hours.
        return not 0 < since_us <= _MOST_GAP * self.settings.poll_interval_s * _US

    def _heeded(self, found: Sequence[Anomaly], at_us: int) -> list[Anomaly]:
        """Return what nobody has said may be; what has gone for a while is heeded when it comes again."""
        for item in found:
            muted = self._muted.get((item.detector, item.signal))
            if muted is not None:
                muted.seen_at_us = at_us
        self._muted = {key: item for key, item in self._muted.items() if abs(at_us - item.seen_at_us) <= _GONE_US}
        return [item for item in found if not self._is_muted(item)]

    def _is_muted(self, anomaly: Anomaly) -> bool:
        muted, distance = self._muted.get((anomaly.detector, anomaly.signal)), _distance(anomaly)
        if muted is None or _SEVERITIES.index(anomaly.severity) > _SEVERITIES.index(Severity(muted.severity)):
            return False
        return muted.distance is None or distance is None or distance <= muted.distance * _WORSE

    def _run(self, snapshot: Snapshot) -> list[Anomaly]:
        settings, history = self.settings, list(self.history)
        burning = [item for item in history if item.at_us > self._burnt_until_us]
        return [
            *detectors.seed_rule(snapshot, settings),
            *detectors.burn_rate(burning, settings),
            *detectors.level_shift(snapshot, self.baseline, settings),
            *detectors.states(snapshot),
            *detectors.absence(history, self.baseline, settings),
            *detectors.trend(history, self.baseline, settings),
        ]

    def _remember(self, snapshot: Snapshot, found: Sequence[Anomaly]) -> None:
        self._seen.append({(item.detector, item.signal): snapshot.at_us for item in found})
        while len(self._seen) > max(self.settings.confirm_of, self._lingering[1], 1):
            self._seen.popleft()

    def _is_confirmed(self, anomaly: Anomaly, snapshot: Snapshot) -> bool:
        if anomaly.detector in _AT_ONCE:
            return True
        key = (anomaly.detector, anomaly.signal)
        least, of = (
            self._lingering if self._is_small(anomaly, snapshot) else (self.settings.confirm, self.settings.confirm_of)
        )
        if sum(key in seen for seen in list(self._seen)[-of:]) < least:
            return False
        # Who restarts a service on purpose is given the time for it; what is still wrong then counts.
        return anomaly.detector == "burn_rate" or snapshot.at_us >= self._grace_until_us(anomaly)

    def _is_pressing(self, anomaly: Anomaly, snapshot: Snapshot) -> bool:
        is_in_grace = snapshot.at_us < self._grace_until_us(anomaly)
        return anomaly.opens and not is_in_grace and not self._is_small(anomaly, snapshot)

    @property
    def _lingering(self) -> tuple[int, int]:
        """In how many of how many polls something small has to be seen."""
        least = max(self.settings.confirm, math.ceil(self.settings.linger_s / self.settings.poll_interval_s))
        return least, max(self.settings.confirm_of, least + least // 5)

    def _is_small(self, anomaly: Anomaly, snapshot: Snapshot) -> bool:
        """Return whether it is nothing unless it stays: a few slow or failed requests, or a worker that is away while others serve."""
        if anomaly.detector == "state":
            word = snapshot.words.get(anomaly.signal)
            is_partial = (word == "down") if anomaly.signal.startswith("worker.") else (word == "degraded")
            return is_partial and not self._is_looping
        if anomaly.signal == ANSWER:
            return True
        if anomaly.detector != "level_shift" or not anomaly.signal.endswith(("p95_ms", "errors.pct")):
            return False
        assert anomaly.value is not None
        if anomaly.signal.endswith("errors.pct"):
            return anomaly.value / 100.0 * _requests(anomaly.signal, snapshot) < LEAST_ERRORS
        assert anomaly.expected is not None
        is_slight = anomaly.value < anomaly.expected + self.settings.grave_latency_ms
        return is_slight or _requests(anomaly.signal, snapshot) < LEAST_OF_A_ROUTE

    def _grace_until_us(self, anomaly: Anomaly) -> int:
        if self._restarted_at_us is None or self._is_looping:
            return 0
        pause_s = self.settings.grace_polls * self.settings.poll_interval_s
        if anomaly.severity is not Severity.CRITICAL:
            pause_s = max(pause_s, self.settings.grace_s)
        return self._restarted_at_us + int(pause_s * 1e6)

    def _notice_restart(self, snapshot: Snapshot) -> None:
        """Begin a grace period when a process is younger than it was last; one for each, until all was quiet again.

        Workers are restarted one after the other. A crash loop restarts again and again: it is not waited for again and again.
        """
        for name, uptime_s in snapshot.numbers.items():
            if not (name.startswith("worker.") and name.endswith(".uptime_s")):
                continue
            # One that is away tells no time of its own.
            before = self._uptimes.pop(name, 0.0)
            self._uptimes[name] = uptime_s
            if uptime_s < before:
                self._is_looping |= name in self._graced
                self._graced.add(name)
                self._restarted_at_us = snapshot.at_us
        for name in list(self._uptimes)[: max(len(self._uptimes) - _MOST_WORKERS, 0)]:
            # A target that names its workers anew in every poll must not fill the memory.
            del self._uptimes[name]
            self._graced.discard(name)


def _distance(anomaly: Anomaly) -> float | None:
    """Return how far it is beyond what is expected, where there are numbers."""
    if anomaly.value is None or anomaly.expected is None:
        return None
    return abs(anomaly.value - anomaly.expected)


def _requests(signal: str, snapshot: Snapshot) -> float:
    """Return how many requests a percentile or a share is of, as far as the poll tells."""
    numbers = snapshot.numbers
    requests, rate = numbers.get("traffic.requests", 0.0), numbers.get("traffic.rps", 0.0)
    own = numbers.get(f"{signal.removesuffix('.p95_ms').removesuffix('.errors.pct')}.rps")
    if not signal.startswith("route.") or own is None or not rate:
        return requests
    return own * requests / rate
