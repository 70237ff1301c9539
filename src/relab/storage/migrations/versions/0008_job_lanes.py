"""Migration to revision 0008: lanes of jobs, so that an analysis for a person does not wait behind background work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default lets a worker of the version before enqueue jobs while it is replaced.
    op.add_column("jobs", sa.Column("lane", sa.String(length=16), nullable=False, server_default="background"))
    # Until now, people requested all analyses.
    op.execute("UPDATE jobs SET lane = 'interactive' WHERE name = 'rca.analyze'")
    op.drop_index("ix_jobs_status_run_after_job_id", table_name="jobs")
    op.create_index("ix_jobs_status_lane_run_after_job_id", "jobs", ["status", "lane", "run_after", "job_id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_status_lane_run_after_job_id", table_name="jobs")
    op.create_index("ix_jobs_status_run_after_job_id", "jobs", ["status", "run_after", "job_id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("lane")
