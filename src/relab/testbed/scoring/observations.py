"""What was seen of an episode, all times in seconds after the responder was ready. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from relab.testbed.scoring.status import Sight

WELL_WITHIN: Final = 0.1
"""How much larger than in healthy times the share of users who are served badly may be: two of twenty requests."""
_BESIDE_ANOTHER_S: Final = 15.0
"""Of the time beside an earlier fault, so much before the onset says how users were served."""


@dataclass(frozen=True, slots=True)
class Second:
    """The requests of the users that were due in about a second.

    Attributes:
        at_s, until_s: when they were due.
        offered: how many.
        refused: answered with a refusal or an error.
        unanswered: cut off, timed out, or not taken.
        slow: answered well, but too late for users.
    """

    at_s: float
    until_s: float
    offered: int
    refused: int = 0
    unanswered: int = 0
    slow: int = 0

    def share(self, *, without_refusals: bool = False) -> float | None:
        """Return the share of users who were served badly; None if nobody came."""
        bad = self.unanswered + self.slow + (0 if without_refusals else self.refused)
        return min(bad / self.offered, 1.0) if self.offered else None


@dataclass(frozen=True, slots=True)
class Look:
    """Whether the measured faults are still there; None if that is not known.

    Attributes:
        there: names of those that are.
    """

    at_s: float
    is_there: bool | None
    there: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """An action that was done, from the action server's records.

    Attributes:
        status: as its record has it.
        is_undo: whether it takes an earlier one back.
    """

    at_s: float
    action: str
    status: str
    actor: str = ""
    is_undo: bool = False


@dataclass(slots=True)
class Observed:
    """All of it. What is appended to from several threads is a list, and only ever grows.

    Attributes:
        onset_s: when the first measured fault was brought about; None as long as there is none.
        trouble_s: when the first fault of all was; the same, but where another one is given to a person before.
        notices: when the responder notified people; None if it was given no address for that.
        ended_s: when the episode ended.
        poll_s: how often the responder was told to look.
        keeps_home: whether the responder found what it had kept of earlier episodes.
        is_blinded: whether the responder saw no process and no folder of the testbed.
        notes: what a reader must know before believing the figures.
    """

    onset_s: float | None = None
    trouble_s: float | None = None
    ended_s: float = 0.0
    poll_s: float = 1.0
    keeps_home: bool = False
    is_blinded: bool = False
    seconds: list[Second] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    notices: list[float] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def follows_another(self) -> bool:
        """Whether another fault was there already when the measured one began."""
        return self.onset_s is not None and self.trouble_s is not None and self.trouble_s < self.onset_s

    @property
    def usual_from_s(self) -> float:
        """Since when users were served as they were right before the onset: from the first, or beside an earlier fault."""
        if not self.follows_another or self.onset_s is None or self.trouble_s is None:
            return 0.0
        return max(self.trouble_s, self.onset_s - _BESIDE_ANOTHER_S)

    def compared_seconds(self) -> list[Second]:
        """Return the seconds after the onset with those before it that they are compared with."""
        return [item for item in self.seconds if item.at_s >= self.usual_from_s]

    def to_json(self) -> dict[str, Any]:
        """Return all that was seen, for people who want to know why a score is as it is."""
        return asdict(self)


def usual_share(seconds: Iterable[Second], until_s: float, *, without_refusals: bool = False) -> float:
    """Return the share of users who were served badly in the middle one of the seconds before a time; 0 if nobody came.

    The middle one: whoever does harm before the onset must not be measured by it afterwards.
    """
    early = [item.share(without_refusals=without_refusals) for item in seconds if item.until_s <= until_s]
    shares = [share for share in early if share is not None]
    return statistics.median(shares) if shares else 0.0


def well_since(
    seconds: Sequence[Second], looks: Sequence[Look], onset_s: float, *, forgives_refusals: bool = False
) -> tuple[float, float] | None:
    """Return since when users are well and the cause is gone, and until when that is known; None if it is not so.

    Both go on until the end of what was seen: a good moment between two bad ones is none.
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
