"""Traces without an end by the time of their last write, so that those that stay incomplete are found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OPEN = sa.text("source = 'otlp' AND status = 'running'")

_runs = sa.table(
    "agent_runs", sa.column("run_id"), sa.column("status"), sa.column("outcome_rule"), sa.column("data", sa.JSON)
)
_rollups = sa.table(
    "run_rollups", sa.column("span_us"), sa.column("started_at"), sa.column("shard"), sa.column("data", sa.JSON)
)


def upgrade() -> None:
    op.create_index(
        "ix_agent_runs_open_updated_at", "agent_runs", ["updated_at"], sqlite_where=_OPEN, postgresql_where=_OPEN
    )


def downgrade() -> None:
    op.drop_index("ix_agent_runs_open_updated_at", table_name="agent_runs")
    _resume_incomplete_runs()
    _count_them_as_running()


def _resume_incomplete_runs() -> None:
    """Give incomplete runs the status `running`; the version before reads no other one. An outcome by their errors stays."""
    found = op.get_bind().execute(sa.select(_runs).where(_runs.c.status == "incomplete")).fetchall()
    for run_id, _, rule, data in found:
        values = {
            "status": "running",
            "outcome_rule": "not_finished" if rule == "incomplete" else rule,
            "data": {**data, "status": "running"},
        }
        op.execute(_runs.update().where(_runs.c.run_id == run_id).values(values))


def _count_them_as_running() -> None:
    for span_us, started_at, shard, data in op.get_bind().execute(sa.select(_rollups)).fetchall():
        runs = data.get("runs", {})
        if "incomplete" not in runs:
            continue
        moved, running = runs.pop("incomplete"), runs.get("running", [0, 0])
        runs["running"] = [running[0] + moved[0], running[1] + moved[1]]
        table = _rollups.c
        here = sa.and_(table.span_us == span_us, table.started_at == started_at, table.shard == shard)
        op.execute(_rollups.update().where(here).values(data=data))
