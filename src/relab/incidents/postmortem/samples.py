"""Analyse samples of signals: find gaps, and compare values before and after an action. Pure."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from relab.incidents.postmortem.models import USERS_NOTICE, SampleGap, SignalChange, Signals

AFTER_S: Final = 300.0
"""How long after an action samples are used to show its effect, in seconds."""
_MAX_GAP: Final = 3.0
"""A time without a sample is a gap if it is longer than this number of usual poll intervals."""
_NEIGHBOURS: Final = 5
_REGULAR: Final = 0.7
"""The quantile of the intervals that is the usual interval. The median would be too short: every second poll may be early."""
_MIN_SAMPLES: Final = 3
"""How many samples the median before or after an action is taken over."""
_MIN_CHANGE: Final = 1.0
_MIN_SHARE: Final = 0.1
_US: Final = 1_000_000


def gaps(signals: Signals, name: str) -> tuple[SampleGap, ...]:
    """Return the gaps of the signal `name` between its first and its last sample, in order.

    A gap is one of these periods:
    - a period in which the polls have no value of the signal;
    - a period without polls that is over three times as long as the usual interval of the polls around it.
    """
    values = signals.numbers.get(name, ())
    known = [number for number, value in enumerate(values) if value is not None]
    times = signals.times_us
    return tuple(
        SampleGap(times[one], times[other])
        for one, other in pairwise(known)
        if other - one > 1 or times[other] - times[one] > _max_interval(times, one)
    )


def changes(signals: Signals, began_us: int, ended_us: int, until_us: int | None = None) -> list[SignalChange]:
    """Return how signals changed around an action.

    The result has errors and latency even if they did not change, and each other signal that changed. A signal is
    left out if it has neither a value before the action nor a value after it.

    Args:
        signals: the signals of the incident.
        began_us: when the action was requested, in microseconds since 1970.
        ended_us: when the action was finished, in microseconds since 1970.
        until_us: the start of the next action, or the end of the incident; later samples are not used. None if neither
            has happened.
    """
    last_us = ended_us + int(AFTER_S * _US)
    last_us = last_us if until_us is None else min(last_us, until_us)
    names = [*(name for name in USERS_NOTICE if name in signals.numbers), *signals.numbers]
    found = [_change(signals, name, began_us, ended_us, last_us) for name in dict.fromkeys(names)]
    return [each for each in found if each is not None and (each.has_moved or each.signal in USERS_NOTICE)]


def in_words(signal_changes: Sequence[SignalChange]) -> str:
    """Return changes of signals as text; empty if there are none."""
    return "; ".join(_words(change) for change in signal_changes)


def _words(change: SignalChange) -> str:
    if change.before is None or change.after is None:
        missing = "before" if change.before is None else "after"
        known = change.after if change.before is None else change.before
        other = "" if known is None else f", {known:.4g} {'after' if change.before is None else 'before'} it"
        return f"{change.signal}: no samples {missing} it{other}"
    if not change.has_moved:
        return f"{change.signal} stayed at {change.after:.4g}"
    verb = "fell" if change.after < change.before else "rose"
    within = "" if change.within_s is None else f" within {change.within_s:.0f} s"
    return f"{change.signal} {verb} from {change.before:.4g} to {change.after:.4g}{within}"


def _change(signals: Signals, name: str, began_us: int, ended_us: int, last_us: int) -> SignalChange | None:
    points = signals.points(name)
    if not points:
        return None
    earlier = [point for point in points if point[0] <= began_us]
    # A last value that is too old is not the value before the action.
    is_hidden = bool(earlier) and began_us - earlier[-1][0] > _max_interval(
        signals.times_us, bisect.bisect_left(signals.times_us, earlier[-1][0])
    )
    later = [(at_us, value) for at_us, value in points if ended_us < at_us <= last_us]
    before = None if is_hidden or not earlier else statistics.median(value for _, value in earlier[-_MIN_SAMPLES:])
    after = statistics.median(value for _, value in later[-_MIN_SAMPLES:]) if len(later) >= _MIN_SAMPLES else None
    if before is None and after is None:
        return None
    moved = before is not None and after is not None and _has_moved(before, after)
    within_s = _settled_s(later, before or 0.0, after or 0.0, began_us) if moved else None
    return SignalChange(name, before, after, within_s, moved)


def _has_moved(before: float, after: float) -> bool:
    return abs(after - before) > max(_MIN_CHANGE, _MIN_SHARE * max(abs(before), abs(after)))


def _settled_s(later: Sequence[tuple[int, float]], before: float, after: float, began_us: int) -> float | None:
    """Return the seconds from the start of an action until a signal stayed nearer to `after` than to `before`.

    Return None if the last sample is nearer to `before`.

    Args:
        later: the samples after the action, as `(time in microseconds since 1970, value)`.
        before: the value before the action.
        after: the value after the action.
        began_us: the start of the action, in microseconds since 1970.
    """
    middle = (before + after) / 2
    since_us = None
    for at_us, value in reversed(later):
        if (value < middle) is not (after < middle):
            break
        since_us = at_us
    return None if since_us is None else (since_us - began_us) / _US


def _max_interval(times: Sequence[int], place: int) -> float:
    """Return the maximum time from the poll `times[place]` to the next poll; a longer time counts as a gap.

    The result is `_MAX_GAP` times the usual interval between polls near this one, in the unit of `times`. The usual
    interval is the quantile `_REGULAR` of up to `_NEIGHBOURS` intervals on each side. The result is infinity if there
    are no such intervals.
    """
    # Only polls around it, because the polls of a long incident are thinned out, so their intervals differ.
    around = sorted(_intervals(times, place))
    return _MAX_GAP * around[int(_REGULAR * len(around))] if around else float("inf")


def _intervals(times: Sequence[int], place: int) -> Iterator[int]:
    first, last = max(place - _NEIGHBOURS, 0), min(place + _NEIGHBOURS + 1, len(times) - 1)
    for number in range(first, last):
        if number != place:
            yield times[number + 1] - times[number]
