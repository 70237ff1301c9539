"""Recompute (remap) stored runs that an older version of relab computed, and mark runs without an end as incomplete.

Runs are recomputed oldest first, in batches so small that other writers hardly wait. The process may stop at any time,
even by `kill -9`: a run is never stored in part. The next start continues, because each run stores the version that
computed it. Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from sqlalchemy import func, null, or_, select
from sqlalchemy.sql.elements import ColumnElement

from relab.core.clock import format_time
from relab.core.json import canonical_json, digest
from relab.storage.planner import prefer_indexes
from relab.storage.session import DatabaseSession
from relab.telemetry import repository
from relab.telemetry.batches import MAX_BATCH_ITEMS, SizedRun, StartKey, fitting, list_oldest
from relab.telemetry.models import RunFields, RunStatus
from relab.telemetry.otlp.roles import MAPPER_VERSION
from relab.telemetry.outcome import OUTCOME_VERSION
from relab.telemetry.overview import rollup_repository
from relab.telemetry.overview.rollups import Changes, Contribution
from relab.telemetry.projection import projection_repository
from relab.telemetry.projection.stored_traces import UnprojectedTraces, project_stored
from relab.telemetry.received import log_repository
from relab.telemetry.records import (
    RunRecord,
    activities_in,
    decide,
    outcome_columns,
    run_record,
    step_latencies_ms,
    token_usage,
)
from relab.telemetry.search_repository import collect
from relab.telemetry.tables import AgentRunRow, FormerRun, ItemKey, StoredItem, StoredRun


@dataclass(frozen=True, slots=True)
class RemapCounts:
    """The numbers of runs that were recomputed (remapped), because an older version of relab had computed them.

    Attributes:
        runs: the number of all recomputed runs, changed or not.
        projected: the number of recomputed runs whose content is different now.
        outcomes: the number of recomputed runs whose outcome is different now.
        skipped: the number of runs, not included in `runs`, that could not be recomputed; they stay outdated.
    """

    runs: int = 0
    projected: int = 0
    outcomes: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class RemappedBatch:
    """The result of a transaction that recomputed outdated runs (computed by an older version of relab).

    `reached` is the `(start, id)` of the last run, to pass as `after` for the next batch. It is None if there was no
    outdated run.
    """

    counts: RemapCounts
    reached: StartKey | None


def count_outdated(session: DatabaseSession, since_us: int) -> int:
    """Return the number of outdated runs (computed by an older version of relab) that started at or after `since_us`.

    `since_us` is in microseconds since 1970.
    """
    return session.execute(select(func.count()).select_from(AgentRunRow).where(*_outdated(since_us))).scalar_one()


def remap_oldest(
    session: DatabaseSession, since_us: int, *, after: StartKey | None, limit: int, now_us: int, shard: int
) -> RemappedBatch:
    """Recompute up to `limit` outdated runs (computed by an older version of relab), oldest first.

    Args:
        session: the session of the transaction.
        since_us: runs that started before this time, in microseconds since 1970, are left unchanged.
        after: the `(start, id)` of the last run of the previous batch; None to begin with the oldest run.
        limit: the maximum number of runs.
        now_us: the current time, in microseconds since 1970.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    prefer_indexes(session)
    candidates = list_outdated(session, since_us, after, limit)
    if not candidates:
        return RemappedBatch(RemapCounts(), None)
    taken = fitting([(run.run_id, run.items) for run in candidates], MAX_BATCH_ITEMS)
    counts = _Remap(session, now_us).remap(taken, shard)
    return RemappedBatch(counts, (candidates[len(taken) - 1].started_at, taken[-1]))


def remap_runs(session: DatabaseSession, run_ids: list[str], *, now_us: int, shard: int) -> RemapCounts:
    """Recompute runs by the current rules; return the numbers of recomputed and changed runs.

    A run received as spans is computed from its spans again if new spans have arrived, or if an older version of relab
    computed it. For all other runs, only the outcome and the token counts are determined again.

    Args:
        session: the session of the transaction.
        run_ids: the ids of the runs.
        now_us: the current time, in microseconds since 1970.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    prefer_indexes(session)
    return _Remap(session, now_us).remap(run_ids, shard)


def end_traces(session: DatabaseSession, run_ids: list[str], recent: range, *, now_us: int, shard: int) -> int:
    """Set the status of running traces to `incomplete`; return the number of changed runs.

    A run is skipped if it was sent as JSON, or if it is not running. It is also skipped if its trace has received data
    recently.

    Args:
        session: the session of the transaction.
        run_ids: the ids of the runs.
        recent: a range of times, in microseconds since 1970. A trace has received data recently if its newest span or
            log record was received within this range.
        now_us: the current time, in microseconds since 1970.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    prefer_indexes(session)
    return _Remap(session, now_us).end(run_ids, recent, shard)


def write_projected(
    session: DatabaseSession, traces: UnprojectedTraces, records: Mapping[str, RunRecord], *, shard: int
) -> list[str]:
    """Write runs that were computed from their traces; return the ids of the runs that must be recomputed.

    If a trace has received data since `traces` was read, its run is not written, and must be recomputed. A run is
    skipped if it was deleted, or if another process has already computed it.

    Args:
        session: the session of the transaction.
        traces: the data from which the runs were computed.
        records: `{run id: computed run}`.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    return _Remap(session, 0).settle(traces, records, shard)


def leave_unprojected(session: DatabaseSession, run_id: str, *, shard: int) -> None:
    """Stop the attempts to compute a run from its newest spans, after an attempt failed.

    If the run was computed before, its content stays unchanged. Otherwise, it is stored as a running run of the agent
    `unknown`, with an empty timeline. The run is computed again when the trace receives more data, by `lab agent-runs
    remap`, or by the job that recomputes outdated runs.

    Args:
        session: the session of the transaction.
        run_id: the id of the run.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """
    former = repository.lock_runs(session, [run_id]).get(run_id)
    if former is None or not former.is_unprojected:
        return
    if former.is_counted:
        projection_repository.mark_projected(session, [run_id], None)
        return
    data = {
        "run_id": run_id,
        "agent_name": "unknown",
        "started_at": format_time(former.started_at),
        "status": RunStatus.RUNNING.value,
    }
    record = run_record(
        RunFields.model_validate(data),
        [],
        (),
        source="otlp",
        data=canonical_json(data),
        content_hash=digest(data),
        calls=(),
        search_parts=(),
    )
    _Remap(session, 0).settle(UnprojectedTraces({run_id: former}, {}, {}), {run_id: record}, shard)


class _Remap:
    """Recomputes runs in the transaction of `session`; writes the changed runs, timelines and sums of the overview."""

    def __init__(self, session: DatabaseSession, now_us: int) -> None:
        self._session = session
        self._now_us = now_us
        self._changes = Changes()
        self._replaced: list[dict[str, Any]] = []
        self._written: list[tuple[RunRecord, int]] = []
        self._decided: list[StoredRun] = []
        self._gone: list[ItemKey] = []
        self._new: list[StoredItem] = []
        self._changed_outcomes = 0

    def remap(self, run_ids: list[str], shard: int) -> RemapCounts:
        session = self._session
        # The lock waits for a transaction that is writing such a run.
        former = repository.lock_runs(session, run_ids)
        stored = repository.load_runs(session, former)
        items = repository.load_items(session, former)
        outdated = [
            run_id for run_id, run in former.items() if run.source == "otlp" and run.mapper_version != MAPPER_VERSION
        ]
        projected = project_stored(
            session,
            outdated,
            # A run is no longer incomplete after new spans.
            {
                run_id
                for run_id in outdated
                if former[run_id].status == RunStatus.INCOMPLETE and not former[run_id].is_unprojected
            },
        )
        for run_id, run in stored.items():
            record = projected.get(run_id)
            if record is None or record.row.content_hash == run.content_hash:
                self._decide(former[run_id], run, items.get(run_id, {}))
            else:
                self._replace(former[run_id], record, items.get(run_id, {}))
        self._flush(shard)
        return RemapCounts(len(stored), len(self._replaced), self._changed_outcomes)

    def end(self, run_ids: Iterable[str], recent: range, shard: int) -> int:
        session = self._session
        # The lock waits for a transaction that is adding spans to such a trace.
        former = {
            run_id: run
            for run_id, run in repository.lock_runs(session, run_ids).items()
            if run.source == "otlp" and run.status == RunStatus.RUNNING and run.updated_at not in recent
        }
        # A program that still writes log lines is alive, even if its next span is sent hours later.
        logs = log_repository.newest_received(session, former)
        talking = {run_id: at_us for run_id, at_us in logs.items() if at_us in recent}
        repository.set_updated_at(session, talking)
        quiet = former.keys() - talking.keys()
        items = repository.load_items(session, quiet)
        for run_id, record in project_stored(session, quiet, quiet).items():
            self._replace(former[run_id], record, items.get(run_id, {}))
        self._flush(shard)
        return len(quiet)

    def settle(self, traces: UnprojectedTraces, records: Mapping[str, RunRecord], shard: int) -> list[str]:
        current = repository.lock_runs(self._session, traces.former)
        unchanged, left = [], []
        for run_id, run in current.items():
            if not run.is_unprojected:
                continue
            former = traces.former[run_id]
            if run.version != former.version:
                left.append(run_id)
            elif records[run_id].row.content_hash == run.content_hash:
                unchanged.append(run_id)
            else:
                self._replace(run, records[run_id], traces.items.get(run_id, {}))
        projection_repository.mark_projected(self._session, unchanged, MAPPER_VERSION)
        self._flush(shard)
        return left

    def _flush(self, shard: int) -> None:
        session = self._session
        repository.replace_runs(session, self._replaced)
        repository.set_outcomes(session, self._decided)
        repository.delete_items(session, self._gone)
        repository.insert_items(session, self._new)
        collect(session, self._written)
        rollup_repository.apply(session, self._changes, shard)

    def _decide(self, former: FormerRun, run: StoredRun, items: Mapping[ItemKey, StoredItem]) -> None:
        """Decide the outcome of a run again and count its tokens again, by the current rules; collect the changes.

        All other columns of the run stay unchanged, including the failure category.

        Args:
            former: the run as it was stored before; the sums of the overview include its values.
            run: the stored row of the same run.
            items: the run's timeline.
        """
        fields = RunFields.model_validate(from_json(run.data))
        outcome = decide(fields, items.values(), activities_in(items.values()), source=run.source)
        mapper_version = MAPPER_VERSION if run.source == "otlp" else None
        decided = run._replace(
            **outcome_columns(outcome), mapper_version=mapper_version, token_usage=token_usage(fields)
        )
        self._decided.append(decided)
        # Compared as values: the texts may have their fields in another order. Latencies are equal, and not counted.
        before, after = (from_json(each.token_usage or "null") for each in (former, decided))
        if former.outcome != decided.outcome or before != after:
            self._changes.count(Contribution.of(former, []), -1)
            self._changes.count(Contribution.of(decided, []), 1)
        self._changed_outcomes += former.outcome != decided.outcome

    def _replace(self, former: FormerRun, record: RunRecord, items: Mapping[ItemKey, StoredItem]) -> None:
        wanted = {item.key: item for item in record.items}
        # An unprojected run was last written when its spans arrived: the quiet time of a trace counts from then.
        written_us = former.updated_at if former.is_unprojected else self._now_us
        self._replaced.append(record.columns(written_us, former))
        self._written.append((record, written_us))
        self._gone.extend([key for key, item in items.items() if wanted.get(key) != item])
        self._new.extend([item for key, item in wanted.items() if items.get(key) != item])
        self._changes.subtract(former, step_latencies_ms(items.values()))
        self._changes.count(Contribution.of(record.row, step_latencies_ms(record.items)), 1)
        self._changed_outcomes += former.outcome != record.row.outcome


def _outdated(since_us: int) -> tuple[ColumnElement[bool], ...]:
    return (
        AgentRunRow.started_at >= since_us,
        or_(
            AgentRunRow.outcome_version.is_distinct_from(OUTCOME_VERSION),
            AgentRunRow.token_usage.is_(null()),
            (AgentRunRow.source == "otlp") & AgentRunRow.mapper_version.is_distinct_from(MAPPER_VERSION),
        ),
    )


def list_outdated(session: DatabaseSession, since_us: int, after: StartKey | None, limit: int) -> list[SizedRun]:
    """Return at most `limit` outdated runs, oldest first.

    A run is outdated if an older version of relab computed it from spans, decided its outcome or counted its tokens. A
    run whose computation from spans failed is outdated, too.

    Args:
        session: the session of the transaction.
        since_us: only runs that started at or after this time, in microseconds since 1970.
        after: only runs after the run with this `(start, id)`; None for all.
        limit: the maximum number of runs.
    """
    return list_oldest(session, *_outdated(since_us), after=after, limit=limit)
