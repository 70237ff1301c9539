"""Thresholds for the detection of anomalies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """Thresholds of the detectors.

    Attributes:
        poll_interval_s: the time between two polls.
        critical_error_rate_pct: from this share of errors on, a level shift of errors is critical. It is also the
            threshold of the rule `seed_rule`, which finds an anomaly if the share of errors and the average response
            time exceed their thresholds and the target reports its connection pool as `critical`. The environment
            variable `ANOMALY_THRESHOLD_ERROR_RATE` sets it.
        slow_response_ms: the threshold of `seed_rule` for the average response time.
        slo_success_pct: the share of requests that should succeed, in percent.
        level_shift_deviations: how many standard deviations above its median a signal must be for a level shift.
        min_errors_increase_pct: by how many percentage points a share of errors must rise for users to notice it.
        min_latency_increase_ms: users notice that a duration is longer than its median only from this difference on.
        min_latency_factor: in addition, the duration must be at least this multiple of its median.
        min_poll_latency_increase_ms: the same as `min_latency_increase_ms` for the time to answer a poll, which varies
            more than other durations.
        large_latency_increase_ms: a P95 that exceeds its expected upper bound by less than this is a small anomaly.
        confirm_polls, confirm_of_polls: most anomalies are confirmed if they are in at least `confirm_polls` of the last
            `confirm_of_polls` polls. Anomalies of the rules `seed_rule` and `trend` are confirmed at once.
        small_anomaly_s: how long a small anomaly (a slightly slower answer, an absent worker) must last to be
            confirmed. Use twice the window that the target's figures cover.
        stale_after_polls: the target's data is stale if this many consecutive polls repeat the timestamp of an earlier
            poll.
        trend_polls, trend_horizon_s: from how many polls a trend is computed, and for how many seconds into the future.
        restart_grace_polls: the grace period after a worker's restart, in polls. Most anomalies are confirmed only
            after it.
        min_restart_grace_s: the minimum of this grace period for anomalies that are not critical, in seconds.
    """

    poll_interval_s: float = 30.0
    critical_error_rate_pct: float = 50.0
    slow_response_ms: float = 1_000.0
    slo_success_pct: float = 99.5
    level_shift_deviations: float = 4.0
    min_errors_increase_pct: float = 1.0
    min_latency_increase_ms: float = 50.0
    min_latency_factor: float = 2.0
    min_poll_latency_increase_ms: float = 250.0
    large_latency_increase_ms: float = 200.0
    confirm_polls: int = 2
    confirm_of_polls: int = 3
    small_anomaly_s: float = 10.0
    stale_after_polls: int = 3
    trend_polls: int = 8
    trend_horizon_s: float = 900.0
    restart_grace_polls: int = 2
    min_restart_grace_s: float = 8.0
