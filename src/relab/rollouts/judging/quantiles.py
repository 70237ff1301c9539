"""Compute the judged quantile, the P95, of the latencies in a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from relab.stats.quantiles import harrell_davis

if TYPE_CHECKING:
    from relab.load.service import LatencyHistogram

P95: Final = 0.95


def window_quantile_ms(every: LatencyHistogram, good: LatencyHistogram, *, timeout_ms: float) -> float | None:
    """Return the 95th percentile of the latencies in one measurement, in ms, as the Harrell-Davis estimate.

    The latency of a failed request is raised to `timeout_ms` if it is below that.

    Args:
        every: the latencies of all completed requests.
        good: the latencies of the successful requests, a part of `every`.
        timeout_ms: time limit of a request.

    Returns:
        The percentile; None without requests.
    """
    if not every.count:
        return None
    values, counts = every.values_ms()
    good_values, good_counts = good.values_ms()
    # Both histograms have the same buckets, so each value of the successful requests is also a value of all requests.
    bad_counts = counts.copy()
    bad_counts[np.searchsorted(values, good_values)] -= good_counts
    # An arm with requests that fail fast must not seem fast.
    raised = np.concatenate([values, np.maximum(values, timeout_ms)])
    numbers = np.concatenate([counts - bad_counts, bad_counts])
    order = np.argsort(raised, kind="stable")
    return harrell_davis(raised[order], numbers[order], P95)
