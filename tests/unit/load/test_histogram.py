"""Latency histograms: three significant digits, lossless encoding, and merging without loss."""

from __future__ import annotations

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given
from hypothesis import strategies as st

from relab.load.histogram import MAX_NS, MIN_NS, SIGNIFICANT_DIGITS, LatencyHistogram

LATENCIES = st.lists(st.integers(min_value=0, max_value=MAX_NS), max_size=200)
RESOLUTION_NS = 512
"""The lowest value is 1,000 ns, which the histogram rounds down to a power of two."""


def of(latencies_ns: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for latency_ns in latencies_ns:
        histogram.record(latency_ns)
    return histogram


@given(latencies=LATENCIES.filter(bool), share=st.floats(min_value=0, max_value=1))
def test_a_quantile_is_the_value_of_its_rank_within_three_digits(latencies: list[int], share: float) -> None:
    [found] = of(latencies).quantiles_ms([share])

    true_ns = sorted(latencies)[max(1, int(share * len(latencies) + 0.5)) - 1]
    assert found is not None
    assert true_ns <= found * 1e6 + 1e-3
    assert found * 1e6 <= true_ns * 1.001 + RESOLUTION_NS


@given(latencies=LATENCIES.filter(bool))
def test_minimum_mean_and_maximum_are_those_of_the_values(latencies: list[int]) -> None:
    histogram = of(latencies)

    low, mean, high = histogram.min_ms(), histogram.mean_ms(), histogram.max_ms()
    assert low is not None
    assert mean is not None
    assert high is not None
    assert low * 1e6 <= min(latencies) <= low * 1.001e6 + RESOLUTION_NS
    assert max(latencies) <= high * 1e6 + 1e-3 <= max(latencies) * 1.001 + RESOLUTION_NS + 1
    true_mean = sum(latencies) / len(latencies)
    assert abs(mean * 1e6 - true_mean) <= true_mean * 0.001 + RESOLUTION_NS
    assert histogram.count == len(latencies)


# Values around each power of two, where a bucket starts.
EDGES = [max(0, 2**power + step) for power in range(40) for step in (-1, 0, 1) if 2**power + step <= MAX_NS]


@given(latencies=LATENCIES)
@example(latencies=EDGES)
@example(latencies=EDGES * 40)
def test_bulk_counts_equal_the_single_counts_of_the_library(latencies: list[int]) -> None:
    one_by_one = HdrHistogram(MIN_NS, MAX_NS, SIGNIFICANT_DIGITS)
    for latency_ns in latencies:
        one_by_one.record_value(latency_ns)
    assert of(latencies).encode() == one_by_one.encode().decode()


@given(parts=st.lists(LATENCIES, max_size=5))
def test_merged_histogram_equals_one_of_all_values(parts: list[list[int]]) -> None:
    whole = of([latency_ns for part in parts for latency_ns in part])
    merged = LatencyHistogram.merged(of(part) for part in parts)

    shares = (0.0, 0.25, 0.5, 0.99, 1.0)
    assert merged.count == whole.count
    assert merged.encode() == whole.encode()
    assert merged.quantiles_ms(shares) == whole.quantiles_ms(shares)
    assert merged.min_ms() == whole.min_ms()
    assert merged.mean_ms() == whole.mean_ms()
    assert merged.max_ms() == whole.max_ms()


@given(latencies=LATENCIES, more=LATENCIES)
def test_decoded_histogram_is_unchanged_and_can_be_extended(latencies: list[int], more: list[int]) -> None:
    text = of(latencies).encode()
    back = LatencyHistogram.decode(text)

    assert back.encode() == text
    back.add(of(more))
    assert back.encode() == of(latencies + more).encode()


@given(latencies=LATENCIES.filter(bool), share=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_reference_library_reads_the_same_quantiles(latencies: list[int], share: float) -> None:
    histogram = of(latencies)
    theirs = HdrHistogram.decode(histogram.encode())

    assert theirs.get_total_count() == len(latencies)
    assert histogram.quantiles_ms([share]) == [theirs.get_value_at_percentile(share * 100) / 1e6]


def test_empty_histogram_has_no_values_and_outliers_are_clamped() -> None:
    empty = LatencyHistogram()
    assert empty.min_ms() is None
    assert empty.mean_ms() is None
    assert empty.max_ms() is None
    assert empty.quantiles_ms([0.5]) == [None]

    extreme = of([-5, MAX_NS * 3])
    assert extreme.count == 2
    assert extreme.min_ms() == 0.0
    assert extreme.max_ms() == pytest.approx(MAX_NS / 1e6, rel=0.001)


def test_values_above_a_bound_are_counted() -> None:
    histogram = of([1_000_000 * ms for ms in (10, 100, 150, 300)])

    assert [histogram.count_above_ms(bound) for bound in (5, 99, 120, 200, 400)] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("text", ["", "HISTF", "not base64!", HdrHistogram(1, 1_000, 2).encode().decode()])
def test_invalid_histogram_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"histogram|HdrHistogram"):
        LatencyHistogram.decode(text)
