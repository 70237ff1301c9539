"""Migration to revision 0013: a column for the outcome of each agent of a run.

The column is empty for stored runs. The job `telemetry.remap`, which this migration enqueues, fills it. The command
`lab agent-runs remap` fills it, too.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_REMAP_JOB = "telemetry.remap"
_MAX_NAME_CHARS = 1_000
_RELATIONS = ("called", "handed_over")


def upgrade() -> None:
    op.add_column("agent_runs", sa.Column("agent_outcomes", sa.JSON(), nullable=True))
    _set_aside_other_agents()
    _enqueue_remap()


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM jobs WHERE job_id = :id").bindparams(id=f"{_REMAP_JOB}-0013"))
    with op.batch_alter_table("agent_runs") as runs:
        runs.drop_column("agent_outcomes")


def _set_aside_other_agents() -> None:
    """Rename the field `agents` of a stored run to `agents_as_sent` if its value is not a list of agents.

    This version could not read the run otherwise.
    """
    runs = sa.table("agent_runs", sa.column("run_id"), sa.column("data", sa.JSON(none_as_null=True)))
    wanted = sa.cast(runs.c.data, sa.Text).contains('"agents"', autoescape=True)
    for run_id, data in op.get_bind().execute(sa.select(runs.c.run_id, runs.c.data).where(wanted)).fetchall():
        if "agents" in data and not _are_agents(data["agents"]):
            data["agents_as_sent"] = data.pop("agents")
            op.execute(runs.update().where(runs.c.run_id == run_id).values(data=data))


def _are_agents(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(agent, dict) and _is_agent(agent) for agent in value)


def _is_agent(agent: dict[str, Any]) -> bool:
    name, parent = agent.get("name"), agent.get("parent")
    texts = (parent, agent.get("question"), agent.get("answer"))
    return (
        isinstance(name, str)
        and 0 < len(name) <= _MAX_NAME_CHARS
        and all(isinstance(text, str | None) for text in texts)
        and len(parent or "") <= _MAX_NAME_CHARS
        and agent.get("relation") in (None, *_RELATIONS)
    )


def _enqueue_remap() -> None:
    newest = op.get_bind().execute(sa.text("SELECT count(*), max(updated_at) FROM agent_runs")).one()
    waiting = sa.text("SELECT count(*) FROM jobs WHERE name = :name AND status = 'pending'").bindparams(name=_REMAP_JOB)
    # A job of an earlier migration that has not started does this work too.
    if newest[0] and not op.get_bind().execute(waiting).scalar_one():
        op.execute(
            sa.text(
                "INSERT INTO jobs (job_id, name, args, lane, status, attempts, max_attempts, run_after, created_at) "
                "VALUES (:id, :name, '{}', 'background', 'pending', 0, 3, :now, :now)"
            ).bindparams(id=f"{_REMAP_JOB}-0013", name=_REMAP_JOB, now=newest[1])
        )
