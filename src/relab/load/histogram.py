"""Count latencies in an HdrHistogram. Its buckets are precise to three significant digits, from 1 µs to 10 minutes.

The HdrHistogram library encodes and decodes the histogram. This module itself counts latencies and computes quantiles
and means, for many values at once. The library handles one value at a time; at 2,000 requests a second, this took a
tenth of the load generator's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

MIN_NS = 1_000
MAX_NS = 600_000_000_000
SIGNIFICANT_DIGITS = 3
_NS_PER_MS = 1_000_000
_TOGETHER = 2_048


class LatencyHistogram:
    """Counts of latencies in nanoseconds, the unit that the tools of HdrHistogram expect.

    A latency below zero counts as zero, and a latency above ten minutes as ten minutes, so that no latency is lost.
    """

    __slots__ = ("_counted", "_waiting")

    def __init__(self) -> None:
        self._counted: Any = HdrHistogram(MIN_NS, MAX_NS, SIGNIFICANT_DIGITS)
        self._waiting: list[int] = []
        """Recorded latencies in ns that are not counted yet."""

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the histogram in a text: a compressed HdrHistogram V2 in base64, such as the result of `encode`.

        Raises:
            ValueError: the text is not such a histogram, or its bounds or precision differ from those of this class.
        """
        try:
            hdr = HdrHistogram.decode(text.encode())
        except Exception as error:  # the library raises errors of many kinds: TypeError, zlib.error, its own
            raise ValueError(f"not a compressed HdrHistogram: {error}") from error
        found = (hdr.lowest_trackable_value, hdr.highest_trackable_value, hdr.significant_figures)
        if found != (MIN_NS, MAX_NS, SIGNIFICANT_DIGITS):
            raise ValueError(f"a histogram of other bounds: {found}")
        # A decoded histogram has only the encoded counts; adding to it later needs the full array.
        whole = cls()
        whole._hdr.add(hdr)
        return whole

    @classmethod
    def merged(cls, parts: Iterable[LatencyHistogram]) -> Self:
        """Return a new histogram with the counts of all `parts`, which are not changed."""
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def record(self, latency_ns: int) -> None:
        """Count one latency, in nanoseconds."""
        self._waiting.append(latency_ns)
        if len(self._waiting) >= _TOGETHER:
            self._count()

    def add(self, other: LatencyHistogram) -> None:
        """Add the counts of another histogram to this one."""
        if other.count:
            self._hdr.add(other._hdr)

    def encode(self) -> str:
        """Return the compressed V2 encoding in base64, which HdrHistogram's tools in every language can read."""
        text: bytes = self._hdr.encode()
        return text.decode("ascii")

    @property
    def count(self) -> int:
        """The number of recorded latencies."""
        return int(self._hdr.total_count)

    def quantiles_ms(self, shares: Iterable[float]) -> list[float | None]:
        """Return the quantile in ms for each share (0 to 1; 0.5: the median); None for each if the histogram is empty.

        As in HdrHistogram, the result is the highest value of the quantile's bucket.
        """
        wanted = list(shares)
        if not self.count:
            return [None] * len(wanted)
        ranks = [max(1, int(share * self.count + 0.5)) for share in wanted]
        indexes = np.searchsorted(np.cumsum(self._counts()), ranks, side="left")
        return [self._upper_ns(int(index)) / _NS_PER_MS for index in indexes]

    def mean_ms(self) -> float | None:
        """Return the mean in ms, with each count at the middle of its bucket, or None if the histogram is empty."""
        if not self.count:
            return None
        values_ms, counts = self.values_ms()
        return float(values_ms @ counts) / self.count

    def min_ms(self) -> float | None:
        """Return the lower end of the lowest non-empty bucket in ms, or None if the histogram is empty."""
        if not self.count:
            return None
        return float(self._hdr.get_value_from_index(int(np.flatnonzero(self._counts())[0]))) / _NS_PER_MS

    def max_ms(self) -> float | None:
        """Return the upper end of the highest non-empty bucket in ms, or None if the histogram is empty."""
        if not self.count:
            return None
        return self._upper_ns(int(np.flatnonzero(self._counts())[-1])) / _NS_PER_MS

    def count_above_ms(self, bound_ms: float) -> int:
        """Return the number of latencies above a bound in ms. Latencies in the bucket of the bound do not count."""
        index = self._hdr.get_counts_array_index(int(bound_ms * _NS_PER_MS))
        return int(self._counts()[index + 1 :].sum())

    def values_ms(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `(latencies, counts)`: the middles of the non-empty buckets in ms, ascending, and their counts."""
        counts = self._counts()
        used = np.flatnonzero(counts)
        middles = [(self._hdr.get_value_from_index(int(i)) + self._upper_ns(int(i))) / 2 for i in used]
        return np.array(middles, dtype=np.float64) / _NS_PER_MS, counts[used].astype(np.int64)

    @property
    def _hdr(self) -> Any:
        """The histogram object of the HdrHistogram library, with all latencies that were recorded so far."""
        if self._waiting:
            self._count()
        return self._counted

    def _count(self) -> None:
        """Count the latencies that `record` has collected, in the buckets of the HdrHistogram."""
        # The same result as the library's `record_value` for each latency, but for all at once.
        hdr = self._counted
        values = np.clip(np.array(self._waiting, dtype=np.int64), 0, MAX_NS)
        self._waiting.clear()
        # Below 2^53, the exponent of an integer as a double is its length in bits.
        bits = np.frexp((values | hdr.sub_bucket_mask).astype(np.float64))[1].astype(np.int64)
        buckets = bits - hdr.unit_magnitude - (hdr.sub_bucket_half_count_magnitude + 1)
        parts = values >> (buckets + hdr.unit_magnitude)
        indexes = ((buckets + 1) << hdr.sub_bucket_half_count_magnitude) + parts - hdr.sub_bucket_half_count
        found, counts = np.unique(indexes, return_counts=True)
        np.ctypeslib.as_array(hdr.counts)[found] += counts.astype(np.uint64)
        hdr.total_count += len(values)
        hdr.min_value = min(hdr.min_value, int(values.min()))
        hdr.max_value = max(hdr.max_value, int(values.max()))

    def _counts(self) -> Any:
        return np.ctypeslib.as_array(self._hdr.counts)

    def _upper_ns(self, index: int) -> int:
        return int(self._hdr.get_highest_equivalent_value(self._hdr.get_value_from_index(index)))
