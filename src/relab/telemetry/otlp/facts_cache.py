"""Facts of spans that were read lately, for traces that keep growing.

Each further batch of a trace needs the facts of all its spans. They are a pure function
of a span's bytes and its origin, so those are the key, and nothing can be out of date.
"""

from __future__ import annotations

from collections import OrderedDict

from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.spans import Attributes, read_span

MAX_BYTES = 8 * 1_048_576
"""Packed bytes of the spans; understood, they take about six times as much."""


class FactsCache:
    """Keeps the facts of the spans that were asked for last. Not for several threads at once."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._facts: OrderedDict[tuple[bytes, int], SpanFacts] = OrderedDict()

    def get(self, raw: bytes, origin: int, resource: Attributes) -> SpanFacts:
        """Return the facts of a packed span of an origin whose resource has these attributes."""
        key = (raw, origin)
        facts = self._facts.get(key)
        if facts is None:
            facts = facts_of(read_span(raw), resource)
            self.keep(raw, origin, facts)
        else:
            self._facts.move_to_end(key)
        return facts

    def keep(self, raw: bytes, origin: int, facts: SpanFacts) -> None:
        """Keep facts that will be asked for."""
        if (raw, origin) in self._facts:
            return
        self._facts[(raw, origin)] = facts
        self._bytes += len(raw)
        while self._bytes > self._max_bytes:
            (forgotten, _), _ = self._facts.popitem(last=False)
            self._bytes -= len(forgotten)
