"""Bounds of detection: the seed's thresholds, and what is added to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """When something is wrong.

    Attributes:
        poll_interval_s: between two polls; windows in polls follow from it.
        error_rate_pct: of the seed's rule (`ANOMALY_THRESHOLD_ERROR_RATE`).
        response_time_ms: of the seed's rule.
        slo_pct: the share of requests that should succeed, in percent.
        deviations: how far outside of the usual a level is a shift.
        least_errors_pct, least_latency_ms, latency_factor: what users notice at all.
        least_answer_ms: the same for answers to polls, which come by new connections, and one at a time.
        grave_latency_ms: beyond its bound, from which on a duration is a shift like others; a smaller one has to stay.
        confirm, confirm_of: a shift counts if it is there in so many of the last polls.
        linger_s: how long a small shift of a duration, or the absence of a worker, has to be there to count. Figures are told over
            a window of several polls, so that a few slow requests are seen in all of them: twice that window.
        stale_polls: after how many polls a clock that stands still makes the data stale.
        trend_polls, horizon_s: over how many polls a trend is fitted, and how far ahead it is looked.
        grace_polls: after a worker was restarted by somebody, so many polls are waited before anything counts.
        grace_s: the same for what is not critical: whoever has just started is slow.
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
