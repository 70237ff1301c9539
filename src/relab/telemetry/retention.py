"""Retention: delete old runs, old log records of traces without a run, and stored sums that are zero.

Runs are deleted oldest first, one batch per transaction. The batches are so small that other writers hardly wait. The
process may stop at any time, even by `kill -9`: a run is never deleted in part, and the next start continues.
Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import delete, func, select, tuple_

from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.planner import prefer_indexes
from relab.storage.session import DatabaseSession
from relab.telemetry import repository
from relab.telemetry.batches import SizedRun, StartKey, fitting, list_oldest
from relab.telemetry.overview import rollup_repository
from relab.telemetry.overview.rollup_tables import RunRollupRow
from relab.telemetry.overview.rollups import Changes, Sums
from relab.telemetry.received import log_repository, span_repository
from relab.telemetry.received.log_tables import LogRecordRow
from relab.telemetry.received.span_tables import SpanRow
from relab.telemetry.tables import AgentRunRow

MAX_BATCH_ROWS: Final = 10_000
"""Spans, log records and timeline items per transaction; a larger run is deleted in a separate transaction."""

_SUMS_PER_TRANSACTION = 2_000
"""Roll-up rows per transaction: more than the rows of one bucket, which has one row per shard."""


@dataclass(frozen=True, slots=True)
class PruneCounts:
    """The numbers of deleted runs, raw spans and log records, or of those that would be deleted.

    Log records of traces without a run are included.
    """

    runs: int = 0
    spans: int = 0
    logs: int = 0


@dataclass(frozen=True, slots=True)
class PrunedBatch:
    """The runs that one transaction deleted.

    Attributes:
        run_ids: the ids of the deleted runs.
        spans: the number of deleted raw spans.
        logs: the number of deleted log records.
        reached: the `(start, id)` of the last examined run, to pass as `after` for the next batch; None after the last
            batch.
    """

    run_ids: set[str] = field(default_factory=set)
    spans: int = 0
    logs: int = 0
    reached: StartKey | None = None

    @property
    def counts(self) -> PruneCounts:
        """The numbers of deleted runs, spans and log records."""
        return PruneCounts(len(self.run_ids), self.spans, self.logs)


def delete_by_person(session: DatabaseSession, run_id: str, *, shard: int) -> bool:
    """Delete a run as a person decided, and return whether it was stored.

    If it is the run of a trial, the deletion is remembered, so that a continued experiment does not send it again. The
    arguments are those of `delete_runs`.
    """
    if not repository.lock_runs(session, [run_id]):
        return False
    repository.note_deleted_trial(session, run_id)
    return bool(delete_runs(session, [run_id], shard=shard))


def delete_runs(session: DatabaseSession, run_ids: Iterable[str], *, shard: int) -> set[str]:
    """Delete runs with all their telemetry data, subtract them from the sums of the overview, and return their ids.

    Args:
        session: the session of the transaction.
        run_ids: the ids of the runs.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    stored = repository.lock_runs(session, run_ids)
    if not stored:
        return set()
    changes = Changes()
    latencies = repository.load_step_latencies(session, stored)
    for run_id, row in stored.items():
        changes.subtract(row, latencies.get(run_id, []))
    repository.delete_runs(session, stored)
    span_repository.delete_spans(session, [run_id for run_id, row in stored.items() if row.source == "otlp"])
    log_repository.delete_logs(session, stored)
    repository.delete_marks(session, stored)
    rollup_repository.apply(session, changes, shard)
    return set(stored)


def prune_oldest(
    session: DatabaseSession, before_us: int, *, after: StartKey | None, limit: int, shard: int
) -> PrunedBatch:
    """Delete up to `limit` runs that started before `before_us`, oldest first, with all their telemetry data.

    Args:
        session: the session of the transaction.
        before_us: a time in microseconds since 1970.
        after: the `reached` of the previous batch; None for the first batch.
        limit: the maximum number of runs.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    prefer_indexes(session)
    # Without `after`, PostgreSQL would read every index entry that was deleted and not yet vacuumed.
    candidates = list_oldest(session, AgentRunRow.started_at < before_us, after=after, limit=limit)
    if not candidates:
        return PrunedBatch()
    # The lock waits for a transaction that is writing such a run; the run may have a later start afterwards.
    locked = repository.lock_runs(session, [row.run_id for row in candidates])
    old = {run_id: row for run_id, row in locked.items() if row.started_at < before_us}
    spans = span_repository.count_spans(session, [run_id for run_id, row in old.items() if row.source == "otlp"])
    logs = log_repository.count_logs(session, old)
    rows = {
        row.run_id: row.items + spans.get(row.run_id, 0) + logs.get(row.run_id, 0)
        for row in candidates
        if row.run_id in old
    }
    taken = fitting(rows.items(), MAX_BATCH_ROWS)
    delete_runs(session, taken, shard=shard)
    passed = candidates[-1] if len(taken) == len(rows) else _last_of(candidates, taken)
    return PrunedBatch(
        set(taken),
        sum(spans.get(run_id, 0) for run_id in taken),
        sum(logs.get(run_id, 0) for run_id in taken),
        (passed.started_at, passed.run_id),
    )


def find_waiting_logs(session: DatabaseSession, before_us: int, *, after: str, limit: int) -> list[str]:
    """Return the ids of traces that have log records but no run, in ascending order.

    Args:
        session: the session of the transaction.
        before_us: only traces whose newest record was received before this time, in microseconds since 1970.
        after: only ids greater than this id.
        limit: the maximum number of ids.
    """
    return [trace_id for trace_id, _ in log_repository.list_waiting(session, before_us, after=after, limit=limit)]


def prune_waiting_logs(session: DatabaseSession, before_us: int, trace_ids: Sequence[str]) -> int:
    """Delete the log records of those traces in `trace_ids` that still have no run; return the number of records.

    A trace is skipped if one of its records was received at or after `before_us`, in microseconds since 1970.
    """
    found = log_repository.list_waiting(session, before_us, limit=len(trace_ids), among=trace_ids)
    log_repository.delete_logs(session, [trace_id for trace_id, _ in found])
    return sum(count for _, count in found)


def count_runs(session: DatabaseSession, before_us: int) -> int:
    """Return the number of runs that started before `before_us`, in microseconds since 1970."""
    return session.execute(select(func.count()).where(AgentRunRow.started_at < before_us)).scalar_one()


def count_logs(session: DatabaseSession, before_us: int) -> int:
    """Return the number of log records that `prune` would delete; the query reads every log record.

    These are the records of runs that started before `before_us`, in microseconds since 1970. The records of a trace
    without a run are counted if the newest of them was received before `before_us`.
    """
    old = select(AgentRunRow.run_id).where(AgentRunRow.started_at < before_us)
    of_runs = session.execute(select(func.count()).where(LogRecordRow.trace_id.in_(old))).scalar_one()
    return of_runs + log_repository.count_waiting(session, before_us)


def count_spans(session: DatabaseSession, before_us: int) -> int:
    """Return the number of raw spans of the runs that started before `before_us`, in microseconds since 1970.

    The query reads every span.
    """
    old = select(AgentRunRow.run_id).where(AgentRunRow.started_at < before_us)
    return session.execute(select(func.count()).where(SpanRow.trace_id.in_(old))).scalar_one()


def prune_empty_sums(session: DatabaseSession, length_us: int, before_us: int, *, after_us: int) -> int | None:
    """Delete the stored sums of those buckets whose sums are zero; one call examines some of the buckets.

    A bucket is an hour or a minute; its sums include the runs that started in it.

    Args:
        session: the session of the transaction.
        length_us: the length of the buckets to examine, in microseconds: an hour or a minute.
        before_us: only buckets that end at or before this time are examined, in microseconds since 1970.
        after_us: only buckets that start after this time are examined, in microseconds since 1970. In the first call
            it is -1, in each further call the result of the call before.

    Returns:
        The start of the last examined bucket, in microseconds since 1970; None if no bucket is left.
    """
    # A run that one process adds and another one subtracts leaves rows of two shards that add up to zero.
    table = table_of(RunRollupRow).c
    statement = (
        select(table.started_at, table.shard, table.data)
        .where(table.length_us == length_us, table.started_at > after_us, table.started_at <= before_us - length_us)
        .order_by(table.started_at, table.shard)
        .limit(_SUMS_PER_TRANSACTION)
    )
    # Sorted, because all writers lock the rows in this order.
    rows = list(session.execute(statement.with_for_update()))
    buckets = [(start, list(group)) for start, group in groupby(rows, key=lambda row: row.started_at)]
    is_end = len(rows) < _SUMS_PER_TRANSACTION
    if not is_end:
        # The last bucket may be incomplete, so the next transaction starts with it.
        buckets.pop()
    # Delete only the rows that were read: a writer may have added a row of another shard since.
    empty = [(row.started_at, row.shard) for _, group in buckets if _is_nothing(group) for row in group]
    for keys in chunks(empty):
        session.execute(
            delete(table_of(RunRollupRow)).where(
                table.length_us == length_us, tuple_(table.started_at, table.shard).in_(keys)
            )
        )
    return None if is_end else buckets[-1][0]


def _last_of(candidates: list[SizedRun], taken: list[str]) -> SizedRun:
    wanted = taken[-1]
    return next(row for row in candidates if row.run_id == wanted)


def _is_nothing(rows: Iterable[Any]) -> bool:
    total = Sums()
    for row in rows:
        total.add(Sums.read(row.data))
    if any(any(entry) for entry in total.runs.values()) or any(total.latencies.values()):
        return False
    # Compare only the sum of all failures: beyond 500 tools, a bucket counts them under one common name.
    return sum(total.failures.values()) == 0
