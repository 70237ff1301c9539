"""Find problems that make a verdict impossible: missing data, lost or unequal requests, an unstable arm A."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Floats, percent
from relab.rollouts.judging.rollout_data import MAX_FIGURE, RolloutData, is_usable
from relab.rollouts.models import Arm, ArmWindow, DataProblem, Thresholds
from relab.stats.distributions import t_quantile

MAX_DROPPED_SHARE: Final = 0.001
"""Share of the due requests that were never sent, above which the load of an arm was not the planned one."""
MAX_LOST_SHARE: Final = 0.01
"""Share of the due requests that were sent and have no outcome, above which a quantile of the others says little."""
IMBALANCE_P: Final = 0.001
"""P-value of the chi-square test of the arms' numbers of requests, below which they differ by more than chance."""
MIN_IMBALANCE_PCT: Final = 1.0
"""A smaller difference is not a problem, however certain it is: with two million requests the test finds 0.5 %."""
MIN_LIVE_IMBALANCE_PCT: Final = 30.0
"""The same limit for live traffic, where users, not requests, are assigned to arms: two random halves of 200 equally
active users differ by 10 % on average, whatever the number of requests. A smaller difference is a warning."""
_ABOVE_ZERO: Final = (
    "Choose a metric that is always above 0, because the arms are compared by the ratio of their figures."
)
_TREND_ALPHA: Final = 0.01
_TREND_WINDOWS: Final = 4


def missing_data(data: RolloutData) -> tuple[DataProblem, ...]:
    """Return one problem for each gap in the data; empty without gaps.

    These are gaps:

    - a round before the last one that has no window (measurement) of some arm (set of flags);
    - a window with problems;
    - a window whose judged figure (the P95 latency, or the metric that the plan names) is missing or unusable;
    - an arm without completed requests.

    If no round is complete, windows and arms are not checked; one more problem says that no round is complete.
    """
    found = [DataProblem(sentence) for sentence in data.missing]
    if not data.rounds:
        remedy = "Raise `time_budget` or `per_combo_cap`, if the plan has them, or shorten the windows."
        return (*found, DataProblem("No round was measured completely.", remedy))
    found += [problem for window in data.every_window() for problem in _window_problems(window)]
    for arm in sorted(data.rounds[0]):
        # Without a measurement, the problems of the windows already say why.
        if not any(window.completed or not window.duration_s for window in data.windows(arm)):
            remedy = "Check that requests reach the service in this arm, and raise `window_sec`."
            found.append(DataProblem(f"Arm {arm} has no completed request.", remedy))
    return tuple(found)


def _window_problems(window: ArmWindow) -> list[DataProblem]:
    name = f"Window {window.index + 1} (arm {window.arm})"
    found = [DataProblem(f"{name}: {problem}") for problem in window.problems]
    if found:
        found[-1] = replace(found[-1], remedy=window.remedy)
    elif window.metric is None:
        found = [DataProblem(f"{name}: the judged figure is missing.")]
    elif window.metric <= 0:
        found = [DataProblem(f"{name}: the judged figure is {window.metric:g}, not above 0.", _ABOVE_ZERO)]
    elif not is_usable(window.metric):
        found = [
            DataProblem(f"{name}: the judged figure is {window.metric:g}, above {MAX_FIGURE:g}.", "Check its source.")
        ]
    return found


def biased_data(data: RolloutData) -> tuple[DataProblem, ...]:
    """Return one problem for each reason why the figures may favour one arm (set of flags); empty without a reason.

    The reasons are dropped requests, requests without an outcome, and unequal numbers of requests of the arms.
    """
    if not data.rounds:
        return ()
    arms = {arm: data.windows(arm) for arm in sorted(data.rounds[0])}
    lost = [problem for arm, windows in arms.items() for problem in _lost_requests(arm, windows)]
    return (*lost, *_imbalance(arms, MIN_LIVE_IMBALANCE_PCT if data.is_live else MIN_IMBALANCE_PCT))


def imbalance_pct(data: RolloutData) -> float | None:
    """Return the difference between the numbers of completed requests of arms A and B, in percent of the larger number.

    Arm A has the old flags, arm B the new ones. Only rounds in which both arms were measured count.

    Return None without completed requests.
    """
    both = [(found[Arm.A], found[Arm.B]) for found in data.rounds]
    both = [(a, b) for a, b in both if a.duration_s and b.duration_s]
    a, b = (sum(pair[side].completed for pair in both) for side in (0, 1))
    return 100 * abs(a - b) / max(a, b) if max(a, b) else None


def dropped_requests(data: RolloutData) -> int:
    """Return the number of requests, over all measurements, that were due and were never sent."""
    return sum(window.dropped for window in data.every_window())


def _lost_requests(arm: Arm, windows: tuple[ArmWindow, ...]) -> list[DataProblem]:
    offered, dropped = sum(window.offered for window in windows), sum(window.dropped for window in windows)
    completed = sum(window.completed for window in windows)
    found = []
    if dropped > MAX_DROPPED_SHARE * offered:
        sentence = f"{dropped:,} of {offered:,} due requests of arm {arm} were dropped, so its load was too low."
        found.append(DataProblem(sentence, "Lower `qps`, or raise `max_in_flight`."))
    lost = offered - dropped - completed
    if lost > MAX_LOST_SHARE * offered:
        found.append(DataProblem(f"{lost:,} of {offered:,} requests of arm {arm} have no outcome."))
    return found


def _imbalance(arms: Mapping[Arm, tuple[ArmWindow, ...]], least_pct: float) -> list[DataProblem]:
    """Return one problem if the arms (sets of flags) have very different rates of completed requests; else `[]`.

    The rates are requests per second. They are very different if they differ by at least `least_pct` percent, and if a
    chi-square test for a sample ratio mismatch is significant. `arms` has the windows (measurements) of each arm.

    Source: A. Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments", KDD 2019.
    """
    from scipy import special

    counts = np.array([sum(window.completed for window in windows) for windows in arms.values()], dtype=float)
    weights = np.array([sum(window.duration_s for window in windows) for windows in arms.values()])
    if counts.sum() == 0 or not (weights > 0).all():
        return []
    expected = counts.sum() * weights / weights.sum()
    p_value = float(special.chdtrc(len(counts) - 1, ((counts - expected) ** 2 / expected).sum()))
    ratio = counts / expected
    difference = 100 * float(1 - ratio.min() / ratio.max())
    if p_value >= IMBALANCE_P or difference < least_pct:
        return []
    given = ", ".join(f"{arm} {count:,.0f}" for arm, count in zip(arms, counts, strict=True))
    sentence = f"The arms' numbers of requests differ by {difference:.1f} % ({given}; p = {p_value:.1g})."
    return [DataProblem(sentence, "Find out why one arm gets fewer requests.")]


def unstable_baseline(data: RolloutData, thresholds: Thresholds) -> tuple[DataProblem, ...]:
    """Return one problem if the judged figure of arm A drifts too much, and one if it varies too much.

    Arm A has the old flags; the judged figure is the P95 latency, or the metric that the plan names. A linear trend is
    fitted to the figures of arm A's windows (measurements). The figure drifts too much if the trend is significant and
    exceeds `max_drift`. It varies too much if its standard deviation from the trend exceeds `max_window_sd`.

    The result is empty with fewer than 4 usable windows.
    """
    windows = data.windows(Arm.A)
    usable = [(data.place(window), window.metric) for window in windows if window.metric and is_usable(window.metric)]
    if len(usable) < _TREND_WINDOWS:
        return ()
    places, logs = np.array([place for place, _ in usable], dtype=float), np.log([value for _, value in usable])
    change, error, deviation = _trend(places, logs)
    found = []
    # The trend must exceed chance too: with noisy windows a line through a few of them is often steep.
    nearest = abs(change) - t_quantile(1 - _TREND_ALPHA / 2, len(logs) - 2) * error
    if abs(percent(change)) > thresholds.max_drift and nearest > 0:
        sentence = (
            f"Arm A drifted by {percent(change):+.0f} % over the rollout (max_drift is {thresholds.max_drift:g} %)."
        )
        found.append(DataProblem(sentence, "Repeat the rollout when the service has settled."))
    sd_pct = 100 * math.sqrt(math.expm1(min(deviation**2, 100.0)))
    if sd_pct > thresholds.max_window_sd:
        sentence = (
            f"The windows of arm A have a standard deviation of {sd_pct:.0f} % (max_window_sd is "
            f"{thresholds.max_window_sd:g} %)."
        )
        remedy = "Raise `window_sec`, or repeat the rollout when nothing else uses the machines."
        found.append(DataProblem(sentence, remedy))
    return tuple(found)


def _trend(places: Floats, logs: Floats) -> tuple[float, float, float]:
    """Fit a straight line to the logarithms `logs` at the positions `places`.

    Returns:
        `(change, error, deviation)`: the change of the line from the first to the last position, the standard error of
            this change, and the standard deviation of `logs` from the line.
    """
    centred = places - places.mean()
    squares, span = float(centred @ centred), float(places[-1] - places[0])
    slope = float(centred @ logs) / squares
    residuals = logs - logs.mean() - slope * centred
    deviation = math.sqrt(float(residuals @ residuals) / (len(logs) - 2))
    return slope * span, deviation / math.sqrt(squares) * span, deviation
