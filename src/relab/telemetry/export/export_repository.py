"""Read the runs, timeline items, spans and log records that an export writes to a file, in a given transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, select

from relab.storage.base import Base, table_of
from relab.storage.session import DatabaseSession
from relab.telemetry.filtering import filtered
from relab.telemetry.log_models import StoredLog
from relab.telemetry.models import RunFilter
from relab.telemetry.received.log_tables import LogRecordRow
from relab.telemetry.received.span_tables import SpanRow, StoredSpan
from relab.telemetry.repository import ITEM_COLUMNS
from relab.telemetry.tables import AgentRunRow, StoredItem, TimelineItemRow

ROWS_PER_FETCH = 200
"""The number of rows fetched at once, if a run may have any number of them; a span or log record may have megabytes."""

_IDS_PER_FETCH = 5_000


def iter_matching(session: DatabaseSession, run_filter: RunFilter, *, with_spans: bool) -> Iterator[tuple[str, int]]:
    """Yield `(run id, number of timeline items)` of the runs that match the filter, oldest first.

    Matching traces without agent activity are included even if the filter's field `all_traces` is false, so that an
    export is complete. If `with_spans` is true, yield only runs that were computed from spans.
    """
    items = AgentRunRow.step_count + AgentRunRow.tool_call_count + AgentRunRow.guardrail_event_count
    columns: list[Any] = [AgentRunRow.run_id, items]
    statement = filtered(select(*columns), run_filter.model_copy(update={"all_traces": True}))
    if with_spans:
        statement = statement.where(AgentRunRow.source == "otlp")
    statement = statement.order_by(AgentRunRow.started_at, AgentRunRow.run_id)
    for row in session.execute(statement.execution_options(yield_per=_IDS_PER_FETCH)):
        yield row[0], row[1]


def iter_items(session: DatabaseSession, run_ids: Sequence[str]) -> Iterator[StoredItem]:
    """Yield the timeline items of runs, ordered by run id and then by their place in the timeline."""
    statement = select(*ITEM_COLUMNS).where(TimelineItemRow.run_id.in_(run_ids))
    return map(StoredItem._make, _streamed(session, statement, TimelineItemRow))


def iter_spans(session: DatabaseSession, trace_ids: Sequence[str]) -> Iterator[StoredSpan]:
    """Yield the raw spans of traces, ordered by trace id and span id."""
    columns = (SpanRow.trace_id, SpanRow.span_id, SpanRow.origin, SpanRow.data)
    return map(StoredSpan._make, _streamed(session, select(*columns).where(SpanRow.trace_id.in_(trace_ids)), SpanRow))


def iter_logs(session: DatabaseSession, trace_ids: Sequence[str]) -> Iterator[StoredLog]:
    """Yield the log records of traces, ordered by trace id and time."""
    statement = select(*table_of(LogRecordRow).c).where(LogRecordRow.trace_id.in_(trace_ids))
    return map(StoredLog._make, _streamed(session, statement, LogRecordRow))


def _streamed(session: DatabaseSession, statement: Select[*tuple[Any, ...]], rows: type[Base]) -> Iterator[Any]:
    """Yield the rows that `statement` selects, sorted by the primary key of the table `rows` that it selects from."""
    ordered = statement.order_by(*table_of(rows).primary_key)
    yield from session.execute(ordered.execution_options(yield_per=ROWS_PER_FETCH))
