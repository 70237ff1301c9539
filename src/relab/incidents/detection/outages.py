"""Outages that people were not notified of: signals that are new, that recovered and broke again, or that are much worse. Pure.

An incident that is open says nothing of what goes wrong in it later. This keeps, for each signal by which users notice
something, since when it is wrong without a break and when people were notified of it last; what is wrong since later is news.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.incidents.detection.detector import Findings
from relab.incidents.models import Anomaly, Severity

BOUND_S: Final = 60.0
"""No outage is longer than this without a notification that is newer than its begin."""
_OVERDUE_S: Final = 30.0
_SHORT_POLLS_S: Final = 5.0
_GAP_S: Final = 20.0
"""Between two notifications of news; what comes in between is in the next one."""
_RECOVERED_S: Final = 30.0
"""What was well for as long has recovered; what wavers has not, and is news only if it stays."""
_LONGEST_BACKOFF: Final = 5
_FORGIVEN_S: Final = 3_600.0
_MOST_SIGNALS: Final = 500
_LEAST_POINTS: Final = 10.0
_LEAST_MS: Final = 200.0
_FACTOR: Final = 2.0
_WORSE_POLLS: Final = 2
_US: Final = 1_000_000
_LINGERS: Final = "burn_rate"
"""Its long window shows errors long after they have ended, so it can tell of no recovery."""
_SEVERITIES: Final = list(Severity)


class NewsKind(StrEnum):
    """Why people are to be notified although they know of the incident."""

    RECURRED = "recurred"
    NEW = "new"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class News:
    """A signal that people were not notified of as it is now.

    Attributes:
        began_us: since when it has been so.
    """

    kind: NewsKind
    anomaly: Anomaly
    began_us: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What is wrong at a moment.

    Attributes:
        at_us: that moment.
        anomalies: by signal.
    """

    at_us: int
    anomalies: Mapping[str, Anomaly]


@dataclass(slots=True)
class _Signal:
    """A signal that is wrong, or was.

    Attributes:
        began_us, seen_us: of the last run of polls without a break that show it.
        well_us: for how long it was not there before that run.
        told_us, told: when people were notified of it last, and how it was then; None: never.
        worse_us, worse_polls: since when, and in how many polls in a row, it is much worse than that.
        recurrences: how often people were notified that it broke again.
    """

    anomaly: Anomaly
    began_us: int
    seen_us: int
    is_present: bool = True
    is_confirmed: bool = False
    well_us: int = 0
    told_us: int | None = None
    told: Anomaly | None = None
    worse_us: int = 0
    worse_polls: int = 0
    recurrences: int = 0

    def appear(self, anomaly: Anomaly, at_us: int, *, is_confirmed: bool) -> None:
        if not self.is_present:
            self.began_us, self.well_us, self.is_present = at_us, max(at_us - self.seen_us, 0), True
        self.anomaly, self.seen_us, self.is_confirmed = anomaly, at_us, is_confirmed
        is_worse = self.told is not None and _is_much_worse(anomaly, self.told)
        self.worse_polls = self.worse_polls + 1 if is_worse else 0
        if self.worse_polls == 1:
            self.worse_us = at_us

    def note_told(self, at_us: int, anomaly: Anomaly) -> None:
        if self.told_us is not None and at_us >= self.began_us > self.told_us:
            is_forgiven = at_us - self.told_us > _FORGIVEN_S * _US
            self.recurrences = 1 if is_forgiven else self.recurrences + 1
        self.told_us, self.told, self.worse_polls = at_us, anomaly, 0

    def news(self) -> News | None:
        if not self.is_present:
            return None
        if self.told_us is None:
            return News(NewsKind.NEW, self.anomaly, self.began_us)
        if self.began_us > self.told_us:
            return News(NewsKind.RECURRED, self.anomaly, self.began_us)
        if self.worse_polls >= _WORSE_POLLS:
            return News(NewsKind.WORSE, self.anomaly, self.worse_us)
        return None

    def is_at_once(self, kind: NewsKind, at_us: int) -> bool:
        """Return whether people who have the incident need to know now, and not only if it stays."""
        if not self.is_confirmed:
            return False
        if kind is not NewsKind.RECURRED or self.told_us is None:
            return True
        since_us = at_us - self.told_us
        backoff_s = 0.0 if since_us > _FORGIVEN_S * _US else _OVERDUE_S * 2 ** min(self.recurrences, _LONGEST_BACKOFF)
        return self.well_us >= _RECOVERED_S * _US and since_us >= backoff_s * _US


@dataclass(slots=True)
class Outages:
    """Follows the signals of the incident that is open.

    Args:
        poll_interval_s: between two polls. The bound of 60 s holds for intervals of up to 30 s.
    """

    poll_interval_s: float
    _signals: dict[str, _Signal] = field(default_factory=dict)
    _last_us: int | None = None

    def begin(self) -> None:
        """Begin with an incident: what is wrong from now on is news until people are notified."""
        self._signals.clear()
        self._last_us = None

    def resume(self, seen: Iterable[tuple[Anomaly, int, int]], *, told_us: int, now_us: int) -> None:
        """Begin with an incident that was opened by now, or long ago.

        Args:
            seen: its anomalies, each with the times when it was seen first and last.
            told_us: when people were notified last.
            now_us: the time; what was seen less than a minute ago goes on, for all that is known.
        """
        self.begin()
        for anomaly, first_us, last_us in seen:
            if _counts(anomaly):
                signal = _Signal(anomaly, first_us, last_us, is_present=now_us - last_us <= BOUND_S * _US)
                if first_us <= told_us:
                    signal.told_us, signal.told = told_us, anomaly
                self._signals[anomaly.signal] = signal

    def observe(self, findings: Findings, at_us: int) -> None:
        """Take in what a poll has come to; old figures show neither a begin nor an end."""
        if findings.is_stale:
            return
        if self._signals and at_us < max(each.seen_us for each in self._signals.values()):
            # The clock was set back: times of before are at no known distance.
            self._move(at_us)
        found: dict[str, tuple[Anomaly, bool]] = {}
        for anomalies, is_confirmed in ((findings.passing, False), (findings.confirmed, True)):
            found |= {item.signal: (item, is_confirmed) for item in anomalies if _counts(item)}
        for name, signal in self._signals.items():
            if name not in found:
                signal.is_present, signal.worse_polls = False, 0
        for name, (anomaly, is_confirmed) in found.items():
            known = self._signals.get(name)
            if known is not None:
                known.appear(anomaly, at_us, is_confirmed=is_confirmed)
            elif len(self._signals) < _MOST_SIGNALS:
                self._signals[name] = _Signal(anomaly, at_us, at_us, is_confirmed=is_confirmed)

    def seen(self, at_us: int) -> Seen:
        """Return what is wrong now, before it is written down: what a poll finds while that is written is news."""
        return Seen(at_us, {name: signal.anomaly for name, signal in self._signals.items() if signal.is_present})

    def note_told(self, seen: Seen) -> None:
        """Note that people are notified of what was seen; a second note of the same moment changes nothing."""
        for name, anomaly in seen.anomalies.items():
            signal = self._signals.get(name)
            if signal is not None and (signal.told_us is None or signal.told_us < seen.at_us):
                signal.note_told(seen.at_us, anomaly)

    def note_news(self, news: Iterable[News], at_us: int) -> None:
        """Note that people are notified of this news; the next one waits for a moment."""
        self._last_us = at_us
        self.note_told(Seen(at_us, {item.anomaly.signal: item.anomaly for item in news}))

    def is_pressing(self) -> bool:
        """Return whether there is news that people do not have yet: one more poll decides."""
        return any(signal.news() is not None for signal in self._signals.values())

    def due(self, at_us: int, *, is_handed_over: bool) -> list[News]:
        """Return all news if some of it is due, the oldest first.

        Args:
            at_us: the time of the last poll.
            is_handed_over: whether people have the incident or are asked: then they need to know at once. Else the
                responder is at work on it, and they need to know if it lasts.
        """
        if self._last_us is not None and 0 <= at_us - self._last_us < _GAP_S * _US:
            return []
        pending = [(signal, news) for signal in self._signals.values() if (news := signal.news()) is not None]
        is_due = any(
            at_us - news.began_us >= self._overdue_us or (is_handed_over and signal.is_at_once(news.kind, at_us))
            for signal, news in pending
        )
        found = [news for signal, news in pending if signal.is_confirmed or at_us - news.began_us >= self._overdue_us]
        return sorted(found, key=lambda news: (list(NewsKind).index(news.kind), news.began_us)) if is_due else []

    @property
    def _overdue_us(self) -> int:
        if self.poll_interval_s <= _SHORT_POLLS_S:
            return int(_OVERDUE_S * _US)
        # Up to one interval has passed before the first poll that shows it; the next one comes early.
        return int(min(_OVERDUE_S, self.poll_interval_s / 4) * _US)

    def _move(self, at_us: int) -> None:
        by_us = max(each.seen_us for each in self._signals.values()) - at_us + 1
        for signal in self._signals.values():
            signal.began_us, signal.seen_us = signal.began_us - by_us, signal.seen_us - by_us
            signal.worse_us -= by_us
            if signal.told_us is not None:
                signal.told_us -= by_us
        self._last_us = None


def _counts(anomaly: Anomaly) -> bool:
    """Return whether users notice it."""
    return anomaly.opens and anomaly.severity is not Severity.WARNING and anomaly.detector != _LINGERS


def _is_much_worse(now: Anomaly, then: Anomaly) -> bool:
    """Return whether a signal is of another order than it was.

    A share of errors: by ten points, and twice as many fail or half as many succeed. A duration: twice as long, by 200 ms. Any
    other number: twice as far beyond its bound. A word: of a higher severity.
    """
    if _SEVERITIES.index(now.severity) > _SEVERITIES.index(then.severity):
        return True
    if now.value is None or then.value is None:
        return False
    if now.signal.endswith("errors.pct"):
        is_double = now.value >= _FACTOR * then.value or 100 - now.value <= (100 - then.value) / _FACTOR
        return is_double and now.value >= then.value + _LEAST_POINTS
    if now.signal.endswith(("_ms", ".ms")):
        return now.value >= max(_FACTOR * then.value, then.value + _LEAST_MS)
    if now.expected is None or then.expected is None:
        return False
    return abs(now.value - now.expected) >= max(_FACTOR * abs(then.value - then.expected), 1.0)
