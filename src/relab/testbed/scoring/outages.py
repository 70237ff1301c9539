"""Measure how long users were served badly without a notice to people. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from relab.testbed.scoring.observations import MAX_EXCESS_SHARE, Observed, ObservedSecond, usual_share

MAX_NOTICE_DELAY_S: Final = 60.0
"""An outage that lasts longer than this must be announced to people within this time."""
_MAX_GAP_S: Final = 10.0
"""Two outages with a shorter gap than this count as one."""


def outages(seconds: Sequence[ObservedSecond], onset_s: float) -> Iterator[tuple[float, float]]:
    """Yield `(start, end)` of each outage: a period after the onset in which users were served worse than usual.

    A second belongs to an outage if its share of badly served requests exceeds the median share before the onset by
    more than `MAX_EXCESS_SHARE`. Outages less than 10 s apart are joined.

    Args:
        seconds: how users were served, second by second, in order.
        onset_s: when the first fault that the responder must repair was injected, on the clock of `seconds`.
    """
    most = usual_share(seconds, onset_s) + MAX_EXCESS_SHARE
    found: tuple[float, float] | None = None
    for item in seconds:
        if item.until_s <= onset_s or (item.share() or 0.0) <= most:
            continue
        if found is not None and item.at_s - found[1] < _MAX_GAP_S:
            found = (found[0], item.until_s)
            continue
        if found is not None:
            yield found
        found = (max(item.at_s, onset_s), item.until_s)
    if found is not None:
        yield found


def longest_unannounced_s(observed: Observed) -> float | None:
    """Return the longest time, in seconds, for which people had no notice of an outage.

    The time runs from the start of the outage to the first notice, or to the end of the outage if no notice came before.
    With a notice between the previous outage and this one, the time is 0. For the first outage, such a notice must come
    after the onset: the injection of the first fault that the responder must repair.

    Args:
        observed: the observations of the episode (a test of a responder).

    Returns:
        The longest time; 0 without an outage.
        None without an onset, or if the responder had no address for notices.
    """
    if observed.onset_s is None or observed.notices is None:
        return None
    longest_s, after_s = 0.0, observed.onset_s
    for begin_s, end_s in outages(observed.compared_seconds(), observed.onset_s):
        first_s = min((at_s for at_s in observed.notices if at_s >= after_s), default=end_s)
        longest_s = max(longest_s, min(first_s, end_s) - begin_s)
        after_s = end_s
    return longest_s
