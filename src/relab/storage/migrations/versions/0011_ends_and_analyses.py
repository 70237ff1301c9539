"""Migration to revision 0011: columns and indexes for the end of traces and for analyses of new failed runs.

- A column marks the runs whose analysis is not requested yet. Runs that are stored already are not marked.
- Two indexes list the marked runs, and the runs whose trace has not ended, by the time of their last write.
- A column has the confidence of a run's category.
- A column marks the analyses that relab started itself when a run arrived.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OPEN = sa.text("source = 'otlp' AND status = 'running'")
_AWAITING = sa.text("awaits_analysis")

_runs = sa.table(
    "agent_runs", sa.column("run_id"), sa.column("status"), sa.column("outcome_rule"), sa.column("data", sa.JSON)
)
_rollups = sa.table(
    "run_rollups", sa.column("span_us"), sa.column("started_at"), sa.column("shard"), sa.column("data", sa.JSON)
)


def upgrade() -> None:
    # The defaults let a process of the version before write while it is replaced.
    no = sa.false()
    op.add_column("agent_runs", sa.Column("category_confidence", sa.String(length=16), nullable=True))
    op.add_column("agent_runs", sa.Column("awaits_analysis", sa.Boolean(), nullable=False, server_default=no))
    op.add_column("rca_runs", sa.Column("on_arrival", sa.Boolean(), nullable=False, server_default=no))
    for name, condition in (("open", _OPEN), ("awaiting", _AWAITING)):
        op.create_index(
            f"ix_agent_runs_{name}_updated_at",
            "agent_runs",
            ["updated_at"],
            sqlite_where=condition,
            postgresql_where=condition,
        )


def downgrade() -> None:
    for name in ("awaiting", "open"):
        op.drop_index(f"ix_agent_runs_{name}_updated_at", table_name="agent_runs")
    with op.batch_alter_table("rca_runs") as analyses:
        analyses.drop_column("on_arrival")
    with op.batch_alter_table("agent_runs") as runs:
        for name in ("awaits_analysis", "category_confidence"):
            runs.drop_column(name)
    _resume_incomplete_runs()
    _count_them_as_running()


def _resume_incomplete_runs() -> None:
    """Give incomplete runs the status `running`, because the earlier version does not know the status `incomplete`.

    The rule of their outcome becomes `not_finished` if it was `incomplete`. Other rules stay, such as one about errors.
    """
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
