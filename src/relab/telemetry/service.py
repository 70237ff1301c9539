"""Use cases of telemetry: store, read, delete and aggregate agent runs.

Functions import the modules that a list of runs does not need, so that a command that lists runs starts fast.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Literal

from pydantic_core import from_json

from relab.telemetry import repository
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.headers import header_of
from relab.telemetry.models import ITEM_KINDS, AgentRun, IngestReceipt, RunPage, TimelinePage
from relab.telemetry.parts import TelemetryParts

if TYPE_CHECKING:
    from pathlib import Path

    from relab.core.clock import Clock
    from relab.jobs.queue import JobQueue
    from relab.storage import Database
    from relab.telemetry.export.service import ExportWhat, RunExport
    from relab.telemetry.log_models import LogLine
    from relab.telemetry.models import RunContent, RunFilter, RunHeader
    from relab.telemetry.otlp.reported_usage import ReportedUsage
    from relab.telemetry.otlp_models import Encoding, LogRecordPage, OtlpReceipt, SpanPage
    from relab.telemetry.overview_models import MetricsOverview
    from relab.telemetry.past_models import PastRun
    from relab.telemetry.prices.models import PriceTable
    from relab.telemetry.retention import PruneCounts
    from relab.telemetry.tables import StoredItem, StoredRun

RUNS_PER_VERSION = 200
DELETED_JOB = "telemetry.run_deleted"
LABEL_JOB = "telemetry.label"
BEHAVIOURS_JOB = "telemetry.behaviours"
REMAP_JOB = "telemetry.remap"
PRUNE_BATCH: Final = 200
"""Runs per transaction. With 10 spans per run, a transaction holds SQLite's write lock for about 40 ms."""
EXACT_STEPS = 2_000
"""Up to this number of steps in the window, the percentile in the overview is exact; above it, within 1 %."""


def usage_of_exports(
    exports: Iterable[tuple[bytes, Encoding]], *, from_us: int = 0, prices: PriceTable | None = None
) -> ReportedUsage:
    """Return the tokens and cost in OTLP requests; the arguments are those of `reported_usage.usage_of_exports`."""
    from relab.telemetry.otlp import reported_usage

    return reported_usage.usage_of_exports(exports, from_us=from_us, prices=prices)


class TelemetryService(TelemetryParts):
    """Stores and reads agent runs, spans and log records.

    The methods `submit_*` store data in group commits. They need the intake, which only a server starts.
    """

    def __init__(self, database: Database, clock: Clock, queue: JobQueue, *, prices_folder: Path | None = None) -> None:
        super().__init__(database, clock, queue, remap_job=REMAP_JOB, prices_folder=prices_folder)

    def ingest(self, run: AgentRun) -> IngestReceipt:
        """Store a run, or replace the stored run with the same id; the run is durable when this returns.

        If the stored run has the same content, it is not changed, so that it keeps its failure category.

        Raises:
            SourceConflictError: a run with this id was received as OTLP spans.
        """
        from relab.telemetry.ingest.posted import PostedRun

        [receipt] = self._intake.write([PostedRun.of(run)])
        if isinstance(receipt, Exception):
            raise receipt
        assert isinstance(receipt, IngestReceipt)
        return receipt

    def ingest_otlp(self, signal: Literal["traces", "logs"], body: bytes, encoding: Encoding) -> OtlpReceipt:
        """Store the spans or the log records of the OTLP request `body`; the accepted ones are then durable.

        Raises:
            MalformedBodyError, TooLargeError: the request cannot be read.
        """
        from relab.telemetry.ingest.otlp_requests import read_request
        from relab.telemetry.otlp_models import OtlpReceipt

        [receipt] = self._intake.write([read_request(signal, body, encoding)])
        assert isinstance(receipt, OtlpReceipt)
        return receipt

    def start_intake(self, on_commit: Callable[[int, float], None]) -> None:
        """Start to accept submissions; `on_commit(number of rows, seconds)` is called after each group commit."""
        self._intake.start(on_commit)

    def stop_intake(self) -> None:
        """Stop to accept submissions, and commit those that were accepted."""
        self._intake.stop()

    @property
    def waiting_spans(self) -> int:
        """The number of decoded rows, such as spans and steps, that wait for a commit that has not begun."""
        return self._intake.waiting

    def submit_run(self, body: Callable[[], bytes]) -> Future[IngestReceipt]:
        """Queue a run for the next group commit; return a future of its receipt, which is done when the run is durable.

        `body` returns the run's JSON; it is called on another thread. If the run is invalid or cannot be stored, the
        future has the error.

        Raises:
            WriterStoppedError: the intake has not been started, or was stopped.
        """
        from relab.telemetry.ingest.posted import PostedRun
        from relab.telemetry.ingest.reading import read_agent_run

        return self._intake.submit(lambda: PostedRun.of(read_agent_run(body())))

    def submit_otlp(
        self, signal: Literal["traces", "logs", "metrics"], body: Callable[[], bytes], encoding: Encoding
    ) -> Future[OtlpReceipt]:
        """Queue an OTLP request for the next group commit; return a future of its receipt.

        The future is done when all accepted spans or log records are durable; metrics are counted, but not stored. It
        fails with `MalformedBodyError`, `TooLargeError` or `DatabaseUnavailableError`. `body` returns the bytes of the
        request; it is called on another thread.

        Raises:
            WriterStoppedError: the intake has not been started, or was stopped.
        """
        from relab.telemetry.ingest.otlp_requests import count_metrics, read_request

        if signal == "metrics":
            return self._intake.read(lambda: count_metrics(body(), encoding))
        return self._intake.submit(lambda: read_request(signal, body(), encoding))

    def get(self, agent_run_id: str) -> RunHeader:
        """Return one run without its timeline.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
        """
        with self.projector.reading(agent_run_id) as session:
            run = repository.get_run(session, agent_run_id)
        if run is None:
            raise AgentRunNotFoundError(agent_run_id)
        return header_of(run, self._usable_prices)

    def get_content(self, agent_run_id: str) -> RunContent:
        """Return the hash of the run's current content, and the time when a run with this id was first received.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
        """
        with self.projector.reading(agent_run_id) as session:
            content = repository.get_content(session, agent_run_id)
        if content is None:
            raise AgentRunNotFoundError(agent_run_id)
        return content

    def load(self, agent_run_id: str) -> tuple[AgentRun, str]:
        """Return one run with its complete timeline, and the hash of its content; both are read in one transaction.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
        """
        run, items, _ = self._items_of(agent_run_id)
        # Sort each list into the order in which it was sent; the lists of a trace are in the order of the timeline.
        items.sort(key=lambda item: item.position)
        lists = {
            kind.list_name: [from_json(item.data) for item in items if item.kind == index]
            for index, kind in enumerate(ITEM_KINDS)
        }
        return AgentRun.model_validate({**from_json(run.data), **lists}), run.content_hash

    def list_runs(self, run_filter: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        """Return a page of runs, newest first.

        Raises:
            InvalidCursorError: the cursor does not have the form of a cursor of this list.
        """
        read = functools.partial(repository.list_runs, run_filter=run_filter, cursor=cursor, limit=limit)
        runs, next_cursor = self.projector.read_page(read, run_filter.started_after_us or 0)
        # The prices are read only if a run needs them, and then once for the whole page.
        prices = functools.cache(self._usable_prices)
        return RunPage(items=[header_of(run, prices) for run in runs], next_cursor=next_cursor)

    def timeline(self, agent_run_id: str, *, cursor: str | None = None, limit: int = 1_000) -> TimelinePage:
        """Return a page of a run's timeline, oldest first.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
            InvalidCursorError: the cursor does not have the form of a cursor of a timeline.
        """
        from relab.telemetry.timeline import present

        run, items, next_cursor = self._items_of(agent_run_id, cursor, limit)
        shown = [present(item) for item in items]
        return TimelinePage(run_id=agent_run_id, items=shown, total=run.counts.items, next_cursor=next_cursor)

    def timeline_json(self, agent_run_id: str, *, cursor: str | None = None, limit: int = 1_000) -> bytes:
        """Return the same page as `timeline`, as the JSON of a `TimelinePage`; this is three times as fast.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
            InvalidCursorError: the cursor does not have the form of a cursor of a timeline.
        """
        from relab.telemetry.timeline import page_json

        run, items, next_cursor = self._items_of(agent_run_id, cursor, limit)
        return page_json(agent_run_id, items, run.counts.items, next_cursor)

    def _items_of(
        self, agent_run_id: str, cursor: str | None = None, limit: int | None = None
    ) -> tuple[StoredRun, list[StoredItem], str | None]:
        """Return a run, a page of its timeline and the cursor of the next page, all read in one transaction.

        If `limit` is None, the page is the whole timeline.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
            InvalidCursorError: the cursor does not have the form of a cursor of a timeline.
        """
        with self.projector.reading(agent_run_id) as session:
            run = repository.get_run(session, agent_run_id)
            if run is None:
                raise AgentRunNotFoundError(agent_run_id)
            return run, *repository.list_items(session, agent_run_id, cursor=cursor, limit=limit)

    def spans(self, agent_run_id: str, *, cursor: str | None = None, limit: int = 500) -> SpanPage:
        """Return a page of a run's spans, ordered by span id; the page is empty if the run was posted as JSON.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
            InvalidCursorError: the cursor does not have the form of a cursor of a list of spans.
        """
        from relab.telemetry.otlp.json_encoding import span_to_json
        from relab.telemetry.otlp_models import SpanPage
        from relab.telemetry.received import span_repository
        from relab.telemetry.received.span_tables import SpanOriginRow

        with self._database.read() as session:
            repository.require_run(session, agent_run_id)
            rows, next_cursor = span_repository.list_spans(session, agent_run_id, cursor=cursor, limit=limit)
            origins = span_repository.load_origins(session, SpanOriginRow, [agent_run_id])
        items = [{**span_to_json(raw), **origins[origin]} for origin, raw in rows]
        return SpanPage(run_id=agent_run_id, items=items, next_cursor=next_cursor)

    def logs(self, agent_run_id: str, *, cursor: str | None = None, limit: int = 500) -> LogRecordPage:
        """Return a page of the log records of a run's trace, oldest first.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
            InvalidCursorError: the cursor does not have the form of a cursor of a list of log records.
        """
        from relab.telemetry.otlp.json_encoding import log_to_json
        from relab.telemetry.otlp_models import LogRecordPage
        from relab.telemetry.received import log_repository, span_repository
        from relab.telemetry.received.log_tables import LogOriginRow

        with self._database.read() as session:
            repository.require_run(session, agent_run_id)
            rows, next_cursor = log_repository.list_logs(session, agent_run_id, cursor=cursor, limit=limit)
            origins = span_repository.load_origins(session, LogOriginRow, [agent_run_id]) if rows else {}
        items = [{**log_to_json(raw), **origins[origin]} for origin, raw in rows]
        return LogRecordPage(run_id=agent_run_id, items=items, next_cursor=next_cursor)

    def log_lines(self, agent_run_id: str) -> list[LogLine]:
        """Return the warnings and errors in the log of a run's trace, oldest first, at most 500 (`MAX_LINES`)."""
        from relab.telemetry.otlp.logs import read_lines
        from relab.telemetry.received import log_repository

        with self._database.read() as session:
            return read_lines(log_repository.list_lines(session, agent_run_id))

    def delete(self, agent_run_id: str) -> None:
        """Delete a run with all its telemetry data: its timeline, spans and log records.

        A job then deletes the data that other parts of relab store for the run, such as analyses.

        Raises:
            AgentRunNotFoundError: there is no run with this id.
        """
        from relab.telemetry.retention import delete_by_person

        with self._database.write() as unit:
            if not delete_by_person(unit.session, agent_run_id, shard=self._shard):
                raise AgentRunNotFoundError(agent_run_id)
            self._queue.enqueue(unit, DELETED_JOB, {"run_id": agent_run_id, "deleted_at": self._clock.now_us()})

    def prune(self, before_us: int, *, batch: int = PRUNE_BATCH) -> Iterator[PruneCounts]:
        """Delete the runs that started before `before_us`, oldest first; yield the counts of each transaction.

        Then delete the log records of traces without a run, if the newest record of the trace was received before
        `before_us`. The iteration may stop at any time; the next call continues. `before_us` is in microseconds since
        1970. A transaction deletes at most `batch` runs.
        """
        from relab.telemetry import retention
        from relab.telemetry.overview.rollups import BUCKET_LENGTHS_US

        reached = None
        while True:
            began = time.monotonic()
            with self._database.write() as unit:
                done = retention.prune_oldest(unit.session, before_us, after=reached, limit=batch, shard=self._shard)
                if done.run_ids:
                    self._queue.enqueue(
                        unit, DELETED_JOB, {"run_ids": sorted(done.run_ids), "deleted_at": self._clock.now_us()}
                    )
            reached = done.reached
            if reached is None:
                break
            yield done.counts
            if self._database.is_sqlite:
                # SQLite has one write lock and no queue for it: waiting as long as the lock was held lets other
                # writers acquire it.
                time.sleep(time.monotonic() - began)
        yield from self._prune_waiting_logs(before_us, batch)
        for length_us in BUCKET_LENGTHS_US:
            after: int | None = -1
            while after is not None:
                with self._database.write(durable=False) as unit:
                    after = retention.prune_empty_sums(unit.session, length_us, before_us, after_us=after)

    def _prune_waiting_logs(self, before_us: int, batch: int) -> Iterator[PruneCounts]:
        from relab.telemetry import retention

        waiting: list[str] = [""]
        while True:
            # Not in the transaction that deletes: the search reads every record, and must not hold SQLite's write lock.
            with self._database.read() as session:
                waiting = retention.find_waiting_logs(session, before_us, after=waiting[-1], limit=batch)
            if not waiting:
                return
            with self._database.write() as unit:
                logs = retention.prune_waiting_logs(unit.session, before_us, waiting)
            yield retention.PruneCounts(logs=logs)

    def count_prunable(self, before_us: int, *, with_spans: bool = True) -> PruneCounts:
        """Return how many runs, spans and log records `prune` would delete; the query reads each span and log record.

        If `with_spans` is false, only the runs are counted. `before_us` is in microseconds since 1970.
        """
        from relab.telemetry import retention

        with self.projector.reading() as session:
            runs = retention.count_runs(session, before_us)
            if not with_spans:
                return retention.PruneCounts(runs)
            spans, logs = retention.count_spans(session, before_us), retention.count_logs(session, before_us)
            return retention.PruneCounts(runs, spans, logs)

    def export(self, run_filter: RunFilter, what: ExportWhat = "runs") -> RunExport:
        """Return an export of the runs that match the filter, or of their timeline items, spans or log records.

        Use the export as a context manager; it reads no runs before the `with` block begins.
        """
        from relab.telemetry.export.service import RunExport

        reading = functools.partial(self.projector.reading, from_us=run_filter.started_after_us or 0)
        return RunExport(self._database, reading, run_filter, what, self.prices.usable())

    def history(self, run: AgentRun) -> list[PastRun]:
        """Return the runs of two versions of an agent, oldest first: the version of `run` and the previous version.

        For each version, the newest 200 runs are returned that started no later than `run`, which may be one of them.
        The list is empty if `run` names no version, if no previous version is stored, or if `run` is a trial of an
        experiment: the variants of an experiment run side by side, so that none of them is a previous version.
        """
        from relab.telemetry import trial_runs, version_repository
        from relab.telemetry.records import version_key

        if trial_runs.is_trial(run) or (run.agent_version is None and run.prompt_hash is None):
            return []
        key = version_key(run.agent_name, run.environment, run.agent_version, run.prompt_hash)
        with self.projector.reading() as session:
            return version_repository.list_two_versions(session, run, key, RUNS_PER_VERSION)

    def overview(self, hours: float) -> MetricsOverview:
        """Return the metrics of the runs that started in the last `hours` hours; partial minutes count as whole ones.

        After a burst of spans, some runs may be missing or have old values; `unprojected_runs` is their number.
        """
        from relab.telemetry.overview import rollup_repository
        from relab.telemetry.overview.rollups import HOUR_US, window

        now = self._clock.now_us()
        since = max(now - int(hours * HOUR_US), 0)
        ranges = window(since, now)
        with self.projector.reading_sums(ranges[0][1]) as (session, unprojected):
            sums = rollup_repository.read(session, ranges)
            latencies_ms = None
            if 0 < sums.step_count <= EXACT_STEPS:
                latencies_ms = repository.list_step_latencies(session, ranges[0][1], ranges[-1][2])
        return sums.overview(self.prices.usable(), latencies_ms, unprojected_runs=unprojected)
