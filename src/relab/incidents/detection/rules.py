"""The detection rules, as pure functions: each checks polls, and returns the anomalies that the last poll shows.

The module `detector` confirms the anomalies that last for several polls.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Final

from relab.incidents.detection.baseline import Baseline, SignalBaseline
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import POLL_LATENCY, AbsenceReason, Anomaly, Severity, Snapshot, dependency_of

MIN_REQUESTS: Final = 5
"""The least number of requests in a poll's window for which a share of errors or a quantile is meaningful."""
_FAST_BURN: Final = 14.4
_SLOW_BURN: Final = 6.0
_FAST_WINDOWS_S: Final = (3_600.0, 300.0)
_SLOW_WINDOWS_S: Final = (21_600.0, 1_800.0)
_USUAL_INTERVAL_S: Final = 30.0
_GROWS: Final = 0.8
"""A signal grows if in at least this share of all pairs of polls the later value is higher."""
_VANISHED: Final = 0.1


def seed_rule(snapshot: Snapshot, settings: DetectionSettings) -> list[Anomaly]:
    """Return an anomaly if a poll of the target shows many errors, a critical connection pool and slow answers.

    This is the rule of relab's original specification (the "seed").
    """
    errors, average = snapshot.numbers.get("errors.pct"), snapshot.numbers.get("latency.avg_ms")
    if errors is None or average is None or snapshot.words.get("pool") != "critical":
        return []
    if errors <= settings.critical_error_rate_pct or average <= settings.slow_response_ms:
        return []
    detail = f"{errors:.1f} % of requests fail, the pool is critical, and answers take {average:.0f} ms on average"
    return [Anomaly("seed_rule", "errors.pct", Severity.CRITICAL, errors, settings.critical_error_rate_pct, detail)]


def burn_rate(history: Sequence[Snapshot], settings: DetectionSettings) -> list[Anomaly]:
    """Return an anomaly if the error budget (the share of requests that may fail) is used up too fast; else nothing.

    The share of errors must be too high in a long and in a short window of polls.

    Args:
        history: the polls, oldest first.
        settings: the required share of successful requests, and the poll interval.
    """
    # Polls more frequent than 30 s count as 30 s apart, so a window then covers less time.
    interval_s = max(settings.poll_interval_s, _USUAL_INTERVAL_S)
    budget_pct = 100.0 - settings.slo_success_pct
    for factor, windows in ((_FAST_BURN, _FAST_WINDOWS_S), (_SLOW_BURN, _SLOW_WINDOWS_S)):
        burns = [_mean_errors(history, max(round(window / interval_s), 1)) / budget_pct for window in windows]
        if min(burns) >= factor:
            detail = f"errors use up the budget of {budget_pct:g} % {min(burns):.1f} times as fast as it lasts"
            severity = Severity.CRITICAL if factor == _FAST_BURN else Severity.DEGRADED
            return [Anomaly("burn_rate", "errors.pct", severity, min(burns), factor, detail)]
    return []


def _mean_errors(history: Sequence[Snapshot], polls: int) -> float:
    shares = [
        snapshot.numbers["errors.pct"]
        for snapshot in history[-polls:]
        if snapshot.numbers.get("traffic.requests", 0) >= MIN_REQUESTS and "errors.pct" in snapshot.numbers
    ]
    return statistics.fmean(shares) if shares else 0.0


def level_shift(snapshot: Snapshot, baseline: Baseline, settings: DetectionSettings) -> list[Anomaly]:
    """Return anomalies for signals of the latest poll that are so far above their usual range that users notice it.

    Checked are shares of errors, P95 durations (except those of the database), the time to answer a poll, and counts of
    failures, such as cache errors.

    Args:
        snapshot: the latest poll.
        baseline: the usual values.
        settings: how far above its usual value a signal must be.
    """
    found = []
    if snapshot.numbers.get("traffic.requests", 0) >= MIN_REQUESTS:
        for name, value in snapshot.numbers.items():
            if name.endswith("errors.pct"):
                found += _risen(name, value, baseline, settings.min_errors_increase_pct, 1.0, settings)
            elif name.endswith("p95_ms") and not name.startswith("database."):
                found += _risen(
                    name, value, baseline, settings.min_latency_increase_ms, settings.min_latency_factor, settings
                )
    for name, value in snapshot.numbers.items():
        if name in {"cache.errors", "cache.write_errors", "search.fallbacks", "pool.timeouts", "traffic.shed"}:
            found += _risen(name, value, baseline, MIN_REQUESTS, 1.0, settings)
        elif name == POLL_LATENCY:
            found += _risen(
                name, value, baseline, settings.min_poll_latency_increase_ms, settings.min_latency_factor, settings
            )
    return found


def _risen(
    name: str, value: float, baseline: Baseline, least: float, factor: float, settings: DetectionSettings
) -> list[Anomaly]:
    usual = baseline.usual(name)
    if usual is None and name.endswith(("_ms", ".ms")):
        # Without a baseline a duration cannot be called long.
        return []
    usual = usual or SignalBaseline(0.0, 0.0, 0)
    bound = usual.upper_bound(settings.level_shift_deviations, least, factor)
    if value <= bound:
        return []
    is_grave = name.endswith("errors.pct") and value >= settings.critical_error_rate_pct
    severity = Severity.CRITICAL if is_grave else Severity.DEGRADED
    return [Anomaly("level_shift", name, severity, value, bound, f"{name} is {value:.4g}, usual is {usual.median:.4g}")]


def states(snapshot: Snapshot) -> list[Anomaly]:
    """Return an anomaly for each dependency, worker, connection pool or target that a poll shows in a bad state."""
    found = []
    for name, word in snapshot.words.items():
        if dependency_of(name) is not None and word != "ok":
            severity = Severity.CRITICAL if name == "dependency.database" else Severity.DEGRADED
            found.append(Anomaly("state", name, severity, None, None, f"{name} is {word}"))
        elif name.startswith("worker.") and word != "running":
            found.append(Anomaly("state", name, Severity.DEGRADED, None, None, f"{name} is {word}"))
    health, pool = snapshot.words.get("health"), snapshot.words.get("pool")
    if health not in {None, "healthy"}:
        severity = Severity.CRITICAL if health == "critical" else Severity.DEGRADED
        found.append(Anomaly("state", "health", severity, None, None, f"the target calls itself {health}"))
    if pool == "critical":
        found.append(Anomaly("state", "pool", Severity.CRITICAL, None, None, "requests wait for connections in vain"))
    return found


def absence(history: Sequence[Snapshot], baseline: Baseline, settings: DetectionSettings) -> list[Anomaly]:
    """Return anomalies for missing answers, vanished traffic, an unchanged timestamp, and impossible values.

    Args:
        history: the polls, oldest first; at least one.
        baseline: the usual values.
        settings: has `stale_after_polls`: a timestamp counts as unchanged if this many consecutive polls all repeat the
            timestamp of an earlier poll.
    """
    last = history[-1]
    found = [_absent(part, why) for part, why in last.absent.items()]
    usual, rate = baseline.usual("traffic.rps"), last.numbers.get("traffic.rps")
    if usual is not None and rate is not None and usual.median >= 1 and rate < usual.median * _VANISHED:
        detail = f"{rate:.2f} requests a second arrive, usual are {usual.median:.1f}"
        found.append(
            Anomaly("absence", "traffic.rps", Severity.DEGRADED, rate, usual.median, detail, opens=bool(last.absent))
        )
    # Skip polls without a timestamp: such a poll must not make old figures count as new.
    times = [snapshot.told_at_us for snapshot in history if snapshot.told_at_us is not None][
        -settings.stale_after_polls - 1 :
    ]
    if len(times) > settings.stale_after_polls and len(set(times)) == 1:
        detail = f"the target's time has stood still for {settings.stale_after_polls} polls: its figures are old"
        found.append(Anomaly("absence", "timestamp", Severity.WARNING, None, None, detail, opens=False))
    if last.absurd:
        detail = f"values that cannot be: {', '.join(last.absurd[:5])}"
        found.append(Anomaly("absence", "absurd", Severity.WARNING, None, None, detail, opens=False))
    return found


def _absent(part: str, why: AbsenceReason) -> Anomaly:
    severity = Severity.CRITICAL if part in {"health", "metrics"} else Severity.WARNING
    return Anomaly(
        "absence", part, severity, None, None, f"the target's {part}: {why.value}", opens=severity is Severity.CRITICAL
    )


def trend(history: Sequence[Snapshot], baseline: Baseline, settings: DetectionSettings) -> list[Anomaly]:
    """Return anomalies for memory use and open file descriptors that grow steadily and would soon reach their limit.

    The limit is 100 for a percentage, otherwise twice the usual value.

    Args:
        history: the polls, oldest first. Without at least `trend_polls` of them, the result is empty.
        baseline: the usual values.
        settings: has `trend_polls`, and `trend_horizon_s`: growth counts if it would reach the limit within this many
            seconds.
    """
    recent = history[-settings.trend_polls :]
    if len(recent) < settings.trend_polls:
        return []
    found = []
    for name in recent[-1].numbers:
        if not name.endswith((".rss_mb", ".fds_pct")):
            continue
        points = [(item.at_us / 1e6, item.numbers[name]) for item in recent if name in item.numbers]
        usual = baseline.usual(name)
        if len(points) < settings.trend_polls or usual is None:
            continue
        last, limit = points[-1][1], 100.0 if name.endswith("_pct") else 2 * usual.median
        has_grown = last > usual.median + max(
            settings.level_shift_deviations * usual.deviation, 0.2 * usual.median, 1.0
        )
        slope = theil_sen(points)
        if has_grown and share_of_growth(points) >= _GROWS and last + slope * settings.trend_horizon_s >= limit:
            detail = f"{name} grows by {slope * 60:.3g} a minute, from {usual.median:.4g} to {last:.4g}"
            found.append(Anomaly("trend", name, Severity.WARNING, last, limit, detail))
    return found


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """Return the Theil-Sen slope of (seconds, value) points: the median slope of all pairs, in units per second.

    Return 0 if there are fewer than two different times.
    """
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in itertools.combinations(points, 2) if x2 > x1]
    return statistics.median(slopes) if slopes else 0.0


def share_of_growth(points: Sequence[tuple[float, float]]) -> float:
    """Return the share (0 to 1) of all pairs of (seconds, value) points in which the later value is higher.

    Return 0 if there are fewer than two points.
    """
    pairs = list(itertools.combinations(points, 2))
    return sum(y2 > y1 for (_, y1), (_, y2) in pairs) / len(pairs) if pairs else 0.0
