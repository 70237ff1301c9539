"""Use cases of telemetry: take runs in, show them, delete them, sum them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from relab.core.clock import Clock
from relab.core.json import digest
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.telemetry import repository
from relab.telemetry.errors import AgentRunNotFoundError, SourceConflictError
from relab.telemetry.models import (
    AgentRun,
    FailingTool,
    IngestReceipt,
    MetricsOverview,
    RunContent,
    RunCounts,
    RunFilter,
    RunHeader,
    RunPage,
    RunStatus,
    RunSummary,
    StepStatus,
    TimelinePage,
)
from relab.telemetry.timeline import place, present

RUNS_PER_VERSION = 200
MAX_SEARCH_TEXT = 8_000
DELETED_JOB = "telemetry.run_deleted"
HOUR_US = 3_600_000_000
_LISTS = ("steps", "tool_calls", "guardrail_events")


class TelemetryService:
    """Agent runs, stored and read back. Holds no state of its own."""

    def __init__(self, database: Database, clock: Clock, queue: JobQueue) -> None:
        self._database = database
        self._clock = clock
        self._queue = queue

    def ingest(self, run: AgentRun) -> IngestReceipt:
        """Store a run, replacing one of the same id whole; durable when this returns.

        A run that is posted again unchanged stays as it is, with the cause found for it.

        Raises:
            SourceConflictError: the id is that of a run which came in as OTLP spans.
        """
        now = self._clock.now_us()
        body = run.model_dump(mode="json", exclude_unset=True)
        content_hash = digest(body)
        counts = RunCounts(
            steps=len(run.steps), tool_calls=len(run.tool_calls), guardrail_events=len(run.guardrail_events)
        )
        values = _run_values(run, body, counts, content_hash, now)
        items = [_item_values(run.run_id, placed, body) for placed in place(run)]
        with self._database.write() as unit:
            stored = repository.lock_run(unit.session, run.run_id)
            if stored is not None:
                source, stored_hash = stored
                if source != "json":
                    raise SourceConflictError(
                        f"The run {run.run_id!r} was received as OTLP spans and cannot be replaced by JSON.",
                        remedy="Post it under another run_id.",
                    )
                if stored_hash == content_hash:
                    return IngestReceipt(run_id=run.run_id, created=False, content_hash=content_hash, counts=counts)
            created = repository.upsert_run(unit.session, values) and stored is None
            repository.replace_items(unit.session, run.run_id, items)
        return IngestReceipt(run_id=run.run_id, created=created, content_hash=content_hash, counts=counts)

    def get(self, agent_run_id: str) -> RunHeader:
        """Return one run without its timeline.

        Raises:
            AgentRunNotFoundError: there is none of that id.
        """
        with self._database.read() as session:
            row = repository.get_run(session, agent_run_id)
        if row is None:
            raise AgentRunNotFoundError(agent_run_id)
        return _header(row)

    def get_content(self, agent_run_id: str) -> RunContent:
        """Return what identifies the run's present content, and since when there is a run of that id.

        Raises:
            AgentRunNotFoundError: there is none of that id.
        """
        with self._database.read() as session:
            content = repository.get_content(session, agent_run_id)
        if content is None:
            raise AgentRunNotFoundError(agent_run_id)
        return content

    def load(self, agent_run_id: str) -> tuple[AgentRun, str]:
        """Return one run whole, as it was sent, and its content hash, both of one moment.

        Raises:
            AgentRunNotFoundError: there is none of that id.
        """
        with self._database.read() as session:
            row = repository.get_run(session, agent_run_id)
            if row is None:
                raise AgentRunNotFoundError(agent_run_id)
            rows, _ = repository.list_items(session, agent_run_id)
        rows.sort(key=lambda item: (item.kind, item.position))
        lists = {name: [item.data for item in rows if item.kind == kind] for kind, name in enumerate(_LISTS)}
        return AgentRun.model_validate({**row.data, **lists}), row.content_hash

    def list_runs(self, run_filter: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        """Return a page of runs, newest first.

        Raises:
            InvalidCursorError: the cursor is not one of this list.
        """
        with self._database.read() as session:
            rows, next_cursor = repository.list_runs(session, run_filter, cursor=cursor, limit=limit)
        return RunPage(items=[_header(row) for row in rows], next_cursor=next_cursor)

    def timeline(self, agent_run_id: str, *, cursor: str | None = None, limit: int = 1_000) -> TimelinePage:
        """Return a page of a run's timeline, oldest first.

        Raises:
            AgentRunNotFoundError: there is no run of that id.
            InvalidCursorError: the cursor is not one of a timeline.
        """
        with self._database.read() as session:
            run = repository.get_run(session, agent_run_id)
            if run is None:
                raise AgentRunNotFoundError(agent_run_id)
            rows, next_cursor = repository.list_items(session, agent_run_id, cursor=cursor, limit=limit)
        return TimelinePage(
            run_id=agent_run_id,
            items=[present(row.at, row.kind, row.ref_id, row.data) for row in rows],
            total=run.step_count + run.tool_call_count + run.guardrail_event_count,
            next_cursor=next_cursor,
        )

    def delete(self, agent_run_id: str) -> None:
        """Delete a run and its timeline; what other contexts hold of it follows by a job.

        Raises:
            AgentRunNotFoundError: there is none of that id.
        """
        with self._database.write() as unit:
            if not repository.delete_run(unit.session, agent_run_id):
                raise AgentRunNotFoundError(agent_run_id)
            self._queue.enqueue(unit, DELETED_JOB, {"run_id": agent_run_id, "deleted_at": self._clock.now_us()})

    def label(self, agent_run_id: str, content_hash: str, category: str) -> bool:
        """Note the cause found for a run; return False when the run is gone or has changed since."""
        # Not waited for: the job that asks for it is repeated unless both are on disk.
        with self._database.write(durable=False) as unit:
            return repository.set_category(unit.session, agent_run_id, content_hash, category)

    def history(self, run: AgentRun) -> list[RunSummary]:
        """Return what a comparison of the run's version with the one before it needs, oldest first.

        These are the newest runs of both versions that started by the start of this run (which
        is among them when it is stored). The version before is that of the newest run of the same
        agent and environment before this version's first run. Empty when the run names no
        version, or there was none before.
        """
        if run.agent_version is None and run.prompt_hash is None:
            return []
        key = _version_key(run)
        with self._database.read() as session:
            first = repository.first_start(session, key, run.started_at)
            before = run.started_at if first is None else first
            previous = repository.version_before(session, run.agent_name, run.environment, before)
            if previous is None:
                return []
            rows = [
                *repository.list_version(session, key, run.started_at, RUNS_PER_VERSION),
                *repository.list_version(session, previous, run.started_at, RUNS_PER_VERSION),
            ]
        rows.sort(key=lambda row: (row.started_at, row.run_id))
        return [
            RunSummary(
                run_id=row.run_id,
                agent_version=row.agent_version,
                prompt_hash=row.prompt_hash,
                started_at=row.started_at,
                status=RunStatus(row.status),
                step_count=row.step_count,
                tool_call_counts={tool: calls for tool, (calls, _) in row.tool_stats.items()},
            )
            for row in rows
        ]

    def overview(self, hours: float) -> MetricsOverview:
        """Return the figures of the runs that started within the last `hours` by this clock."""
        now = self._clock.now_us()
        since = max(now - int(hours * HOUR_US), 0)
        with self._database.read() as session:
            by_status = repository.count_by_status(session, since, now)
            failures: Counter[str] = Counter()
            for stats in repository.iter_tool_stats(session, since, now):
                failures.update({tool: failed for tool, (_, failed) in stats.items() if failed})
            p95 = repository.step_latency_quantile(session, since, now, 0.95)
        succeeded = by_status.get(RunStatus.SUCCESS, (0, 0.0))[0]
        ended = succeeded + by_status.get(RunStatus.FAILURE, (0, 0.0))[0]
        # Ties are broken by name, so that the same data always gives the same list.
        top = sorted(failures.items(), key=lambda item: (-item[1], item[0]))[:10]
        return MetricsOverview(
            total_runs=sum(count for count, _ in by_status.values()),
            success_rate=round(100 * succeeded / ended, 2) if ended else None,
            top_failing_tools=[FailingTool(tool=tool, count=count) for tool, count in top],
            p95_step_latency_ms=p95,
            total_cost_usd=round(sum(cost for _, cost in by_status.values()), 6),
        )


def _run_values(run: AgentRun, body: dict[str, Any], counts: RunCounts, content_hash: str, now: int) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "source": "json",
        "agent_name": run.agent_name,
        "agent_version": run.agent_version,
        "model": run.model,
        "environment": run.environment,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "status": run.status,
        "task_id": run.task_id,
        "prompt_hash": run.prompt_hash,
        "version_key": _version_key(run),
        "total_cost_usd": run.cost.total_cost_usd if run.cost else None,
        "category": None,
        "step_count": counts.steps,
        "tool_call_count": counts.tool_calls,
        "guardrail_event_count": counts.guardrail_events,
        "tool_stats": _tool_stats(run),
        "search_text": _search_text(run),
        "content_hash": content_hash,
        "data": {name: value for name, value in body.items() if name not in _LISTS},
        "received_at": now,
        "updated_at": now,
    }


def _version_key(run: AgentRun) -> str:
    """Identify agent, environment, version and prompt together, in a length that an index can hold."""
    return digest([run.agent_name, run.environment, run.agent_version, run.prompt_hash])


def _item_values(agent_run_id: str, placed: Any, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": agent_run_id,
        "kind": placed.kind,
        "ref_id": placed.ref_id,
        "at": placed.at,
        "position": placed.position,
        "latency_ms": placed.latency_ms,
        "data": body[_LISTS[placed.kind]][placed.position],
    }


def _tool_stats(run: AgentRun) -> dict[str, list[int]]:
    stats: dict[str, list[int]] = {}
    for call in run.tool_calls:
        entry = stats.setdefault(call.tool_name, [0, 0])
        entry[0] += 1
        entry[1] += call.status is StepStatus.FAILURE
    return stats


def _search_text(run: AgentRun) -> str:
    """Join what people search for, most telling first, cut at a fixed length."""

    def parts() -> Iterator[str | None]:
        yield from (run.run_id, run.agent_name, run.error_type, run.error_message, run.trace_id, run.task_id)
        yield from run.correlation_ids
        for call in run.tool_calls:
            if call.status is StepStatus.FAILURE:
                yield from (call.tool_name, call.error_class, call.error_message)
        for step in run.steps:
            if step.status is StepStatus.FAILURE:
                yield from (step.name, step.error_class, step.error_message)
        for event in run.guardrail_events:
            yield from (event.type, event.message)

    taken: dict[str, None] = {}
    length = 0
    for part in parts():
        if part and part not in taken:
            taken[part] = None
            length += len(part) + 1
            if length >= MAX_SEARCH_TEXT:
                break
    return "\n".join(taken)[:MAX_SEARCH_TEXT].lower()


def _header(row: Any) -> RunHeader:
    known = {
        "run_id": row.run_id,
        "source": row.source,
        "agent_name": row.agent_name,
        "agent_version": row.agent_version,
        "model": row.model,
        "environment": row.environment,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "status": RunStatus(row.status),
        "error_type": row.data.get("error_type"),
        "error_message": row.data.get("error_message"),
        "trace_id": row.data.get("trace_id"),
        "correlation_ids": row.data.get("correlation_ids", []),
        "task_id": row.task_id,
        "prompt_hash": row.prompt_hash,
        "cost": row.data.get("cost"),
        "category": row.category,
        "counts": RunCounts(
            steps=row.step_count, tool_calls=row.tool_call_count, guardrail_events=row.guardrail_event_count
        ),
        "content_hash": row.content_hash,
        "received_at": row.received_at,
        "updated_at": row.updated_at,
    }
    # Unknown run fields come back beside the known ones, which they can never replace.
    extra = {name: value for name, value in row.data.items() if name not in known}
    return RunHeader.model_validate({**extra, **known})
