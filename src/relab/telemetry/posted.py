"""What is posted: complete runs and batches of spans, and the receipt for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.telemetry.models import IngestReceipt, TracesReceipt
from relab.telemetry.records import RunRecord

if TYPE_CHECKING:
    from relab.telemetry.otlp.decoding import SpanBatch

Receipt = IngestReceipt | TracesReceipt


@dataclass(frozen=True)
class PostedRun:
    """A complete run, posted as JSON."""

    record: RunRecord

    @property
    def weight(self) -> int:
        """How much there is to write, in spans."""
        return 1 + len(self.record.items)


@dataclass(frozen=True)
class PostedSpans:
    """The spans of an OTLP request."""

    batch: SpanBatch

    @property
    def weight(self) -> int:
        """How much there is to write, in spans."""
        return 1 + self.batch.span_count


Posted = PostedRun | PostedSpans
