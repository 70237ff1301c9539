"""Thresholds of detection: those of the seed, and the additional ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """Thresholds of the detectors.

    Attributes:
        poll_interval_s: the time between two polls; windows that are counted in polls are derived from it.
        error_rate_pct: the error threshold of the seed's rule (`ANOMALY_THRESHOLD_ERROR_RATE`).
        response_time_ms: the response time threshold of the seed's rule.
        slo_pct: the share of requests that should succeed, in percent.
        deviations: how many standard deviations above the median a level shift begins.
        least_errors_pct, least_latency_ms, latency_factor: the least increase that users notice.
        least_answer_ms: the least increase of the time of answers to polls, which use new connections, one at a time.
        grave_latency_ms: the distance above its bound from which a duration needs no longer confirmation than others.
        confirm, confirm_of: an anomaly counts if it is in at least `confirm` of the last `confirm_of` polls.
        linger_s: how long a small anomaly, such as a slight rise of a duration or an absent worker, must last to count. The
            target's figures cover a window of several polls, so a few slow requests are seen in all of them: use twice
            that window.
        stale_polls: after how many polls with the same timestamp the target's data is stale.
        trend_polls, horizon_s: the number of polls over which a trend is fitted, and how far ahead it is extrapolated.
        grace_polls: the grace period after the restart of a worker, in polls; anomalies do not count before its end.
        grace_s: the least grace period for anomalies that are not critical, because a process is slow after its start.
    """

    poll_interval_s: float = 30.0
    error_rate_pct: float = 50.0
    response_time_ms: float = 1_000.0
    slo_pct: float = 99.5
    deviations: float = 4.0
    least_errors_pct: float = 1.0
    least_latency_ms: float = 50.0
    latency_factor: float = 2.0
    least_answer_ms: float = 250.0
    grave_latency_ms: float = 200.0
    confirm: int = 2
    confirm_of: int = 3
    linger_s: float = 10.0
    stale_polls: int = 3
    trend_polls: int = 8
    horizon_s: float = 900.0
    grace_polls: int = 2
    grace_s: float = 8.0
