"""Migration to revision 0015: an index of unprojected runs.

A run is unprojected if it is not computed from its newest spans yet. The index finds these runs, so that they can be
computed before a reader gets them.
"""

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
