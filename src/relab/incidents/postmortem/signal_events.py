"""Convert the signals (measured values) of polls to timeline events of bounded size, and back. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from relab.core.clock import check_time
from relab.incidents.models import Snapshot
from relab.incidents.postmortem.models import Signals
from relab.incidents.storage.models import NewEvent, TimelineEvent

KIND: Final = "signals"
BEFORE_S: Final = 300.0
"""How long before the opening of an incident its stored signals begin, in seconds."""
ALWAYS: Final = ("errors.pct", "latency.p95_ms", "traffic.rps", "pool.used_pct")
MAX_SIGNALS: Final = 8
MAX_POINTS: Final = 300
MAX_SHOWN: Final = 600
"""The maximum number of points of a signal in a chart; a timeline may have more, in several parts."""
_US: Final = 1_000_000
_MAX_VALUE: Final = 1e15


def signals_event(
    polls: Sequence[Snapshot], opened_us: int, wanted: Iterable[str], *, once: str, most: int = MAX_POINTS
) -> NewEvent:
    """Return a timeline event that stores the signals (measured values) of an incident's polls.

    Args:
        polls: the polls in memory, in order.
        opened_us: when the incident was opened, in microseconds since 1970. Polls over `BEFORE_S` seconds earlier are
            ignored.
        wanted: the names of the signals in the incident's findings.
        once: the key of the event; a timeline stores only one event with this key.
        most: the maximum number of points of each signal.
    """
    since_us = opened_us - int(BEFORE_S * _US)
    found = signals_of([poll for poll in polls if poll.at_us >= since_us], wanted, most)
    return NewEvent(KIND, f"The values of {len(found.times_us)} polls are stored.", dump_signals(found), once=once)


def signals_of(polls: Sequence[Snapshot], wanted: Iterable[str] = (), most: int = MAX_POINTS) -> Signals:
    """Return the signals (measured values) of polls of the target, downsampled to at most `most` points per signal.

    The result has the signals that are stored for every incident (`ALWAYS`) and those in `wanted`, together at most
    `MAX_SIGNALS`. Each point stands for a group of consecutive polls, and has the group's value that is furthest from
    the median of the signal.
    """
    names_seen = {name for poll in polls for name in poll.numbers}
    names = [name for name in dict.fromkeys((*ALWAYS, *wanted)) if name in names_seen][:MAX_SIGNALS]
    size = max(math.ceil(len(polls) / most), 1)
    groups = [polls[start : start + size] for start in range(0, len(polls), size)]
    middle = {name: statistics.median(poll.numbers[name] for poll in polls if name in poll.numbers) for name in names}
    return Signals(
        times_us=tuple(group[-1].at_us for group in groups),
        numbers={name: tuple(_furthest(group, name, middle[name]) for group in groups) for name in names},
    )


def dump_signals(signals: Signals) -> dict[str, Any]:
    """Return signals as JSON values, for storage.

    The result has three keys:
    - `began_us`: the time of the first sample, in microseconds since 1970;
    - `after_ms`: the time of each sample, in milliseconds after `began_us`;
    - `numbers`: the values of each signal, by signal.
    """
    # Whole milliseconds: a poll in two events, after different first polls, then has the same time in both.
    began_ms = signals.times_us[0] // 1_000 if signals.times_us else 0
    return {
        "began_us": began_ms * 1_000,
        "after_ms": [at_us // 1_000 - began_ms for at_us in signals.times_us],
        "numbers": {name: [_short(value) for value in values] for name, values in signals.numbers.items()},
    }


def load_signals(document: Mapping[str, Any]) -> Signals:
    """Convert the JSON that `dump_signals` returned back to signals; invalid parts are left out."""
    began_us, after = document.get("began_us"), document.get("after_ms")
    numbers = document.get("numbers")
    if not _is_whole(began_us) or not isinstance(after, list) or not isinstance(numbers, Mapping):
        return Signals()
    rows = [(began_us + 1_000 * ms if _is_whole(ms) else None) for ms in after]
    kept = [number for number, at_us in enumerate(rows) if at_us is not None and _is_time(at_us)]
    found = {
        str(name): tuple(_number(values[number]) if number < len(values) else None for number in kept)
        for name, values in list(numbers.items())[:MAX_SIGNALS]
        if isinstance(values, list)
    }
    return Signals(tuple(at_us for number in kept if (at_us := rows[number]) is not None), found)


def recorded(events: Iterable[TimelineEvent]) -> Signals:
    """Return the signals (measured values) that a timeline stores, merged from all its events of the kind `signals`.

    The result has at most twice `MAX_SIGNALS` signals. If several events have values of the same poll, the result has
    each value once.
    """
    by_time: dict[int, dict[str, float]] = {}
    for event in events:
        if event.kind != KIND:
            continue
        found = load_signals(event.content)
        for at_us in found.times_us:
            # Keep a poll without values: it marks a gap.
            by_time.setdefault(at_us, {})
        for name in found.numbers:
            for at_us, value in found.points(name):
                by_time.setdefault(at_us, {})[name] = value
    times = sorted(by_time)
    # The keys of JSON have no order: put the signals of `ALWAYS` first.
    names_seen = dict.fromkeys(name for at_us in times for name in by_time[at_us])
    names = [*(name for name in ALWAYS if name in names_seen), *(name for name in names_seen if name not in ALWAYS)][
        : 2 * MAX_SIGNALS
    ]
    return Signals(tuple(times), {name: tuple(by_time[at_us].get(name) for at_us in times) for name in names})


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points `(time, value)` of a signal, downsampled to at most `MAX_SHOWN`.

    Each group of consecutive points is replaced by its point furthest from the median of all points.
    """
    size = max(math.ceil(len(points) / MAX_SHOWN), 1)
    if size == 1:
        return list(points)
    middle = statistics.median(value for _, value in points)
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [max(group, key=lambda point: abs(point[1] - middle)) for group in groups]


def _furthest(group: Sequence[Snapshot], name: str, middle: float) -> float | None:
    values = [poll.numbers[name] for poll in group if name in poll.numbers]
    return max(values, key=lambda value: abs(value - middle), default=None)


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_VALUE <= value <= _MAX_VALUE:
        return None
    return float(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MAX_VALUE <= value <= 10 * _MAX_VALUE


def _is_time(at_us: int) -> bool:
    try:
        check_time(at_us)
    except ValueError:
        return False
    return True
