"""Group the windows (measurements) of a rollout into rounds, and check which figures are usable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Pairs
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import arms_of

Round = Mapping[Arm, ArmWindow]

MAX_FIGURE: Final = 1e290
"""The largest figure of a window that is judged: sums of larger ones may overflow."""


def error_rate_pct(windows: Sequence[ArmWindow]) -> float | None:
    """Return the share of failed requests among the completed requests of windows, in percent; None without requests."""
    completed = sum(window.completed for window in windows)
    return 100 * sum(window.bad for window in windows) / completed if completed else None


@dataclass(frozen=True, slots=True)
class RolloutData:
    """The complete rounds of a rollout; a complete round has one window (measurement) of each arm (set of flags).

    Attributes:
        rounds: the complete rounds, in order.
        missing: one sentence for each incomplete round before the last one.
        is_cut: whether the last round was begun and not completed.
        is_live: whether the windows of a round were measured at the same time.
    """

    rounds: tuple[Round, ...]
    missing: tuple[str, ...]
    is_cut: bool
    is_live: bool = False

    @classmethod
    def of(cls, windows: Sequence[ArmWindow], plan: Plan) -> RolloutData:
        """Group the windows (measurements) of a rollout by round; keep complete rounds, and note incomplete ones.

        A round is complete if it has a window of each arm (set of flags) of `plan`.
        """
        arms = set(arms_of(plan))
        by_round: dict[int, dict[Arm, ArmWindow]] = {}
        for window in windows:
            by_round.setdefault(window.round, {})[window.arm] = window
        last = max(by_round, default=-1)
        complete, missing, is_cut = [], [], False
        for number in range(last + 1):
            found = by_round.get(number, {})
            if arms <= found.keys():
                complete.append(found)
            elif number == last:
                is_cut = True
            else:
                absent = ", ".join(sorted(arms - found.keys()))
                missing.append(f"Round {number + 1} has no window of arm {absent}.")
        return cls(tuple(complete), tuple(missing), is_cut, plan.subject.live)

    def before_gap(self) -> RolloutData:
        """Return only the rounds before the first gap: a missing, incomplete or unusable round.

        A round has one measurement of each arm (set of flags).
        """
        rounds = []
        for number, found in enumerate(self.rounds):
            if any(window.round != number or not is_usable(window.metric) for window in found.values()):
                break
            rounds.append(found)
        return replace(self, rounds=tuple(rounds))

    def place(self, window: ArmWindow) -> float:
        """Return the position of a window (one measurement of an arm, a set of flags) in time, from 0.

        If all arms are measured at once (`is_live`), this is the number of the round, otherwise the number of the
        window. A round has one window of each arm.
        """
        return float(window.round if self.is_live else window.index)

    def windows(self, arm: Arm) -> tuple[ArmWindow, ...]:
        """Return the windows (measurements) of one arm (set of flags) in the complete rounds, in order."""
        return tuple(found[arm] for found in self.rounds)

    def every_window(self) -> tuple[ArmWindow, ...]:
        """Return the windows (measurements) of all complete rounds, round by round; a round has one window of each arm.

        An arm is a set of flags.
        """
        return tuple(window for found in self.rounds for window in found.values())

    def measured_windows(self) -> dict[Arm, int]:
        """Return for each arm (set of flags) how many of its windows (measurements) have a figure that can be judged.

        Windows of incomplete rounds do not count.
        """
        if not self.rounds:
            return {}
        return {arm: sum(map(is_judgeable, self.windows(arm))) for arm in self.rounds[0]}

    def pairs(self, first: Iterable[Arm] = (Arm.A,), second: Iterable[Arm] = (Arm.B,)) -> Pairs | None:
        """Return the judged figures of two sides, paired by round (one measurement of each arm, a set of flags).

        The judged figure is the P95 latency, or the metric that the plan names. Return None without a complete round,
        or if a figure is missing or not usable (not above 0, or too large).

        Args:
            first: the arms of the first side. If there are several arms, the value of the side in a round is the mean
                of the logarithms of their figures, and its position in time is the mean position of their measurements.
            second: the arms of the second side, used in the same way.
        """
        groups = (tuple(first), tuple(second))
        figures = [[[found[arm].metric for arm in group] for found in self.rounds] for group in groups]
        if not self.rounds or not all(is_usable(value) for group in figures for row in group for value in row):
            return None
        log_a, log_b = (np.log(np.array(group, dtype=np.float64)).mean(axis=-1) for group in figures)
        index_a, index_b = (
            np.array([[self.place(found[arm]) for arm in group] for found in self.rounds]).mean(axis=-1)
            for group in groups
        )
        return Pairs(log_a, log_b, index_a, index_b)


def is_judgeable(window: ArmWindow) -> bool:
    """Return whether a window (the record of one measurement) was measured without problems and has a usable figure."""
    return not window.problems and is_usable(window.metric)


def is_usable(value: float | None) -> bool:
    """Return whether a figure is not None, has a logarithm (is above 0), and is at most `MAX_FIGURE`."""
    return value is not None and 0 < value <= MAX_FIGURE
