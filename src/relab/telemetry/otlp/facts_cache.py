"""A cache of the facts of recently read spans, for traces that keep growing.

Each new batch of a trace needs the facts of all its spans. The facts are a pure function
of a span's bytes and its origin; these are the cache key, so an entry is never outdated.
"""

from __future__ import annotations

from collections import OrderedDict

from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.spans import Attributes, read_span

MAX_BYTES = 8 * 1_048_576
"""The maximum total size of the spans in the cache, as protobuf bytes; their facts take about six times as much memory."""


class FactsCache:
    """An LRU cache of the facts of spans. It is not thread-safe."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._facts: OrderedDict[tuple[bytes, int], SpanFacts] = OrderedDict()

    def get(self, raw: bytes, origin: int, resource: Attributes) -> SpanFacts:
        """Return the facts of a span; on a cache miss, decode the span and cache its facts.

        Args:
            raw: the span as protobuf bytes.
            origin: the key of its origin (its resource and scope).
            resource: the attributes of the process that created it.
        """
        key = (raw, origin)
        facts = self._facts.get(key)
        if facts is None:
            facts = facts_of(read_span(raw), resource)
            self.keep(raw, origin, facts)
        else:
            self._facts.move_to_end(key)
        return facts

    def keep(self, raw: bytes, origin: int, facts: SpanFacts) -> None:
        """Add the facts of a span to the cache; evict the least recently used entries.

        `raw` is the span as protobuf bytes, `origin` the key of its origin (`Origin.key`).
        """
        if (raw, origin) in self._facts:
            return
        self._facts[(raw, origin)] = facts
        self._bytes += len(raw)
        while self._bytes > self._max_bytes:
            (oldest, _), _ = self._facts.popitem(last=False)
            self._bytes -= len(oldest)
