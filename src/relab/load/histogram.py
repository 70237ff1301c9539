"""Latencies as an HdrHistogram: three digits of any value from a microsecond to ten minutes, in fixed memory.

The counting, the wire format and its compression are the library's. What is read often (quantiles, means) is
computed here over the whole array at once, because the library walks it value by value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from hdrh.histogram import HdrHistogram

LOWEST_NS = 1_000
HIGHEST_NS = 600_000_000_000
SIGNIFICANT_DIGITS = 3
_NS_PER_MS = 1_000_000


class LatencyHistogram:
    """Counts of latencies in nanoseconds, the unit that the tools of HdrHistogram expect.

    A latency below zero counts as zero, one above ten minutes as ten minutes: none is lost.
    """

    __slots__ = ("_hdr", "_record")

    def __init__(self, hdr: Any = None) -> None:
        self._hdr = HdrHistogram(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS) if hdr is None else hdr
        self._record = self._hdr.record_value

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what `encode` has written, or any HdrHistogram V2 in base64 of the same bounds and digits.

        Raises:
            ValueError: it is no such histogram.
        """
        try:
            hdr = HdrHistogram.decode(text.encode())
        except Exception as error:  # the library raises what it meets: TypeError, zlib.error, its own
            raise ValueError(f"not a compressed HdrHistogram: {error}") from error
        found = (hdr.lowest_trackable_value, hdr.highest_trackable_value, hdr.significant_figures)
        if found != (LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS):
            raise ValueError(f"a histogram of other bounds: {found}")
        # A decoded one holds only the counts that were sent; adding to it needs them all.
        whole = cls()
        whole._hdr.add(hdr)
        return whole

    @classmethod
    def merged(cls, parts: Iterable[LatencyHistogram]) -> Self:
        """Return the sum of histograms; they stay as they are."""
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def record(self, latency_ns: int) -> None:
        """Count one latency, in nanoseconds."""
        self._record(0 if latency_ns < 0 else min(latency_ns, HIGHEST_NS))

    def add(self, other: LatencyHistogram) -> None:
        """Add the counts of another histogram to this one."""
        if other.count:
            self._hdr.add(other._hdr)

    def encode(self) -> str:
        """Return the compressed V2 encoding in base64, as HdrHistogram's tools in every language read it."""
        text: bytes = self._hdr.encode()
        return text.decode("ascii")

    @property
    def count(self) -> int:
        """How many latencies were counted."""
        return int(self._hdr.total_count)

    def quantiles_ms(self, shares: Iterable[float]) -> list[float | None]:
        """Return the latency in ms below or at which each share (0 to 1) lies; None where nothing was counted.

        As HdrHistogram defines it: the highest value that is told apart from none in the bucket of the quantile.
        """
        wanted = list(shares)
        if not self.count:
            return [None] * len(wanted)
        ranks = [max(1, int(share * self.count + 0.5)) for share in wanted]
        indexes = np.searchsorted(np.cumsum(self._counts()), ranks, side="left")
        return [self._upper_ns(int(index)) / _NS_PER_MS for index in indexes]

    def quantile_ms(self, share: float) -> float | None:
        """Return one quantile in ms; None where nothing was counted."""
        return self.quantiles_ms([share])[0]

    def mean_ms(self) -> float | None:
        """Return the mean in ms, taking each count at the middle of its bucket; None where nothing was counted."""
        if not self.count:
            return None
        counts = self._counts()
        used = np.flatnonzero(counts)
        middles = np.array([(self._hdr.get_value_from_index(int(i)) + self._upper_ns(int(i))) / 2 for i in used])
        return float(middles @ counts[used]) / self.count / _NS_PER_MS

    def min_ms(self) -> float | None:
        """Return the lower end of the lowest bucket in use, in ms; None where nothing was counted."""
        if not self.count:
            return None
        return float(self._hdr.get_value_from_index(int(np.flatnonzero(self._counts())[0]))) / _NS_PER_MS

    def max_ms(self) -> float | None:
        """Return the upper end of the highest bucket in use, in ms; None where nothing was counted."""
        if not self.count:
            return None
        return self._upper_ns(int(np.flatnonzero(self._counts())[-1])) / _NS_PER_MS

    def count_above_ms(self, bound_ms: float) -> int:
        """Return how many latencies are above a bound, as far as three digits can tell."""
        index = self._hdr.get_counts_array_index(int(bound_ms * _NS_PER_MS))
        return int(self._counts()[index + 1 :].sum())

    def _counts(self) -> Any:
        return np.ctypeslib.as_array(self._hdr.counts)

    def _upper_ns(self, index: int) -> int:
        return int(self._hdr.get_highest_equivalent_value(self._hdr.get_value_from_index(index)))
