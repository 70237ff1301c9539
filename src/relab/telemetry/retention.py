"""Retention: runs older than wanted are deleted in batches that other writers hardly notice.

Oldest first along the index of starts, a batch per transaction, so that a stop at any
moment, `kill -9` included, leaves whole runs: the next start goes on where this one ended.
Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.planner import prefer_indexes
from relab.telemetry import repository
from relab.telemetry.rollups import Sums
from relab.telemetry.store import forget_runs
from relab.telemetry.tables import AgentRunRow, RunRollupRow, SpanRow

DEFAULT_BATCH: Final = 200
"""Runs of one transaction. Of 10 spans each, they hold SQLite's write lock for some 40 ms."""

MAX_BATCH_ROWS: Final = 10_000
"""Spans and timeline items of one transaction; a run with more goes alone."""

_IDS_PER_STATEMENT = 500
_SUMS_PER_TRANSACTION = 2_000
"""More than one bucket has rows, which is one per shard."""

StartKey = tuple[int, str]
"""Start (microseconds) and id of a run: its place in the order of pruning."""


@dataclass(frozen=True, slots=True)
class PruneCounts:
    """How many runs and how many of their raw spans."""

    runs: int = 0
    spans: int = 0


@dataclass(frozen=True, slots=True)
class PrunedBatch:
    """What one transaction deleted.

    Attributes:
        run_ids: the runs that are gone.
        spans: how many raw spans went with them.
        reached: the place in the order up to which was looked; None at the end.
    """

    run_ids: set[str] = field(default_factory=set)
    spans: int = 0
    reached: StartKey | None = None

    @property
    def counts(self) -> PruneCounts:
        """How much that was."""
        return PruneCounts(len(self.run_ids), self.spans)


def forget_oldest(session: Session, before_us: int, *, after: StartKey | None, limit: int, shard: int) -> PrunedBatch:
    """Delete up to `limit` of the runs that started before a time, oldest first, with all that telemetry holds of them.

    `after` is where the batch before had ended: on PostgreSQL, to look from the start would read
    every entry of the index that was deleted so far and is not vacuumed yet.
    """
    prefer_indexes(session)
    candidates = _oldest(session, before_us, after, limit)
    if not candidates:
        return PrunedBatch()
    # Whoever writes such a run right now is waited for here; it may have got a later start.
    locked = repository.lock_runs(session, [row.run_id for row in candidates])
    old = {run_id: row for run_id, row in locked.items() if row.started_at < before_us}
    spans = _count_spans(session, [run_id for run_id, row in old.items() if row.source == "otlp"])
    rows = {row.run_id: row.items + spans.get(row.run_id, 0) for row in candidates if row.run_id in old}
    taken = _fitting(rows)
    forget_runs(session, taken, shard=shard)
    passed = candidates[-1] if len(taken) == len(rows) else _last_of(candidates, taken)
    return PrunedBatch(set(taken), sum(spans.get(run_id, 0) for run_id in taken), (passed.started_at, passed.run_id))


def count_runs(session: Session, before_us: int) -> int:
    """Return how many runs started before a time."""
    return session.execute(select(func.count()).where(AgentRunRow.started_at < before_us)).scalar_one()


def count_spans(session: Session, before_us: int) -> int:
    """Return how many raw spans there are of the runs that started before a time; looks at all of them."""
    old = select(AgentRunRow.run_id).where(AgentRunRow.started_at < before_us)
    return session.execute(select(func.count()).where(SpanRow.trace_id.in_(old))).scalar_one()


def drop_empty_sums(session: Session, span_us: int, before_us: int, *, after_us: int) -> int | None:
    """Delete roll-ups of whole buckets before a time that add up to nothing.

    What one process counts and another takes off again are two rows of different shards, which
    nobody else would ever delete: a long-lived installation would have more and more of them.
    Rows are locked in the order in which writers lock theirs.

    Args:
        session: of the transaction.
        span_us: the length of the buckets to look at.
        before_us: when the last of them must have ended.
        after_us: the start of the last bucket that was looked at; -1 at first.

    Returns:
        Where to go on; None at the end.
    """
    table = table_of(RunRollupRow).c
    statement = (
        select(table.started_at, table.shard, table.data)
        .where(table.span_us == span_us, table.started_at > after_us, table.started_at <= before_us - span_us)
        .order_by(table.started_at, table.shard)
        .limit(_SUMS_PER_TRANSACTION)
    )
    rows = list(session.execute(statement.with_for_update()))
    buckets = [(start, list(group)) for start, group in groupby(rows, key=lambda row: row.started_at)]
    is_end = len(rows) < _SUMS_PER_TRANSACTION
    if not is_end:
        # The last bucket may be cut off: it is the first of the next transaction.
        buckets.pop()
    # Exactly the rows that were read: a writer may have added one of another shard meanwhile.
    empty = [(row.started_at, row.shard) for _, group in buckets if _is_nothing(group) for row in group]
    for start in range(0, len(empty), _IDS_PER_STATEMENT):
        keys = empty[start : start + _IDS_PER_STATEMENT]
        session.execute(
            delete(table_of(RunRollupRow)).where(
                table.span_us == span_us, tuple_(table.started_at, table.shard).in_(keys)
            )
        )
    return None if is_end else buckets[-1][0]


def _oldest(session: Session, before_us: int, after: StartKey | None, limit: int) -> list[Any]:
    statement = select(
        AgentRunRow.run_id,
        AgentRunRow.started_at,
        (AgentRunRow.step_count + AgentRunRow.tool_call_count + AgentRunRow.guardrail_event_count).label("items"),
    ).where(AgentRunRow.started_at < before_us)
    if after is not None:
        statement = statement.where(tuple_(AgentRunRow.started_at, AgentRunRow.run_id) > tuple_(*after))
    return list(session.execute(statement.order_by(AgentRunRow.started_at, AgentRunRow.run_id).limit(limit)))


def _count_spans(session: Session, trace_ids: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for ids in chunks(trace_ids, _IDS_PER_STATEMENT):
        statement = select(SpanRow.trace_id, func.count()).where(SpanRow.trace_id.in_(ids)).group_by(SpanRow.trace_id)
        counts |= {row[0]: row[1] for row in session.execute(statement)}
    return counts


def _fitting(rows: dict[str, int]) -> list[str]:
    """Return the first runs whose rows fit into one transaction, at least one."""
    taken: list[str] = []
    total = 0
    for run_id, count in rows.items():
        total += count
        if taken and total > MAX_BATCH_ROWS:
            break
        taken.append(run_id)
    return taken


def _last_of(candidates: list[Any], taken: list[str]) -> Any:
    wanted = taken[-1]
    return next(row for row in candidates if row.run_id == wanted)


def _is_nothing(rows: Iterable[Any]) -> bool:
    total = Sums()
    for row in rows:
        total.add(Sums.read(row.data))
    if any(any(entry) for entry in total.runs.values()) or any(total.latencies.values()):
        return False
    # Only the sum of the failures: beyond 500 tools a bucket counts them under one name.
    return sum(total.failures.values()) == 0
