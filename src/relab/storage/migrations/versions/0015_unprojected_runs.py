"""Migration to revision 0015: an index of the runs whose newest spans are not projected yet, for their readers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_UNPROJECTED = sa.text("mapper_version = 0")


def upgrade() -> None:
    op.create_index(
        "ix_agent_runs_unprojected",
        "agent_runs",
        ["run_id"],
        sqlite_where=_UNPROJECTED,
        postgresql_where=_UNPROJECTED,
    )


def downgrade() -> None:
    # The version before projects such runs again when their next span arrives, or by `lab agent-runs remap`.
    op.drop_index("ix_agent_runs_unprojected", table_name="agent_runs")
