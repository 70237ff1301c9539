"""Values that clients post (complete runs, batches of spans, batches of log records), and the receipt for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.telemetry.models import AgentRun, IngestReceipt
from relab.telemetry.otlp_models import OtlpReceipt

if TYPE_CHECKING:
    from relab.telemetry.otlp.decoding import SpanBatch
    from relab.telemetry.otlp.logs import LogBatch
    from relab.telemetry.records import RunRecord

Receipt = IngestReceipt | OtlpReceipt


@dataclass(frozen=True)
class PostedRun:
    """A complete run that was posted as JSON, converted to the rows to store."""

    record: RunRecord

    @classmethod
    def of(cls, run: AgentRun) -> PostedRun:
        """Convert `run` to the rows that the writer stores for it."""
        from relab.telemetry.records import record_of

        return cls(record_of(run))

    @property
    def weight(self) -> int:
        """The number of rows to write: the run and its timeline items."""
        return 1 + len(self.record.items)


@dataclass(frozen=True)
class PostedSpans:
    """The checked spans of one OTLP request, ready to be stored."""

    batch: SpanBatch

    @property
    def weight(self) -> int:
        """The number of rows to write: one for each span, and one for the request."""
        return 1 + self.batch.count


@dataclass(frozen=True)
class PostedLogs:
    """The decoded log records of one OTLP request, ready to be stored."""

    batch: LogBatch

    @property
    def weight(self) -> int:
        """The number of rows to write: one for each log record, and one for the request."""
        return 1 + self.batch.count


PostedRequest = PostedSpans | PostedLogs
Posted = PostedRun | PostedRequest
