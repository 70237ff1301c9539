"""Find reasons for warnings, such as a lower throughput or a slower route. A warning does not change the verdict."""

from __future__ import annotations

from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Pairs, effect_pct, running_effect
from relab.rollouts.judging.rollout_data import RolloutData, error_rate_pct, is_usable
from relab.rollouts.judging.validity import dropped_requests, imbalance_pct
from relab.rollouts.models import Arm, RouteEffect, Thresholds

_ALPHA: Final = 0.025
_CONSTANT_ROUNDS: Final = 3
"""Number of rounds from which a figure that is always the same gives a warning."""
_MAX_LAG_SHARE: Final = 0.5
"""Share of a window's P95 that the load generator's own delay (P99) may have without a warning."""


def qps_change_pct(data: RolloutData) -> float | None:
    """Return the change of the completed requests per second from the old to the new flags, in percent.

    Return None if one of the arms was not measured, or no request with the old flags (arm A) was completed.
    """
    if not data.rounds:
        return None
    rates = []
    for arm in (Arm.A, Arm.B):
        windows = data.windows(arm)
        seconds = sum(window.duration_s for window in windows)
        if not seconds:
            return None
        rates.append(sum(window.completed for window in windows) / seconds)
    return 100 * (rates[1] / rates[0] - 1) if rates[0] else None


def route_effects(data: RolloutData) -> tuple[RouteEffect, ...]:
    """Return the change of each route's P95 latency from arm A to B, with its 95 % interval, sorted by the route's name.

    A route is a kind of request. A round has one measurement of each arm: A (old flags) and B (new flags). Only rounds
    in which both arms have a P95 of the route are used.
    """
    names = sorted({route.name for window in data.every_window() for route in window.routes})
    return tuple(effect for name in names if (effect := _route_effect(data, name)) is not None)


def _route_effect(data: RolloutData, name: str) -> RouteEffect | None:
    rows = []
    for found in data.rounds:
        row: list[float] = []
        for arm in (Arm.A, Arm.B):
            p95_ms = next((route.p95_ms for route in found[arm].routes if route.name == name), None)
            if p95_ms is not None and is_usable(p95_ms):
                row += [p95_ms, data.place(found[arm])]
        if len(row) == 4:
            rows.append(row)
    if not rows:
        return None
    a, index_a, b, index_b = np.array(rows).T
    effect = effect_pct(running_effect(Pairs(np.log(a), np.log(b), index_a, index_b)), alpha=_ALPHA)
    return RouteEffect(name=name, **effect.model_dump())


def warnings_of(data: RolloutData, thresholds: Thresholds, routes: tuple[RouteEffect, ...]) -> tuple[str, ...]:
    """Return the warnings about `data`, one sentence each; they do not change the verdict.

    `thresholds` are the thresholds of the plan. `routes` is the result of `route_effects`.
    """
    found = []
    imbalance, qps = imbalance_pct(data), qps_change_pct(data)
    failed = error_rate_pct(data.windows(Arm.A) if data.rounds else ()) or 0.0
    if failed >= thresholds.max_error_rate:
        found.append(
            f"The error rate of arm A is {failed:.2f} % (the limit for arm B is {thresholds.max_error_rate:g} %)."
        )
    if imbalance is not None and imbalance > thresholds.ab_balance_warn:
        found.append(f"The arms' numbers of requests differ by {imbalance:.1f} %.")
    if qps is not None and qps < thresholds.min_delta_qps:
        found.append(f"The throughput changed by {qps:+.1f} %.")
    for route in routes:
        is_certain = route.low_pct is None or route.low_pct > 0
        if route.estimate_pct > thresholds.max_route_delta_p95 and is_certain:
            found.append(f"The P95 of {route.name} changed by {route.estimate_pct:+.1f} %.")
    dropped = dropped_requests(data)
    if dropped:
        found.append(f"{dropped:,} due requests were dropped.")
    found += _constant_figures(data)
    found += _late_generator(data)
    if data.is_cut:
        found.append("The last round was not completed and is not used.")
    return tuple(found)


def _constant_figures(data: RolloutData) -> list[str]:
    """Return one sentence for each arm (set of flags) whose judged figure is the same in all of its windows.

    The result is empty with fewer than 3 rounds.
    """
    # Measured figures hardly ever repeat. An interval from rounded figures does not include the error of the rounding.
    if len(data.rounds) < _CONSTANT_ROUNDS:
        return []
    figures = {arm: {window.metric for window in data.windows(arm)} for arm in (Arm.A, Arm.B)}
    return [
        f"The judged figure is {value:g} in all windows of arm {arm}. If its source rounds it, or does not update it for each "
        "window, the interval is too narrow."
        for arm, values in figures.items()
        if len(values) == 1 and (value := next(iter(values))) is not None
    ]


def _late_generator(data: RolloutData) -> list[str]:
    windows = data.every_window()
    lags_ms = [
        window.lag_p99_ms
        for window in windows
        if window.lag_p99_ms and window.p95_ms and window.lag_p99_ms > _MAX_LAG_SHARE * window.p95_ms
    ]
    if not lags_ms:
        return []
    late, most_ms = f"{len(lags_ms)} of {len(windows)} windows", f"{max(lags_ms):,.0f} ms at P99"
    return [
        f"The load generator was late in {late} (up to {most_ms}; latencies include that): this machine is too busy."
    ]
