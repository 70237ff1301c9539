"""Migration to revision 0026: columns for unprojected runs.

A run is unprojected if it is not computed from its newest spans yet. The columns are the time at which a worker should
compute the run, and the size of the spans.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from relab.core.errors import ConflictError

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("agent_runs", sa.Column("project_at", sa.BigInteger(), nullable=True))
    op.add_column("agent_runs", sa.Column("waiting_size", sa.Integer(), server_default="0", nullable=False))
    # Large traces that the version before left unprojected.
    op.execute(
        "UPDATE agent_runs SET project_at = updated_at, waiting_size = step_count + tool_call_count + guardrail_event_count "
        "WHERE mapper_version = 0"
    )


def downgrade() -> None:
    unread = op.get_bind().execute(sa.text("SELECT count(*) FROM agent_runs WHERE content_hash = ''")).scalar_one()
    if unread:
        # The version before would subtract them from sums to which they were never added.
        raise ConflictError(
            f"{unread} runs are not projected yet, so the schema cannot be migrated to an older one.",
            remedy="Run `lab agent-runs remap`, which projects them, and try again.",
        )
    with op.batch_alter_table("agent_runs") as runs:
        runs.drop_column("waiting_size")
        runs.drop_column("project_at")
