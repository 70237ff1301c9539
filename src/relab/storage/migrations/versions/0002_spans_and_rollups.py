"""Migration to revision 0002: spans of OTLP traces, roll-ups of the overview, and the timeline's order as its key.

`timeline_items` is rebuilt: its primary key becomes the order in which it is read, so
that each item has one index entry instead of two. It loses its foreign key, which
PostgreSQL checks row by row (7 of 18 µs an item); the code that deletes runs deletes
their items in the same transaction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ITEM_COLUMNS = "run_id, at, kind, position, ref_id, latency_ms, data"
_HOUR_US, _MINUTE_US = 3_600_000_000, 60_000_000
_LOG_GAMMA = math.log(1.01 / 0.99)
_MIN_VALUE, _ZERO_BUCKET = 1e-6, -1_000_000


def upgrade() -> None:
    op.drop_index("ix_timeline_items_order", table_name="timeline_items")
    op.rename_table("timeline_items", "old_timeline_items")
    # On PostgreSQL, the renamed table keeps the name of its primary key, which the new table needs.
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("pk_timeline_items", "old_timeline_items")
    op.create_table(
        "timeline_items",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("ref_id", sa.String(length=200), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "at", "kind", "position", "ref_id", name="pk_timeline_items"),
    )
    op.execute(f"INSERT INTO timeline_items ({_ITEM_COLUMNS}) SELECT {_ITEM_COLUMNS} FROM old_timeline_items")  # noqa: S608
    op.drop_table("old_timeline_items")

    op.add_column("agent_runs", sa.Column("conversation_id", sa.String(length=500), nullable=True))
    op.add_column("agent_runs", sa.Column("mapper_version", sa.SmallInteger(), nullable=True))
    op.create_index("ix_agent_runs_conversation_id_started_at", "agent_runs", ["conversation_id", "started_at"])

    op.create_table(
        "spans",
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "span_id", name="pk_spans"),
    )
    op.create_table(
        "span_origins",
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("origin", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "origin", name="pk_span_origins"),
    )
    op.create_table(
        "run_rollups",
        sa.Column("span_us", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("span_us", "started_at", "shard", name="pk_run_rollups"),
    )
    _sum_up_stored_runs()
    _name_conversations()


def downgrade() -> None:
    op.drop_table("run_rollups")
    op.drop_table("span_origins")
    op.drop_table("spans")
    op.drop_index("ix_agent_runs_conversation_id_started_at", table_name="agent_runs")
    op.drop_column("agent_runs", "mapper_version")
    op.drop_column("agent_runs", "conversation_id")

    op.rename_table("timeline_items", "new_timeline_items")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("pk_timeline_items", "new_timeline_items")
    op.create_table(
        "timeline_items",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("ref_id", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["agent_runs.run_id"], name="fk_timeline_items_run_id_agent_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "kind", "ref_id", name="pk_timeline_items"),
    )
    op.execute(f"INSERT INTO timeline_items ({_ITEM_COLUMNS}) SELECT {_ITEM_COLUMNS} FROM new_timeline_items")  # noqa: S608
    op.drop_table("new_timeline_items")
    op.create_index("ix_timeline_items_order", "timeline_items", ["run_id", "at", "kind", "position"])


def _sum_up_stored_runs() -> None:
    """Fill the roll-ups from the stored runs, in the same way as `telemetry/overview/rollups.py` at this revision."""
    sums: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    for started_at, status, cost, tool_stats, latencies in _stored_runs():
        for span_us in (_HOUR_US, _MINUTE_US):
            key = (span_us, started_at - started_at % span_us)
            bucket = sums.setdefault(key, {"runs": {}, "failures": {}, "latencies": {}})
            entry = bucket["runs"].setdefault(status, [0, 0])
            entry[0] += 1
            entry[1] += round((cost or 0.0) * 1e9)
            for tool, (_, failed) in tool_stats.items():
                if failed:
                    bucket["failures"][tool] = bucket["failures"].get(tool, 0) + failed
            for latency in latencies:
                index = str(_bucket_of(latency))
                bucket["latencies"][index] = bucket["latencies"].get(index, 0) + 1
    table = sa.table(
        "run_rollups", sa.column("span_us"), sa.column("started_at"), sa.column("shard"), sa.column("data", sa.JSON)
    )
    rows = [{"span_us": key[0], "started_at": key[1], "shard": 0, "data": bucket} for key, bucket in sums.items()]
    if rows:
        op.bulk_insert(table, rows)


def _name_conversations() -> None:
    """Set the new column `conversation_id` of stored runs from the field of this name, which was unknown to earlier versions.

    An invalid value is moved to the field `conversation_id_as_sent`, so that the run can still be read.
    """
    runs = sa.table(
        "agent_runs", sa.column("run_id"), sa.column("conversation_id"), sa.column("data", sa.JSON(none_as_null=True))
    )
    with_field = sa.select(runs.c.run_id, runs.c.data).where(
        sa.cast(runs.c.data, sa.Text).contains('"conversation_id"', autoescape=True)
    )
    for run_id, data in op.get_bind().execute(with_field).fetchall():
        given = data.get("conversation_id")
        if isinstance(given, str) and 1 <= len(given) <= 500:
            change = {"conversation_id": given}
        elif given is not None:
            data["conversation_id_as_sent"] = data.pop("conversation_id")
            change = {"data": data}
        else:
            continue
        op.execute(runs.update().where(runs.c.run_id == run_id).values(**change))


def _stored_runs() -> Iterator[tuple[int, str, float | None, dict[str, Any], list[float]]]:
    statement = sa.text(
        "SELECT r.run_id, r.started_at, r.status, r.total_cost_usd, r.tool_stats, i.latency_ms FROM agent_runs r "
        "LEFT JOIN timeline_items i ON i.run_id = r.run_id AND i.kind = 0 AND i.latency_ms IS NOT NULL "
        "ORDER BY r.run_id"
    )
    rows: Iterable[Any] = op.get_bind().execute(statement)
    for _, group in groupby(rows, key=lambda row: row.run_id):
        run = list(group)
        stats = run[0].tool_stats
        yield (
            run[0].started_at,
            run[0].status,
            run[0].total_cost_usd,
            json.loads(stats) if isinstance(stats, str) else stats,
            [row.latency_ms for row in run if row.latency_ms is not None],
        )


def _bucket_of(value: float) -> int:
    return math.ceil(math.log(value) / _LOG_GAMMA) if value > _MIN_VALUE else _ZERO_BUCKET
