"""Find outages that people were not notified of: new outages, recurrences after a recovery, much worse outages.

Pure. An outage is a time without a break in which one signal has an anomaly that users notice. For each such signal,
this module stores when its latest outage began, and when people were last notified of it. An outage is news if it began
or became much worse after that notification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.incidents.detection.detector import DetectionResult
from relab.incidents.models import Anomaly, Severity

MAX_NOTIFICATION_DELAY_S: Final = 60.0
"""The longest time from the beginning of an outage to the notification of people, in seconds."""
_OVERDUE_S: Final = 30.0
_SHORT_POLLS_S: Final = 5.0
_GAP_S: Final = 20.0
"""The least time between two notifications of news, in seconds.

The later one includes all news since the earlier one.
"""
_RECOVERED_S: Final = 30.0
"""After how many seconds without an anomaly a signal has recovered.

A signal that recovers and breaks again more quickly is news only if it then stays wrong.
"""
_MAX_BACKOFF: Final = 5
_FORGIVEN_S: Final = 3_600.0
_MAX_SIGNALS: Final = 500
_MIN_POINTS: Final = 10.0
_MIN_MS: Final = 200.0
_FACTOR: Final = 2.0
_WORSE_POLLS: Final = 2
_US: Final = 1_000_000
_LINGERS: Final = "burn_rate"
"""This detector shows errors long after they have ended, because its window is long; so it cannot show a recovery."""
_SEVERITIES: Final = list(Severity)


class OutageNewsKind(StrEnum):
    """Why people must be notified of an outage in an open incident: it is new, much worse, or back after a recovery."""

    RECURRED = "recurred"
    NEW = "new"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class OutageNews:
    """A new outage (a signal with an anomaly), or a change of an outage since people were last notified of it.

    Attributes:
        anomaly: the latest anomaly of the signal.
        kind: whether the outage is new, much worse, or back after a recovery.
        began_us: when the outage began or became much worse, in microseconds since 1970.
    """

    kind: OutageNewsKind
    anomaly: Anomaly
    began_us: int


@dataclass(frozen=True, slots=True)
class OutageView:
    """The anomalies that are present at one moment.

    Attributes:
        at_us: the moment, in microseconds since 1970.
        anomalies: the anomalies by signal.
    """

    at_us: int
    anomalies: Mapping[str, Anomaly]


@dataclass(slots=True)
class _Signal:
    """A signal that has an anomaly now, or had an anomaly earlier in the incident.

    Attributes:
        began_us, seen_us: the times of the first and the last poll of the latest outage (polls in a row with an
            anomaly).
        well_us: for how many microseconds the signal was normal before the latest outage.
        notified_us, notified: the time of the last notification, and the anomaly that it reported; None if people were
            not notified yet.
        worse_us: the time of the first poll in which the signal was much worse than in `notified`.
        worse_polls: for how many consecutive polls, up to the last one, the signal has been much worse.
        recurrences: how often people were notified that the anomaly has come back.
    """

    anomaly: Anomaly
    began_us: int
    seen_us: int
    is_present: bool = True
    is_confirmed: bool = False
    well_us: int = 0
    notified_us: int | None = None
    notified: Anomaly | None = None
    worse_us: int = 0
    worse_polls: int = 0
    recurrences: int = 0

    def appear(self, anomaly: Anomaly, at_us: int, *, is_confirmed: bool) -> None:
        if not self.is_present:
            self.began_us, self.well_us, self.is_present = at_us, max(at_us - self.seen_us, 0), True
        self.anomaly, self.seen_us, self.is_confirmed = anomaly, at_us, is_confirmed
        is_worse = self.notified is not None and _is_much_worse(anomaly, self.notified)
        self.worse_polls = self.worse_polls + 1 if is_worse else 0
        if self.worse_polls == 1:
            self.worse_us = at_us

    def note_notified(self, at_us: int, anomaly: Anomaly) -> None:
        if self.notified_us is not None and at_us >= self.began_us > self.notified_us:
            is_forgiven = at_us - self.notified_us > _FORGIVEN_S * _US
            self.recurrences = 1 if is_forgiven else self.recurrences + 1
        self.notified_us, self.notified, self.worse_polls = at_us, anomaly, 0

    def news(self) -> OutageNews | None:
        if not self.is_present:
            return None
        if self.notified_us is None:
            return OutageNews(OutageNewsKind.NEW, self.anomaly, self.began_us)
        if self.began_us > self.notified_us:
            return OutageNews(OutageNewsKind.RECURRED, self.anomaly, self.began_us)
        if self.worse_polls >= _WORSE_POLLS:
            return OutageNews(OutageNewsKind.WORSE, self.anomaly, self.worse_us)
        return None

    def is_at_once(self, kind: OutageNewsKind, at_us: int) -> bool:
        """Return whether people in charge of the incident must be notified of a change of this outage at once.

        People are in charge after a handover, and while they are asked for an approval. The first case that applies
        decides:
        1. The latest anomaly is not confirmed (too few polls show it, or a worker has just restarted): False.
        2. The outage is new or much worse, or people were never notified of it: True.
        3. Otherwise the outage is back after a recovery. True if it had been gone for at least 30 s, and the pause
           after its last notification is over. The pause is 30 s, doubled for each recurrence up to 16 min.

        Args:
            kind: what has changed.
            at_us: the current time, in microseconds since 1970.
        """
        if not self.is_confirmed:
            return False
        if kind is not OutageNewsKind.RECURRED or self.notified_us is None:
            return True
        since_us = at_us - self.notified_us
        # The pause after a notification is 30 s, and doubles with each recurrence.
        backoff_s = 0.0 if since_us > _FORGIVEN_S * _US else _OVERDUE_S * 2 ** min(self.recurrences, _MAX_BACKOFF)
        return self.well_us >= _RECOVERED_S * _US and since_us >= backoff_s * _US


@dataclass(slots=True)
class OutageTracker:
    """Tracks the outages (signals with an anomaly) of the open incident, and decides when to notify people of them.

    Args:
        poll_interval_s: the seconds between two polls of the target. If it is at most 30, people are notified of a
            lasting outage within `MAX_NOTIFICATION_DELAY_S` (60 s).
    """

    poll_interval_s: float
    _signals: dict[str, _Signal] = field(default_factory=dict)
    _last_us: int | None = None

    def begin(self) -> None:
        """Begin to track a new incident: delete all outages of the earlier incident."""
        self._signals.clear()
        self._last_us = None

    def resume(self, seen: Iterable[tuple[Anomaly, int, int]], *, notified_us: int, now_us: int) -> None:
        """Begin to track an incident that is already open, with the anomalies found so far.

        Args:
            seen: `(anomaly, first seen, last seen)`, in microseconds since 1970.
            notified_us: when people were last notified of the incident, in microseconds since 1970.
            now_us: the current time. An anomaly seen within the last minute counts as still present.
        """
        self.begin()
        for anomaly, first_us, last_us in seen:
            if _counts(anomaly):
                signal = _Signal(
                    anomaly, first_us, last_us, is_present=now_us - last_us <= MAX_NOTIFICATION_DELAY_S * _US
                )
                if first_us <= notified_us:
                    signal.notified_us, signal.notified = notified_us, anomaly
                self._signals[anomaly.signal] = signal

    def observe(self, findings: DetectionResult, at_us: int) -> None:
        """Update the outages with `findings`, the anomalies of the poll at `at_us` (microseconds since 1970).

        An outage begins when a signal has an anomaly, and ends when the signal has none. If the target's figures are
        stale, nothing is updated. At most 500 signals are tracked for an incident; further ones are ignored.
        """
        if findings.is_stale:
            # Old figures show neither the beginning nor the end of an outage.
            return
        if self._signals and at_us < max(each.seen_us for each in self._signals.values()):
            # The clock was set back, so stored times must move to stay before the present.
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
            elif len(self._signals) < _MAX_SIGNALS:
                self._signals[name] = _Signal(anomaly, at_us, at_us, is_confirmed=is_confirmed)

    def seen(self, at_us: int) -> OutageView:
        """Return the present anomalies; call this before you notify people of them.

        Pass the result to `note_notified` after the notification. An anomaly that changed in between then still counts
        as news, because people were not notified of the change. `at_us` is the current time in microseconds since
        1970.
        """
        return OutageView(at_us, {name: signal.anomaly for name, signal in self._signals.items() if signal.is_present})

    def note_notified(self, seen: OutageView) -> None:
        """Record that people were notified of the anomalies of `seen`; repeating the call has no effect."""
        for name, anomaly in seen.anomalies.items():
            signal = self._signals.get(name)
            if signal is not None and (signal.notified_us is None or signal.notified_us < seen.at_us):
                signal.note_notified(seen.at_us, anomaly)

    def note_news(self, news: Iterable[OutageNews], at_us: int) -> None:
        """Record that people were notified of `news` at `at_us` (microseconds since 1970).

        For the next 20 s, `due` then returns no news.
        """
        self._last_us = at_us
        self.note_notified(OutageView(at_us, {item.anomaly.signal: item.anomaly for item in news}))

    def is_pressing(self) -> bool:
        """Return whether there is news: a new or changed outage that people were not notified of yet.

        The next poll should then come early, because it may confirm the outage.
        """
        return any(signal.news() is not None for signal in self._signals.values())

    def due(self, at_us: int, *, is_handed_over: bool) -> list[OutageNews]:
        """Return the news (new or changed outages) for a notification of people now, sorted by kind, then by beginning.

        News is overdue 30 s after its beginning. Exception: if the poll interval is more than 5 s, news is overdue
        after a quarter of the interval, but at most 30 s. News is urgent if people in charge of the incident must be
        notified at once.

        The first case that applies decides:
        1. Less than 20 s have passed since the last notification of news: the result is empty.
        2. Nothing is overdue or urgent: the result is empty.
        3. Otherwise: the result has all overdue news, and all other news whose anomaly is confirmed.

        Args:
            at_us: the time of the last poll, in microseconds since 1970.
            is_handed_over: whether people are in charge of the incident, or were asked for an approval. If not, no news
                is urgent.
        """
        if self._last_us is not None and 0 <= at_us - self._last_us < _GAP_S * _US:
            return []
        pending = [(signal, news) for signal in self._signals.values() if (news := signal.news()) is not None]
        is_due = any(
            at_us - news.began_us >= self._overdue_us or (is_handed_over and signal.is_at_once(news.kind, at_us))
            for signal, news in pending
        )
        found = [news for signal, news in pending if signal.is_confirmed or at_us - news.began_us >= self._overdue_us]
        return sorted(found, key=lambda news: (list(OutageNewsKind).index(news.kind), news.began_us)) if is_due else []

    @property
    def _overdue_us(self) -> int:
        if self.poll_interval_s <= _SHORT_POLLS_S:
            return int(_OVERDUE_S * _US)
        # Up to one interval passes between the beginning of an outage and the first poll that shows it; the next comes early.
        return int(min(_OVERDUE_S, self.poll_interval_s / 4) * _US)

    def _move(self, at_us: int) -> None:
        by_us = max(each.seen_us for each in self._signals.values()) - at_us + 1
        for signal in self._signals.values():
            signal.began_us, signal.seen_us = signal.began_us - by_us, signal.seen_us - by_us
            signal.worse_us -= by_us
            if signal.notified_us is not None:
                signal.notified_us -= by_us
        self._last_us = None


def _counts(anomaly: Anomaly) -> bool:
    """Return whether an anomaly is tracked as an outage: it may open an incident, and is not only a warning.

    Anomalies of the burn rate are not tracked, because they last long after the errors have ended.
    """
    return anomaly.opens and anomaly.severity is not Severity.WARNING and anomaly.detector != _LINGERS


def _is_much_worse(now: Anomaly, then: Anomaly) -> bool:
    """Return whether an anomaly is much worse than an earlier anomaly of the same signal.

    A higher severity is always much worse. Otherwise the value decides:

    - share of failed requests: at least 10 percentage points higher, and doubled (or the share of successes halved)
    - duration: at least doubled, and at least 200 ms longer
    - other number: the distance from its bound (the limit of the usual range) has at least doubled, and is at least 1
      in the signal's unit
    """
    if _SEVERITIES.index(now.severity) > _SEVERITIES.index(then.severity):
        return True
    if now.value is None or then.value is None:
        return False
    if now.signal.endswith("errors.pct"):
        is_double = now.value >= _FACTOR * then.value or 100 - now.value <= (100 - then.value) / _FACTOR
        return is_double and now.value >= then.value + _MIN_POINTS
    if now.signal.endswith(("_ms", ".ms")):
        return now.value >= max(_FACTOR * then.value, then.value + _MIN_MS)
    if now.expected is None or then.expected is None:
        return False
    return abs(now.value - now.expected) >= max(_FACTOR * abs(then.value - then.expected), 1.0)
