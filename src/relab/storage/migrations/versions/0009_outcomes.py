"""Migration to revision 0009: the outcome of a run, and the counts of outcomes in the roll-ups.

The migration gives each stored run the outcome that follows from its status alone. It also enqueues the job
`telemetry.remap`, which then decides the outcomes by the rules. The job works in small batches, because the rules read
the whole timeline of each run. `lab agent-runs remap` does the same at once and shows its progress.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_HOUR_US, _MINUTE_US = 3_600_000_000, 60_000_000
_BY_STATUS = "CASE status WHEN 'success' THEN 'succeeded' WHEN 'failure' THEN 'failed' ELSE 'unknown' END"
_NEW_TEXTS = ("question", "answer")
_REMAP_JOB = "telemetry.remap"

_rollups = sa.table(
    "run_rollups", sa.column("span_us"), sa.column("started_at"), sa.column("shard"), sa.column("data", sa.JSON)
)
_log = logging.getLogger("alembic.runtime.migration")


def upgrade() -> None:
    # The default lets a process of the version before write runs while it is replaced; a remap decides them too.
    op.add_column("agent_runs", sa.Column("outcome", sa.String(length=24), nullable=False, server_default="unknown"))
    op.add_column("agent_runs", sa.Column("outcome_rule", sa.String(length=32), nullable=True))
    op.add_column("agent_runs", sa.Column("outcome_evidence", sa.JSON(), nullable=True))
    op.add_column("agent_runs", sa.Column("outcome_version", sa.SmallInteger(), nullable=True))
    op.execute(f"UPDATE agent_runs SET outcome = {_BY_STATUS}")  # noqa: S608
    _set_aside_other_values()
    _count_outcomes()
    _enqueue_remap()


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM jobs WHERE name = :name").bindparams(name=_REMAP_JOB))
    for key, data in list(_stored_rollups()):
        _write_rollup(key, data)
    with op.batch_alter_table("agent_runs") as runs:
        for name in ("outcome_version", "outcome_evidence", "outcome_rule", "outcome"):
            runs.drop_column(name)


def _set_aside_other_values() -> None:
    """Rename the fields `question` and `answer` of stored runs if their values are not texts.

    The new names are `question_as_sent` and `answer_as_sent`. This version could not read the run otherwise.
    """
    runs = sa.table("agent_runs", sa.column("run_id"), sa.column("data", sa.JSON(none_as_null=True)))
    text = sa.cast(runs.c.data, sa.Text)
    wanted = sa.or_(*(text.contains(f'"{name}"', autoescape=True) for name in _NEW_TEXTS))
    for run_id, data in op.get_bind().execute(sa.select(runs.c.run_id, runs.c.data).where(wanted)).fetchall():
        moved = [name for name in _NEW_TEXTS if not isinstance(data.get(name), str | None)]
        for name in moved:
            data[f"{name}_as_sent"] = data.pop(name)
        if moved:
            op.execute(runs.update().where(runs.c.run_id == run_id).values(data=data))


def _count_outcomes() -> None:
    """Count the outcomes of the stored runs, and add the counts to the roll-ups.

    The sums of a period are stored in several parts, the shards. The counts are added to shard 0. They are counted as
    in `telemetry/overview/rollups.py` at this revision.
    """
    counts: dict[tuple[int, int], dict[str, list[int]]] = {}
    found = op.get_bind().execute(
        sa.text(
            f"SELECT started_at - started_at % {_MINUTE_US}, outcome, count(*), "  # noqa: S608
            "sum(CASE WHEN total_cost_usd IS NULL THEN 1 ELSE 0 END) FROM agent_runs GROUP BY 1, 2"
        )
    )
    for minute, outcome, runs, unpriced in found:
        for bucket in ((_MINUTE_US, minute), (_HOUR_US, minute - minute % _HOUR_US)):
            entry = counts.setdefault(bucket, {}).setdefault(outcome, [0, 0])
            entry[0] += runs
            entry[1] += int(unpriced)
    for key, data in list(_stored_rollups()):
        outcomes = counts.pop((key[0], key[1]), None) if key[2] == 0 else None
        _write_rollup(key, data | ({"outcomes": outcomes} if outcomes else {}))
    if counts:
        rows = [
            {"span_us": bucket[0], "started_at": bucket[1], "shard": 0, "data": {"outcomes": outcomes}}
            for bucket, outcomes in counts.items()
        ]
        op.bulk_insert(_rollups, rows)


def _stored_rollups() -> Iterator[tuple[tuple[int, int, int], dict[str, Any]]]:
    """Yield `((length in µs, start, shard), sums)` of each stored roll-up; counts of outcomes are left out of the sums."""
    for span_us, started_at, shard, data in op.get_bind().execute(sa.select(*_rollups.c)).fetchall():
        yield (span_us, started_at, shard), {name: sums for name, sums in data.items() if name != "outcomes"}


def _write_rollup(key: tuple[int, int, int], data: dict[str, Any]) -> None:
    """Store the sums `data` in the row with the key (length, start, shard); delete the row if all sums are empty."""
    table = _rollups
    here = sa.and_(table.c.span_us == key[0], table.c.started_at == key[1], table.c.shard == key[2])
    if any(data.values()):
        op.execute(table.update().where(here).values(data=data))
    else:
        op.execute(table.delete().where(here))


def _enqueue_remap() -> None:
    newest = op.get_bind().execute(sa.text("SELECT count(*), max(updated_at) FROM agent_runs")).one()
    if not newest[0]:
        return
    _log.info(
        "%s stored runs have the outcome of their status; the job %s decides by the rules. "
        "Run `lab agent-runs remap` to do it now.",
        newest[0],
        _REMAP_JOB,
    )
    op.execute(
        sa.text(
            "INSERT INTO jobs (job_id, name, args, lane, status, attempts, max_attempts, run_after, created_at) "
            "VALUES (:id, :name, '{}', 'background', 'pending', 0, 3, :now, :now)"
        ).bindparams(id=f"{_REMAP_JOB}-0009", name=_REMAP_JOB, now=newest[1])
    )
