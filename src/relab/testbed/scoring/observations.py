"""Store the observations of an episode (a test of a responder), and compute from them how well users were served.

All times are in seconds after the responder was ready. All functions are pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from relab.testbed.scoring.status import Sight

MAX_EXCESS_SHARE: Final = 0.1
"""Users count as served well while the share of badly served requests exceeds the baseline share by at most this. At 20
requests per second, this is two requests."""
_BESIDE_ANOTHER_S: Final = 15.0
"""If an earlier fault is present, the baseline of how users were served covers at most this time before the onset."""


@dataclass(frozen=True, slots=True)
class ObservedSecond:
    """Counts of the users' requests in one interval of about a second: all requests, and those that were served badly.

    Attributes:
        at_s, until_s: start and end of the interval in which the requests were due.
        offered: number of all requests.
        refused: number of requests with an error status as answer.
        unanswered: number of requests that were cut off, timed out, or not sent because too many were in flight.
        slow: number of requests that were answered well, but too late for users.
    """

    at_s: float
    until_s: float
    offered: int
    refused: int = 0
    unanswered: int = 0
    slow: int = 0

    def share(self, *, without_refusals: bool = False) -> float | None:
        """Return the share, 0 to 1, of this second's requests that were served badly; None without requests.

        Args:
            without_refusals: if true, refused requests (answered with an error status) are not counted as served badly.
        """
        bad = self.unanswered + self.slow + (0 if without_refusals else self.refused)
        return min(bad / self.offered, 1.0) if self.offered else None


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one check for measured faults (the faults that the responder must repair).

    Attributes:
        at_s: time of the check, in seconds after the responder was ready.
        is_there: whether at least one measured fault is present; None if unknown.
        there: names of the measured faults that are present or may be present.
    """

    at_s: float
    is_there: bool | None
    there: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """An action that was requested from the action server.

    Attributes:
        at_s: time of the request, in seconds after the responder was ready.
        action: name of the action.
        status: status of the action in the server's record, such as `succeeded`.
        actor: name of the requester's token.
        is_undo: whether the action undoes an earlier one.
    """

    at_s: float
    action: str
    status: str
    actor: str = ""
    is_undo: bool = False


@dataclass(slots=True)
class Observed:
    """All observations of an episode (a test of a responder). Several threads append to its lists.

    Times are in seconds after the responder was ready. Measured faults are the faults that the responder must repair.

    Attributes:
        onset_s: when the first measured fault was injected (the onset); None if not yet.
        trouble_s: when the first fault, measured or not, was injected; None if not yet.
        ended_s: when the episode ended.
        poll_s: the responder's poll interval, in seconds.
        keeps_home: whether the responder's home was kept from earlier episodes.
        is_blinded: whether the testbed's processes and folders were hidden from the responder.
        seconds: how users were served, second by second.
        sights: the responder's status at each poll.
        looks: the results of the repeated checks for measured faults. The checks begin at the onset.
        acts: the requested actions, oldest first.
        notices: when the responder notified people; None if the responder had no address for notices.
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
    def first_fault_s(self) -> float | None:
        """When the first fault was injected, in seconds after the responder was ready; None without a fault.

        The first fault may be one that the responder need not repair.
        """
        return self.onset_s if self.trouble_s is None else self.trouble_s

    @property
    def follows_another(self) -> bool:
        """Whether the first measured fault was injected after an unmeasured fault.

        Measured faults are the faults that the responder must repair.
        """
        return self.onset_s is not None and self.trouble_s is not None and self.trouble_s < self.onset_s

    @property
    def usual_from_s(self) -> float:
        """Start of the baseline period, in seconds after the responder was ready.

        The period ends at the onset: the injection of the first measured fault (a fault that the responder must
        repair). Usually the period starts at 0. If an unmeasured fault was injected before the onset, the period starts
        at that injection, but not earlier than 15 s before the onset.
        """
        if not self.follows_another or self.onset_s is None or self.trouble_s is None:
            return 0.0
        return max(self.trouble_s, self.onset_s - _BESIDE_ANOTHER_S)

    def compared_seconds(self) -> list[ObservedSecond]:
        """Return the entries of `seconds` that count for the score; leave out those before the baseline period.

        The baseline period is the time that shows how users are served without a measured fault. It ends when the first
        fault that the responder must repair is injected.
        """
        return [item for item in self.seconds if item.at_s >= self.usual_from_s]

    def to_json(self) -> dict[str, Any]:
        """Return all observations as JSON, with the attributes as keys."""
        return asdict(self)


def usual_share(seconds: Iterable[ObservedSecond], until_s: float, *, without_refusals: bool = False) -> float:
    """Return the baseline of an episode (a test of a responder): the usual share, 0 to 1, of badly served requests.

    Each second before `until_s` has such a share; the baseline is their median. Seconds without requests are ignored.
    The baseline is 0 if no request was due before `until_s`.

    Args:
        seconds: how users were served, second by second.
        until_s: end of the baseline period, in seconds after the responder was ready; later entries of `seconds` are
            ignored.
        without_refusals: whether refused requests (answered with an error status) count as served well.
    """
    early = [item.share(without_refusals=without_refusals) for item in seconds if item.until_s <= until_s]
    shares = [share for share in early if share is not None]
    # With a mean, a responder could raise its baseline by harm for a short time before the onset.
    return statistics.median(shares) if shares else 0.0


def well_since(
    seconds: Sequence[ObservedSecond], looks: Sequence[Look], onset_s: float, *, forgives_refusals: bool = False
) -> tuple[float, float] | None:
    """Return the start and end of the final period in which users are served well and no measured fault is present.

    Measured faults are the faults that the responder must repair. All times are in seconds after the responder was
    ready.

    Args:
        seconds: how users were served, second by second; the seconds before the onset are the baseline.
        looks: the results of the checks for measured faults; an unknown result counts as present.
        onset_s: when the first measured fault was injected.
        forgives_refusals: whether refused requests (answered with an error status) count as served well.

    Returns:
        `(start, end)`: the period starts when the last problem was observed, and ends with the last observation.
        None if a problem continues at the end, or if nothing was observed after the onset.
    """
    after = [item for item in looks if item.at_s > onset_s]
    if not after or not seconds or after[-1].is_there is not False:
        return None
    most = usual_share(seconds, onset_s, without_refusals=forgives_refusals) + MAX_EXCESS_SHARE
    unwell = [
        item.until_s
        for item in seconds
        if item.until_s > onset_s and (item.share(without_refusals=forgives_refusals) or 0.0) > most
    ]
    there = [item.at_s for item in after if item.is_there is not False]
    since = max([onset_s, *unwell, *there])
    until = min(seconds[-1].until_s, after[-1].at_s)
    return (since, until) if until > since else None
