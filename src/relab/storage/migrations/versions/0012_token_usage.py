"""Migration to revision 0012: a column for the tokens of a run, by model.

The roll-ups, which are stored sums for the overview, include these tokens.

The migration enqueues the job `telemetry.remap`, which computes the tokens of stored runs. Until then, the overview
counts these runs as runs without an estimated cost. The cost that a run's reporter gave does not change.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_REMAP_JOB = "telemetry.remap"
_JOB_ID = f"{_REMAP_JOB}-0012"
_NEW_SUMS = ("tokens", "unpriced")

_rollups = sa.table(
    "run_rollups", sa.column("span_us"), sa.column("started_at"), sa.column("shard"), sa.column("data", sa.JSON)
)


def upgrade() -> None:
    op.add_column("agent_runs", sa.Column("token_usage", sa.JSON(), nullable=True))
    newest = op.get_bind().execute(sa.text("SELECT count(*), max(updated_at) FROM agent_runs")).one()
    if newest[0]:
        op.execute(
            sa.text(
                "INSERT INTO jobs (job_id, name, args, lane, status, attempts, max_attempts, run_after, created_at) "
                "SELECT :id, :name, '{}', 'background', 'pending', 0, 3, :now, :now "
                "WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE name = :name AND status = 'pending')"
            ).bindparams(id=_JOB_ID, name=_REMAP_JOB, now=newest[1])
        )


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM jobs WHERE job_id = :id").bindparams(id=_JOB_ID))
    for span_us, started_at, shard, data in op.get_bind().execute(sa.select(*_rollups.c)).fetchall():
        kept: dict[str, Any] = {name: sums for name, sums in data.items() if name not in _NEW_SUMS}
        if kept != data:
            here = sa.and_(
                _rollups.c.span_us == span_us, _rollups.c.started_at == started_at, _rollups.c.shard == shard
            )
            op.execute(_rollups.update().where(here).values(data=kept))
    with op.batch_alter_table("agent_runs") as runs:
        runs.drop_column("token_usage")
