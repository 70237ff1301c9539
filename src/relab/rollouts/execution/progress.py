"""The live progress of a rollout, for terminals and event streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from relab.rollouts.models import Arm, ArmWindow, Effect
from relab.rollouts.record import RolloutPhase


class RolloutProgress(BaseModel):
    """The progress of a rollout.

    A window is one measurement of an arm (set of flags): arm A has the old flags, arm B the new ones. A round has one
    window of each arm.

    Attributes:
        phase: the current phase of the rollout.
        message: the current activity, in one sentence.
        windows_done: number of measured windows.
        windows_planned: number of windows that the rollout will probably measure in total.
        figure: the name of the figure that decides the rollout: `P95` (the P95 latency, in ms), or `metric`.
        medians: median of this figure over the windows so far, by arm.
        effect: the change of this figure from arm A to arm B in the complete rounds so far; None before the first one.
            After one round, it has no interval.
        left_s: remaining seconds of the time budget; None without a budget.
    """

    model_config = ConfigDict(frozen=True)

    phase: RolloutPhase
    message: str
    windows_done: int = 0
    windows_planned: int = 0
    figure: str = "P95"
    medians: dict[Arm, float] = {}
    effect: Effect | None = None
    left_s: float | None = None

    @property
    def done_pct(self) -> int:
        """The number of windows (measurements) so far in percent of the planned number, at most 99."""
        return min(int(100 * self.windows_done / self.windows_planned), 99) if self.windows_planned else 0

    def sentence(self) -> str:
        """Return the progress with its figures as one line of text."""
        parts = [self.message]
        if self.windows_planned:
            parts.append(f"window {self.windows_done}/{self.windows_planned}")
        shown = "{:.1f} ms" if self.figure == "P95" else "{:.4g}"
        parts += [f"{self.figure} {arm} {shown.format(value)}" for arm, value in sorted(self.medians.items())]
        if self.effect is not None:
            parts.append(f"Δ{self.figure} {_effect_text(self.effect)}")
        if self.left_s is not None:
            parts.append(f"{self.left_s:.0f} s left")
        return " · ".join(parts)


OnRolloutProgress: TypeAlias = Callable[[RolloutProgress], None]


def medians_of(windows: Sequence[ArmWindow]) -> dict[Arm, float]:
    """Return `{arm: median of the judged figure over the windows of the arm}`.

    A window is one measurement of an arm (set of flags). The judged figure is the metric that the plan names, or else
    the P95 latency in ms. Arms without a figure are left out.
    """
    from statistics import median  # noqa: PLC0415 the server reads progress, and computes none

    found: dict[Arm, list[float]] = {}
    for window in windows:
        if window.metric is not None:
            found.setdefault(window.arm, []).append(window.metric)
    return {arm: median(values) for arm, values in found.items()}


def _effect_text(effect: Effect) -> str:
    if effect.low_pct is None:
        return f"{effect.estimate_pct:+.1f} %"
    high = "any value" if effect.high_pct is None else f"{effect.high_pct:+.1f}"
    return f"{effect.estimate_pct:+.1f} % ({effect.low_pct:+.1f} to {high})"
