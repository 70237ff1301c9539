"""Observations of an episode; all times are in seconds after the responder was ready. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from relab.testbed.scoring.status import Sight

WELL_WITHIN: Final = 0.1
"""How much the share of badly served users may exceed that of healthy times: two of twenty requests."""
_BESIDE_ANOTHER_S: Final = 15.0
"""If an earlier fault is present, only this much time before the onset is the baseline of how users were served."""


@dataclass(frozen=True, slots=True)
class ObservedSecond:
    """The users' requests that were due in about one second.

    Attributes:
        at_s, until_s: the interval in which they were due.
        offered: number of requests.
        refused: number answered with a refusal or an error.
        unanswered: number that were cut off, timed out, or not accepted.
        slow: number answered well, but too late for users.
    """

    at_s: float
    until_s: float
    offered: int
    refused: int = 0
    unanswered: int = 0
    slow: int = 0

    def share(self, *, without_refusals: bool = False) -> float | None:
        """Return the share of users who were served badly; None if there were no requests."""
        bad = self.unanswered + self.slow + (0 if without_refusals else self.refused)
        return min(bad / self.offered, 1.0) if self.offered else None


@dataclass(frozen=True, slots=True)
class Look:
    """A check whether the measured faults are present; `is_there` is None if that is unknown.

    Attributes:
        there: names of the faults that are, or may be, present.
    """

    at_s: float
    is_there: bool | None
    there: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """An action, from the action server's records.

    Attributes:
        status: as in its record.
        is_undo: whether it undoes an earlier action.
    """

    at_s: float
    action: str
    status: str
    actor: str = ""
    is_undo: bool = False


@dataclass(slots=True)
class Observed:
    """All observations of an episode. Lists are appended to from several threads, and only grow.

    Attributes:
        onset_s: when the first measured fault was injected; None before that.
        trouble_s: when the first fault was injected; earlier than `onset_s` only if an unmeasured fault comes first.
        notices: when the responder notified people; None if it was given no address for notices.
        ended_s: when the episode ended.
        poll_s: the poll interval that the responder was given.
        keeps_home: whether the responder's home was kept from earlier episodes.
        is_blinded: whether the processes and folders of the testbed were hidden from the responder.
        notes: facts that a reader must know before trusting the metrics.
    """

    onset_s: float | None = None
    trouble_s: float | None = None
    ended_s: float = 0.0
    poll_s: float = 1.0
    keeps_home: bool = False
    is_blinded: bool = False
    seconds: list[ObservedSecond] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    notices: list[float] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def follows_another(self) -> bool:
        """Whether another fault was already present when the measured one began."""
        return self.onset_s is not None and self.trouble_s is not None and self.trouble_s < self.onset_s

    @property
    def usual_from_s(self) -> float:
        """Start of the baseline period: 0, or after the earlier fault and at most 15 s before the onset."""
        if not self.follows_another or self.onset_s is None or self.trouble_s is None:
            return 0.0
        return max(self.trouble_s, self.onset_s - _BESIDE_ANOTHER_S)

    def compared_seconds(self) -> list[ObservedSecond]:
        """Return the seconds after the onset and those of the baseline period before it."""
        return [item for item in self.seconds if item.at_s >= self.usual_from_s]

    def to_json(self) -> dict[str, Any]:
        """Return all observations as JSON, so that people can explain a score."""
        return asdict(self)


def usual_share(seconds: Iterable[ObservedSecond], until_s: float, *, without_refusals: bool = False) -> float:
    """Return the median share of badly served users in the seconds before `until_s`; 0 if there were no requests.

    The median, so that a responder that does harm before the onset does not thereby raise its own baseline.
    """
    early = [item.share(without_refusals=without_refusals) for item in seconds if item.until_s <= until_s]
    shares = [share for share in early if share is not None]
    return statistics.median(shares) if shares else 0.0


def well_since(
    seconds: Sequence[ObservedSecond], looks: Sequence[Look], onset_s: float, *, forgives_refusals: bool = False
) -> tuple[float, float] | None:
    """Return since when users are served well and the cause is absent, and until when that is known; None if not.

    Both conditions must hold until the end of the observations: a good moment between two bad ones does not count.
    """
    after = [item for item in looks if item.at_s > onset_s]
    if not after or not seconds or after[-1].is_there is not False:
        return None
    most = usual_share(seconds, onset_s, without_refusals=forgives_refusals) + WELL_WITHIN
    unwell = [
        item.until_s
        for item in seconds
        if item.until_s > onset_s and (item.share(without_refusals=forgives_refusals) or 0.0) > most
    ]
    there = [item.at_s for item in after if item.is_there is not False]
    since = max([onset_s, *unwell, *there])
    until = min(seconds[-1].until_s, after[-1].at_s)
    return (since, until) if until > since else None
