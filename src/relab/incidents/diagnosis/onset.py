"""The order in which signals have left what is usual: what was first is nearer to the cause than what came of it. Pure.

Only figures that the target tells over one and the same window are put in order. What is told as it is at the moment, such as
the use of a pool or the state of a worker, is seen sooner than they are, whatever was first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from relab.incidents.detection.baseline import Usual
from relab.incidents.models import Snapshot

ONSET: Final = "onset.first"
"""The fact: which kind of signals has left what is usual before all others. Absent where several did in one poll, or only one."""
MOST_POLLS: Final = 300
_DEVIATIONS: Final = 4.0
_MOST_GAP: Final = 3
"""Polls in between that show nothing: what wavers has not begun anew."""
_BOUNDS: Final[Mapping[str, tuple[str, float, float]]] = {
    "traffic": ("traffic.rps", 0.0, 1.3),
    "latency": ("latency.p95_ms", 50.0, 2.0),
    "errors": ("errors.pct", 1.0, 1.0),
}
"""By kind the signal, and by how much and how many times the usual it is beyond it at least."""


def first_to_leave(polls: Sequence[Snapshot], usual: Callable[[str], Usual | None]) -> str | None:
    """Return which kind of signals has left what is usual first; None where that cannot be told.

    Args:
        polls: in the order in which they were made, the newest last.
        usual: of a signal, what was learnt while all was well.
    """
    kinds = [_unusual(poll, usual) for poll in polls[-MOST_POLLS:]]
    begins = {kind: _begin(kind, kinds) for kind in (kinds[-1] if kinds else ())}
    first, *others = sorted(begins, key=lambda kind: begins[kind]) or [""]
    # Of what was there with the first poll nobody has seen the begin.
    is_told = others and 0 < begins[first] < begins[others[0]]
    return first if is_told else None


def _begin(kind: str, kinds: Sequence[frozenset[str]]) -> int:
    """Return in which poll began what is there in the last one."""
    begin = len(kinds) - 1
    for place in range(len(kinds) - 1, -1, -1):
        if kind in kinds[place]:
            begin = place
        elif begin - place > _MOST_GAP:
            break
    return begin


def _unusual(poll: Snapshot, usual: Callable[[str], Usual | None]) -> frozenset[str]:
    """Return the kinds of signals that are not as usual in a poll."""
    found = set()
    for kind, (signal, least, factor) in _BOUNDS.items():
        value, known = poll.numbers.get(signal), usual(signal)
        if value is None or known is None:
            continue
        if value > max(known.median + _DEVIATIONS * known.deviation, known.median * factor, known.median + least):
            found.add(kind)
    return frozenset(found)
