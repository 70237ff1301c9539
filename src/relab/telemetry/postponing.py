"""Decide when the run of a growing trace is projected again.

A projection reads all spans of its trace. If each batch of a trace that arrives in a thousand batches projected it, the time
would grow with the square of the batches. So a large trace that has not ended is projected again when it has grown by half,
when a span may have ended it, or before it is read; until then its run is marked with the mapper version `UNPROJECTED`.
See docs/design/otlp.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from relab.telemetry.otlp.decoding import ReceivedSpan
from relab.telemetry.otlp.roles import Role

MIN_SPANS: Final = 1_000
"""A smaller trace is projected at every batch."""
GROWTH: Final = 1.5
"""A trace is projected again when it has this many times the spans of its last projection."""
MAX_WAITING_ITEMS: Final = 50_000
"""The timeline items of all unprojected runs together. A reader of lists or sums projects these runs first, which takes at most a
few seconds; beyond the limit each batch is projected at once."""
_MAX_TRACES: Final = 1_000


class ProjectedSizes:
    """The number of spans that large traces had when this process last projected them. It is not thread-safe."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def note(self, trace_id: str, spans: int) -> None:
        """Remember that a trace was projected from so many spans; forget the trace that was noted the longest time ago."""
        self._sizes.pop(trace_id, None)
        if spans < MIN_SPANS:
            return
        self._sizes[trace_id] = spans
        if len(self._sizes) > _MAX_TRACES:
            self._sizes.popitem(last=False)

    def room(self, trace_id: str) -> int:
        """Return the number of spans up to which a trace need not be projected again; 0 if its last projection is not known."""
        return int(self._sizes.get(trace_id, 0) * GROWTH)


def may_end_run(spans: Iterable[ReceivedSpan]) -> bool:
    """Return whether one of the spans may end the run of its trace: a root, or the span of an agent."""
    return any(not received.facts.span.parent_id or received.facts.role is Role.AGENT for received in spans)
