"""The row types of Python: they have the columns of the tables, in the same order."""

from __future__ import annotations

import pytest

from relab.storage.base import Base, table_of
from relab.telemetry.log_models import StoredLog
from relab.telemetry.models import RunFields, RunFilter, RunHeader
from relab.telemetry.received.log_tables import LogRecordRow
from relab.telemetry.received.span_tables import SpanRow, StoredSpan
from relab.telemetry.repository import ITEM_COLUMNS, RUN_COLUMNS
from relab.telemetry.tables import AgentRunRow, StoredItem, StoredRun, TimelineItemRow

NOT_COLUMNS = {"all_traces", "behaviour", "started_after_us", "started_before_us", "text"}
"""The fields of a filter with their own condition instead of equality with a column."""


@pytest.mark.parametrize(
    ("row", "table", "only_written"),
    [
        (StoredRun, AgentRunRow, {"search_text", "awaits_analysis", "project_at", "waiting_size"}),
        (StoredItem, TimelineItemRow, set()),
        (StoredSpan, SpanRow, set()),
        (StoredLog, LogRecordRow, set()),
    ],
)
def test_row_has_the_columns_of_its_table(row: type, table: type[Base], only_written: set[str]) -> None:
    columns = [column.name for column in table_of(table).c if column.name not in only_written]

    assert list(row._fields) == columns  # type: ignore[attr-defined]


def test_rows_are_read_in_the_order_of_their_fields() -> None:
    assert len(RUN_COLUMNS) == len(StoredRun._fields)
    assert len(ITEM_COLUMNS) == len(StoredItem._fields)


def test_every_column_of_a_run_is_shown_or_is_internal() -> None:
    internal = {
        "version_key",
        "total_cost_usd",
        "token_usage",
        "tool_stats",
        "mapper_version",
        "outcome_version",
        "agent_outcomes",
        "data",
    }
    counts = {"step_count", "tool_call_count", "guardrail_event_count"}

    assert set(StoredRun._fields) - RunHeader.model_fields.keys() == internal | counts


def test_every_field_of_a_filter_is_a_column_or_has_its_own_condition() -> None:
    assert RunFilter.model_fields.keys() - set(StoredRun._fields) == NOT_COLUMNS


def test_every_field_of_a_run_is_a_column_or_in_its_json() -> None:
    in_json = {"error_type", "error_message", "trace_id", "correlation_ids", "question", "answer", "cost", "agents"}

    assert RunFields.model_fields.keys() - set(StoredRun._fields) == in_json
