"""Find which kind of signals (traffic, latency or errors) rose above its usual range first. Pure.

This kind is nearer to the cause than the kinds that rose later. Only metrics that the target reports over the same
window are compared. Instantaneous values, such as the use of a pool or the state of a worker, are left out: they show a
change at once, and would therefore always seem to be first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from relab.incidents.detection.baseline import SignalBaseline
from relab.incidents.models import Snapshot

ONSET: Final = "onset.first"
"""The name of the fact with the kind of signals that deviated first.

The fact is absent if fewer than two kinds deviate, or if it is not known which of them deviated first.
"""
MAX_POLLS: Final = 300
_DEVIATIONS: Final = 4.0
_MAX_GAP: Final = 3
"""How many normal polls in a row a deviation may contain: a signal that wavers has not begun to deviate again."""
_BOUNDS: Final[Mapping[str, tuple[str, float, float]]] = {
    "traffic": ("traffic.rps", 0.0, 1.3),
    "latency": ("latency.p95_ms", 50.0, 2.0),
    "errors": ("errors.pct", 1.0, 1.0),
}
"""By kind of signals: the signal, and its least deviation above the baseline median as a difference and as a factor."""


def first_to_leave(polls: Sequence[Snapshot], usual: Callable[[str], SignalBaseline | None]) -> str | None:
    """Return the kind of signals that rose above its baseline first: `traffic`, `latency` or `errors`.

    Return None if fewer than two kinds are above their baselines in the last poll, if the first two rose in the same
    poll, or if the first rose before the polls begin.

    Args:
        polls: the polls, oldest first; only the last `MAX_POLLS` are used.
        usual: returns the baseline of a signal by its name; None if the baseline is unknown.
    """
    kinds = [_unusual(poll, usual) for poll in polls[-MAX_POLLS:]]
    begins = {kind: _begin(kind, kinds) for kind in (kinds[-1] if kinds else ())}
    first, *others = sorted(begins, key=lambda kind: begins[kind]) or [""]
    # A deviation that is in the first poll began at an unknown time.
    is_known = others and 0 < begins[first] < begins[others[0]]
    return first if is_known else None


def _begin(kind: str, kinds: Sequence[frozenset[str]]) -> int:
    """Return the index of the poll in which the current deviation of a kind of signals began.

    Gaps of up to three polls without a deviation are ignored.

    Args:
        kind: the kind of signals, such as `latency`; it deviates in the last poll.
        kinds: for each poll, oldest first, the kinds of signals that deviate from the baseline.
    """
    begin = len(kinds) - 1
    for place in range(len(kinds) - 1, -1, -1):
        if kind in kinds[place]:
            begin = place
        elif begin - place > _MAX_GAP:
            break
    return begin


def _unusual(poll: Snapshot, usual: Callable[[str], SignalBaseline | None]) -> frozenset[str]:
    """Return which of the kinds of signals `traffic`, `latency` and `errors` are above their usual range in a poll.

    `usual` returns the baseline of a signal by its name; None if the baseline is unknown.
    """
    found = set()
    for kind, (signal, least, factor) in _BOUNDS.items():
        value, known = poll.numbers.get(signal), usual(signal)
        if value is not None and known is not None and value > known.upper_bound(_DEVIATIONS, least, factor):
            found.add(kind)
    return frozenset(found)
