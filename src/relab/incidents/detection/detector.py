"""Confirm anomalies that last for several polls, and let the baseline learn from polls without anomalies."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from relab.incidents.detection import rules
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import POLL_LATENCY, Anomaly, Severity, Snapshot

_HISTORY: Final = 720
_SEVERITIES: Final = list(Severity)
_MAX_WORKERS: Final = 500
_WORSE: Final = 1.2
"""A muted anomaly counts again when its distance from the expected value has grown by more than this factor."""
_US: Final = 1_000_000
_MAX_GAP: Final = 60
"""The longest gap between polls in one history, in poll intervals: half an hour with the default interval."""
MAX_MUTED_S: Final = 60.0
"""For how many seconds `mute_briefly` ignores anomalies: as long as people may wait for the notice of an outage.

A target's own health status and the figures of its window show a problem for some seconds after its end.
"""
_GONE_US: Final = 600 * 1_000_000
"""A muted anomaly that is not critical and has not been seen for this long is no longer muted, in microseconds."""
MIN_FAILED_REQUESTS: Final = 2.5
"""The least number of failed requests for which a risen share of errors is confirmed as quickly as other anomalies.

One or two errors appear in several polls, so several polls do not confirm them. Not 3, because shares are rounded.
"""
MIN_ROUTE_REQUESTS: Final = 20
"""The least number of requests for which a risen 95th percentile is confirmed as quickly as other anomalies.

With fewer requests, the 95th percentile is the duration of a single one.
"""
_AT_ONCE: Final = frozenset(("seed_rule", "trend"))
"""Detectors whose anomalies need no confirmation by further polls: one poll is enough evidence."""


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """The anomalies that are present after a poll of the target, without those that the detector ignores (mutes).

    Attributes:
        confirmed: anomalies that have lasted long enough to count.
        passing: anomalies that have not lasted long enough yet.
        is_stale: whether the target's figures are old and prove nothing.
        is_pressing: whether the next poll should come early, because it may confirm an anomaly in `passing` that then
            opens an incident.
    """

    confirmed: tuple[Anomaly, ...] = ()
    passing: tuple[Anomaly, ...] = ()
    is_stale: bool = False
    is_pressing: bool = False

    @property
    def opens(self) -> bool:
        """Whether an incident may open.

        An incident may open if an anomaly that opens incidents is confirmed, and the target reports no old figures.
        """
        return not self.is_stale and any(anomaly.opens for anomaly in self.confirmed)

    @property
    def is_quiet(self) -> bool:
        """Whether the poll has no anomalies, apart from muted ones."""
        return not self.confirmed and not self.passing


@dataclass(slots=True)
class _Muted:
    """A muted (ignored) anomaly: its distance from the expected value, when it was last seen, and its severity.

    If `until_us` is not None, the anomaly counts again from this time on, in microseconds since 1970.
    """

    distance: float | None
    seen_at_us: int
    severity: str = Severity.CRITICAL
    until_us: int | None = None

    def has_expired(self, at_us: int) -> bool:
        """Return whether the anomaly counts again at `at_us`, even if it is still present."""
        # A clock that was set back must not prolong the time.
        return self.until_us is not None and not 0 < self.until_us - at_us <= MAX_MUTED_S * _US


@dataclass(slots=True)
class Detector:
    """Finds the anomalies of one target in a series of polls (measurements of the target).

    Args:
        settings: the thresholds.
        baseline: the usual values; it learns from polls without anomalies.
        history: the latest polls, oldest first.
        settled_id: the id of the incident that ended last and whose anomalies were muted if needed; empty if unknown.
    """

    settings: DetectionSettings
    baseline: Baseline = field(default_factory=Baseline)
    history: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    settled_id: str = ""
    _seen: deque[Mapping[tuple[str, str], int]] = field(default_factory=deque)
    _restarted_at_us: int | None = None
    _graced: set[str] = field(default_factory=set)
    _is_looping: bool = False
    _burnt_until_us: int = 0
    _uptimes: dict[str, float] = field(default_factory=dict)
    _muted: dict[tuple[str, str], _Muted] = field(default_factory=dict)

    def observe(self, snapshot: Snapshot, *, learn: bool = True) -> DetectionResult:
        """Add a poll (a measurement of the target) to the history, and return its anomalies without the muted ones.

        Args:
            snapshot: the new poll. If its time is not after that of the last poll, or is much later, the earlier
                history is deleted first.
            learn: whether the baseline may learn from this poll; False while an incident is open. It never learns from
                a poll that has anomalies (except those that `mute` ignores), or in which a request to the target had no
                usable answer.
        """
        if self._is_apart(snapshot):
            # The clock was set back, or the machine has slept.
            self.begin_anew()
        if self._burnt_until_us - snapshot.at_us > MAX_MUTED_S * _US:
            # The clock was set back.
            self._burnt_until_us = 0
        self._notice_restart(snapshot)
        self.history.append(snapshot)
        shown = self._run(snapshot)
        found = self._heeded(shown, snapshot.at_us)
        self._remember(snapshot, found)
        confirmed = tuple(anomaly for anomaly in found if self._is_confirmed(anomaly, snapshot))
        passing = tuple(anomaly for anomaly in found if anomaly not in confirmed)
        if not found:
            self._graced.clear()
            self._is_looping = False
        is_stale = any(anomaly.signal == "timestamp" for anomaly in found)
        is_pressing = not is_stale and any(self._is_pressing(anomaly, snapshot) for anomaly in passing)
        findings = DetectionResult(confirmed, passing, is_stale, is_pressing)
        if learn and findings.is_quiet and not snapshot.absent and not any(map(self._is_briefly_muted, shown)):
            self.baseline.learn(snapshot)
        return findings

    def begin_anew(self) -> None:
        """Clear the history of polls; the baseline stays."""
        self.history.clear()
        self._seen.clear()
        # These times come from the clock before the jump; kept, they might suppress anomalies for days.
        self._restarted_at_us, self._burnt_until_us = None, 0

    def settle(self) -> None:
        """Exclude all polls until now from the burn rate (how fast the error budget is used up).

        Call this when an incident is over.
        """
        if self.history:
            self._burnt_until_us = self.history[-1].at_us

    def mute(self, anomalies: Iterable[Anomaly]) -> None:
        """Ignore these anomalies until they become worse, or return after a long enough absence.

        Worse means a higher severity, or a value more than a fifth farther from the expected value. An absence is long
        enough after ten minutes; for a critical anomaly, after `confirm_of_polls` poll intervals. An anomaly of the rule
        `burn_rate` is treated as critical, and never counts as worse. The baseline learns from polls whose only
        anomalies are muted.
        """
        self._mute(anomalies, None)

    def mute_briefly(self, anomalies: Iterable[Anomaly], *, since_us: int | None = None) -> None:
        """Ignore these anomalies for `MAX_MUTED_S` seconds, unless they become worse or disappear before.

        The rules of `mute` apply as well, with two differences: worse means worse than in all polls of the last
        `MAX_MUTED_S` seconds, and the baseline does not learn from polls that show a briefly muted anomaly. Polls before
        the end of this time do not count in the burn rate.

        Args:
            anomalies: the anomalies to ignore.
            since_us: when this time begins, in microseconds since 1970; None: with the last poll.
        """
        at_us = self.history[-1].at_us if self.history else 0
        # The windows of the burn rate are longer than this time, so errors in it would count after it.
        self._burnt_until_us = min(at_us, at_us if since_us is None else since_us) + int(MAX_MUTED_S * _US)
        self._mute(map(self._at_worst, anomalies), self._burnt_until_us)

    def _at_worst(self, anomaly: Anomaly) -> Anomaly:
        """Return an anomaly with the value of the last `MAX_MUTED_S` seconds that is farthest from the expected value.

        Only values on the same side of the expected value as the anomaly's own value are considered.
        """
        if anomaly.value is None or anomaly.expected is None:
            return anomaly
        # A number of errors varies by more than a fifth from poll to poll.
        since_us = self.history[-1].at_us - MAX_MUTED_S * _US if self.history else 0
        seen = [poll.numbers.get(anomaly.signal, anomaly.value) for poll in self.history if poll.at_us >= since_us]
        worst = max if anomaly.value >= anomaly.expected else min
        return replace(anomaly, value=worst([*seen, anomaly.value]))

    def _mute(self, anomalies: Iterable[Anomaly], until_us: int | None) -> None:
        at_us = self.history[-1].at_us if self.history else 0
        for item in anomalies:
            # After `settle`, a constant share of errors burns faster: the windows hold only later polls. The level shift
            # of the share shows whether it has become worse.
            is_burn = item.detector == "burn_rate"
            distance, severity = (None, Severity.CRITICAL) if is_burn else (_distance(item), item.severity)
            self._muted[item.detector, item.signal] = _Muted(distance, at_us, severity, until_us)

    def dump(self) -> dict[str, Any]:
        """Return the state to store, for `take` after a restart: the baseline, and what is ignored of which incident."""
        muted = [
            [*key, item.distance, item.seen_at_us, item.severity, item.until_us] for key, item in self._muted.items()
        ]
        return {
            "baseline": self.baseline.dump(),
            "muted": muted,
            "burnt_until_us": self._burnt_until_us,
            "settled_id": self.settled_id,
        }

    def take(self, content: Mapping[str, Any]) -> None:
        """Load `content`, the state that `dump` returned in this release or an older one."""
        self.baseline.take(content.get("baseline", {}))
        self._burnt_until_us = content.get("burnt_until_us", 0)
        self.settled_id = content.get("settled_id", "")
        self._muted |= {(detector, signal): _Muted(*more) for detector, signal, *more in content.get("muted", [])}

    def _is_apart(self, snapshot: Snapshot) -> bool:
        if not self.history:
            return False
        since_us = snapshot.at_us - self.history[-1].at_us
        # Windows are counted in polls; with a gap in the history a number of polls is no longer a length of time.
        return not 0 < since_us <= _MAX_GAP * self.settings.poll_interval_s * _US

    def _heeded(self, found: Sequence[Anomaly], at_us: int) -> list[Anomaly]:
        """Return the anomalies in `found` that are not muted; unmute anomalies that have been absent for long enough."""
        for item in found:
            muted = self._muted.get((item.detector, item.signal))
            if muted is not None:
                muted.seen_at_us = at_us
        self._muted = {
            key: item
            for key, item in self._muted.items()
            if abs(at_us - item.seen_at_us) < self._max_absence_us(item) and not item.has_expired(at_us)
        }
        return [item for item in found if not self._is_muted(item)]

    def _max_absence_us(self, muted: _Muted) -> int:
        """Return how long, in microseconds, a muted anomaly must be absent before it is no longer muted."""
        # A critical anomaly that comes back is a new outage: most have no degree by which the new one could be worse.
        if muted.severity == Severity.CRITICAL:
            return int(self.settings.confirm_of_polls * self.settings.poll_interval_s * _US)
        return _GONE_US

    def _is_briefly_muted(self, anomaly: Anomaly) -> bool:
        muted = self._muted.get((anomaly.detector, anomaly.signal))
        return muted is not None and muted.until_us is not None

    def _is_muted(self, anomaly: Anomaly) -> bool:
        muted, distance = self._muted.get((anomaly.detector, anomaly.signal)), _distance(anomaly)
        if muted is None or _SEVERITIES.index(anomaly.severity) > _SEVERITIES.index(Severity(muted.severity)):
            return False
        return muted.distance is None or distance is None or distance <= muted.distance * _WORSE

    def _run(self, snapshot: Snapshot) -> list[Anomaly]:
        settings, history = self.settings, list(self.history)
        burning = [item for item in history if item.at_us > self._burnt_until_us]
        return [
            *rules.seed_rule(snapshot, settings),
            *rules.burn_rate(burning, settings),
            *rules.level_shift(snapshot, self.baseline, settings),
            *rules.states(snapshot),
            *rules.absence(history, self.baseline, settings),
            *rules.trend(history, self.baseline, settings),
        ]

    def _remember(self, snapshot: Snapshot, found: Sequence[Anomaly]) -> None:
        self._seen.append({(item.detector, item.signal): snapshot.at_us for item in found})
        while len(self._seen) > max(self.settings.confirm_of_polls, self._lingering[1], 1):
            self._seen.popleft()

    def _is_confirmed(self, anomaly: Anomaly, snapshot: Snapshot) -> bool:
        if anomaly.detector in _AT_ONCE:
            return True
        key = (anomaly.detector, anomaly.signal)
        least, of = (
            self._lingering
            if self._is_small(anomaly, snapshot)
            else (self.settings.confirm_polls, self.settings.confirm_of_polls)
        )
        if sum(key in seen for seen in list(self._seen)[-of:]) < least:
            return False
        # A deliberate restart gets a grace period; anomalies that last longer count.
        return anomaly.detector == "burn_rate" or snapshot.at_us >= self._grace_until_us(anomaly)

    def _is_pressing(self, anomaly: Anomaly, snapshot: Snapshot) -> bool:
        is_in_grace = snapshot.at_us < self._grace_until_us(anomaly)
        return anomaly.opens and not is_in_grace and not self._is_small(anomaly, snapshot)

    @property
    def _lingering(self) -> tuple[int, int]:
        """Return `(count, polls)`: a small anomaly is confirmed if at least `count` of the last `polls` polls show it.

        `_is_small` decides which anomalies are small. Most others need only `confirm_polls` of the last
        `confirm_of_polls` polls.
        """
        least = max(
            self.settings.confirm_polls, math.ceil(self.settings.small_anomaly_s / self.settings.poll_interval_s)
        )
        return least, max(self.settings.confirm_of_polls, least + least // 5)

    def _is_small(self, anomaly: Anomaly, snapshot: Snapshot) -> bool:
        """Return whether an anomaly of the poll `snapshot` is so small that it needs a longer confirmation.

        These are small: a P95 of few requests or just above its bound, a few failed requests, a slow answer to a poll, a
        state that is only `degraded`, and a worker that is down. Exception: while a worker restarts again and again,
        degraded states and workers that are down are not small.
        """
        if anomaly.detector == "state":
            word = snapshot.words.get(anomaly.signal)
            is_partial = (word == "down") if anomaly.signal.startswith("worker.") else (word == "degraded")
            # In a restart loop, no bad state is small.
            return is_partial and not self._is_looping
        if anomaly.signal == POLL_LATENCY:
            return True
        if anomaly.detector != "level_shift" or not anomaly.signal.endswith(("p95_ms", "errors.pct")):
            return False
        assert anomaly.value is not None
        if anomaly.signal.endswith("errors.pct"):
            return anomaly.value / 100.0 * _requests(anomaly.signal, snapshot) < MIN_FAILED_REQUESTS
        assert anomaly.expected is not None
        is_slight = anomaly.value < anomaly.expected + self.settings.large_latency_increase_ms
        return is_slight or _requests(anomaly.signal, snapshot) < MIN_ROUTE_REQUESTS

    def _grace_until_us(self, anomaly: Anomaly) -> int:
        if self._restarted_at_us is None or self._is_looping:
            return 0
        pause_s = self.settings.restart_grace_polls * self.settings.poll_interval_s
        if anomaly.severity is not Severity.CRITICAL:
            pause_s = max(pause_s, self.settings.min_restart_grace_s)
        return self._restarted_at_us + int(pause_s * 1e6)

    def _notice_restart(self, snapshot: Snapshot) -> None:
        """Begin a grace period, in which anomalies need longer to be confirmed, if a worker has restarted.

        A worker has restarted if its uptime has become shorter. If the same worker restarts again before there was a
        poll without anomalies, it is in a crash loop, which gets no grace period.
        """
        for name, uptime_s in snapshot.numbers.items():
            if not (name.startswith("worker.") and name.endswith(".uptime_s")):
                continue
            # A worker that is down reports no uptime, so its earlier one is still stored here.
            before = self._uptimes.pop(name, 0.0)
            self._uptimes[name] = uptime_s
            if uptime_s < before:
                self._is_looping |= name in self._graced
                self._graced.add(name)
                self._restarted_at_us = snapshot.at_us
        for name in list(self._uptimes)[: max(len(self._uptimes) - _MAX_WORKERS, 0)]:
            # A target that gives its workers new names in every poll must not fill the memory.
            del self._uptimes[name]
            self._graced.discard(name)


def _distance(anomaly: Anomaly) -> float | None:
    """Return the absolute difference between an anomaly's value and its expected value; None if either is missing."""
    if anomaly.value is None or anomaly.expected is None:
        return None
    return abs(anomaly.value - anomaly.expected)


def _requests(signal: str, snapshot: Snapshot) -> float:
    """Return the number of requests from which the value of a signal (a percentile or a share) was computed.

    For a signal of a single route, the number is estimated from the route's share of the request rate.
    """
    numbers = snapshot.numbers
    requests, rate = numbers.get("traffic.requests", 0.0), numbers.get("traffic.rps", 0.0)
    own = numbers.get(f"{signal.removesuffix('.p95_ms').removesuffix('.errors.pct')}.rps")
    if not signal.startswith("route.") or own is None or not rate:
        return requests
    return own * requests / rate
