"""From what was seen of an episode to its figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relab.testbed.scoring.observations import Act, Observed, usual_share, well_since
from relab.testbed.scoring.status import Sight
from relab.testbed.scoring.truth import Effect, Truth, was_done

SUSTAINED_S: Final = 6.0
"""How long users must be well, and the cause gone, for a repair to be one."""
_COMES_BACK_S: Final = 10.0
"""So soon after what has mended it was taken back a cause is seen again, if it was needed still."""
Metric = float | int | bool


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one episode. None where a figure has no meaning in it.

    Attributes:
        detected: whether an incident was opened after the onset.
        time_to_detect_s: from the onset.
        false_alarms: incidents that were opened while nothing was wrong.
        healthy_polls: how often the responder looked while nothing was wrong.
        rank: the place, from 1, of a true cause in the last diagnosis it gave; None if it is not there.
        mitigated: users well and the cause gone, until the end, for as long as it takes to believe it.
        time_to_mitigate_s: from the onset.
        closed: whether it has ended its incident after that by itself.
        harm_user_error_s: seconds for which a user would have been served badly, beyond the share of healthy times.
        actions, harmful_actions: that were done, what only takes one back not counted; the second kind while nothing was
            wrong, or against what was, or taking back what mends while that is needed.
        escalated: whether it asked for a person.
        tokens: of models, if it counts them.
    """

    is_healthy: bool
    detected: bool | None
    time_to_detect_s: float | None
    false_alarms: int
    healthy_polls: int
    rank: int | None
    mitigated: bool | None
    time_to_mitigate_s: float | None
    closed: bool | None
    harm_user_error_s: float
    actions: int
    harmful_actions: int
    escalated: bool
    cost_usd: float
    tokens: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the episode ended as its users would have it: repaired, or left alone where nothing was wrong."""
        return self.mitigated is True if not self.is_healthy else not self.false_alarms and not self.actions

    def metrics(self, poll_s: float) -> dict[str, Metric]:
        """Return the figures for the tables; what has no meaning in this episode is left out.

        Args:
            poll_s: the time between two looks of the responder.
        """
        found: dict[str, Metric] = {
            "false_alarms": self.false_alarms,
            "healthy_polls": self.healthy_polls,
            "harm_user_error_s": round(self.harm_user_error_s, 3),
            "actions": self.actions,
            "harmful_actions": self.harmful_actions,
            "cost_usd": self.cost_usd,
        }
        if self.tokens is not None:
            found["tokens"] = self.tokens
        if not self.is_healthy:
            found |= dict(self._of_a_fault(poll_s))
        return found

    def _of_a_fault(self, poll_s: float) -> Iterator[tuple[str, Metric]]:
        at_1 = self.rank == 1
        yield "detected", bool(self.detected)
        yield "diagnosis_at_1", at_1
        yield "diagnosis_at_3", self.rank is not None and self.rank <= 3
        yield "mitigated", bool(self.mitigated)
        yield "escalated", self.escalated
        yield "escalated_harmless", self.escalated and not self.harmful_actions
        yield "settled_harmless", (self.escalated or bool(self.mitigated)) and not self.harmful_actions
        if self.rank is not None:
            yield "diagnosis_rank", self.rank
        if self.detected and not at_1:
            yield "mitigated_though_wrong", bool(self.mitigated)
        if self.closed is not None:
            yield "mitigated_and_closed", self.closed
        if self.time_to_detect_s is not None:
            yield "time_to_detect_s", round(self.time_to_detect_s, 3)
            yield "time_to_detect_polls", round(self.time_to_detect_s / poll_s, 3)
        if self.time_to_mitigate_s is not None:
            yield "time_to_mitigate_s", round(self.time_to_mitigate_s, 3)
            if self.time_to_detect_s is not None:
                yield "detection_to_mitigation_s", round(max(self.time_to_mitigate_s - self.time_to_detect_s, 0.0), 3)


def score(observed: Observed, truth: Truth, *, sustained_s: float = SUSTAINED_S) -> Score:
    """Return the figures of an episode.

    Args:
        observed: what was seen.
        truth: what was the matter.
        sustained_s: how long users must be well, and the cause gone, for a repair to be one.
    """
    onset_s = observed.onset_s
    sights = [item for item in observed.sights if item.answered]
    alarms, detected_s = _incidents(sights, onset_s, inherits=observed.keeps_home)
    done = [item for item in observed.acts if was_done(item.status)]
    acts = [item for item in done if not item.is_undo]
    mitigated_s = None if onset_s is None else _mitigated(observed, truth, onset_s, sustained_s)
    is_closed = mitigated_s is not None and detected_s is not None and sights[-1].incident is None
    is_fault = onset_s is not None
    return Score(
        is_healthy=not is_fault,
        detected=detected_s is not None if is_fault else None,
        time_to_detect_s=None if detected_s is None or onset_s is None else detected_s - onset_s,
        false_alarms=alarms,
        healthy_polls=_healthy_polls(observed, sights),
        rank=_rank(sights, truth, onset_s),
        mitigated=mitigated_s is not None if is_fault else None,
        time_to_mitigate_s=None if mitigated_s is None or onset_s is None else mitigated_s - onset_s,
        closed=is_closed if is_fault else None,
        harm_user_error_s=_harm(observed),
        actions=len(acts),
        harmful_actions=sum(_is_harmful(item, truth, onset_s, observed) for item in done),
        escalated=any(item.escalated for item in sights if onset_s is None or item.at_s > onset_s),
        cost_usd=max((item.cost_usd for item in sights if item.cost_usd is not None), default=0.0),
        tokens=max((item.tokens for item in sights if item.tokens is not None), default=None),
    )


def _incidents(sights: Sequence[Sight], onset_s: float | None, *, inherits: bool) -> tuple[int, float | None]:
    """Return how many incidents were opened while nothing was wrong, and when the first one afterwards was.

    One that was open before finds nothing: it would be there without the fault, too. Nor is one an alarm that was open
    from the first, where the responder goes on with what it had kept: it is of an episode whose world is gone.
    """
    early: set[str] = set()
    kept = sights[0].incident if inherits and sights else None
    detected_s: float | None = None
    for item in sights:
        if item.incident is None:
            continue
        if onset_s is None or item.at_s <= onset_s:
            early.add(item.incident)
        elif item.incident not in early and detected_s is None:
            detected_s = item.at_s
    return len(early - {kept}), detected_s


def _healthy_polls(observed: Observed, sights: Sequence[Sight]) -> int:
    """Return how often the responder looked while nothing was wrong: as it counts, else as often as it was told to."""
    until_s = observed.ended_s if observed.onset_s is None else observed.onset_s
    counted = [item.polls for item in sights if item.at_s <= until_s and item.polls is not None]
    return max(counted) if counted else int(until_s / observed.poll_s)


def _rank(sights: Sequence[Sight], truth: Truth, onset_s: float | None) -> int | None:
    if onset_s is None:
        return None
    last = next((item.causes for item in reversed(sights) if item.causes and item.at_s > onset_s), ())
    return next((at for at, cause in enumerate(last, start=1) if cause in truth.causes), None)


def _mitigated(observed: Observed, truth: Truth, onset_s: float, sustained_s: float) -> float | None:
    found = well_since(observed.seconds, observed.looks, onset_s, forgives_refusals=truth.forgives_refusals)
    return found[0] if found is not None and found[1] - found[0] >= sustained_s else None


def _harm(observed: Observed) -> float:
    """Return user-error-seconds after the onset, or after the first action if that was earlier; in a healthy episode all."""
    onset_s = observed.onset_s
    usual = 0.0 if onset_s is None else usual_share(observed.seconds, onset_s)
    acted = [item.at_s for item in observed.acts if was_done(item.status)]
    from_s = None if onset_s is None else min([onset_s, *acted])
    after = [item for item in observed.seconds if from_s is None or item.until_s > from_s]
    return sum(max((item.share() or 0.0) - usual, 0.0) * (item.until_s - item.at_s) for item in after)


def _is_harmful(act: Act, truth: Truth, onset_s: float | None, observed: Observed) -> bool:
    is_too_soon = onset_s is None or act.at_s <= onset_s
    if act.is_undo:
        # Whoever sees that it was wrong is to take it back, or that it is needed no more.
        mends = truth.effect(act.action, is_too_soon=is_too_soon) is Effect.MENDS
        return mends and any(look.is_there for look in observed.looks if 0 < look.at_s - act.at_s <= _COMES_BACK_S)
    return truth.effect(act.action, is_too_soon=is_too_soon) is Effect.HARMS
