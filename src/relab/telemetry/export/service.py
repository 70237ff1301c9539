"""Export runs while other processes write.

The runs to export are selected once, at the start, and their ids are stored in a file on disk.
Then the runs are read in small groups, each in one short transaction. So every run that
matched at the start is exported once, complete and consistent; runs that are deleted meanwhile
are left out.

A larger export needs neither more memory nor a longer transaction. A transaction of minutes
would make SQLite's log and the number of PostgreSQL's dead rows grow.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Literal, Self

from relab.core.clock import format_time
from relab.storage import Database
from relab.storage.planner import prefer_indexes
from relab.storage.session import DatabaseSession
from relab.telemetry import repository
from relab.telemetry.export import export_repository
from relab.telemetry.export.export_rows import (
    ITEM_COLUMNS,
    LOG_COLUMNS,
    RUN_COLUMNS,
    SPAN_COLUMNS,
    item_row,
    json_text,
    log_row,
    run_row,
    span_row,
)
from relab.telemetry.export.parquet import write_parquet
from relab.telemetry.models import ITEM_KINDS, RunFilter
from relab.telemetry.otlp.json_request import Groups, logs_request_to_json, request_to_json
from relab.telemetry.prices import PriceTable
from relab.telemetry.received import span_repository
from relab.telemetry.received.log_tables import LogOriginRow
from relab.telemetry.received.span_tables import SpanOriginRow

ExportWhat = Literal["runs", "items", "spans", "logs"]

MAX_GROUP_RUNS = 200
MAX_GROUP_ITEMS = 5_000
"""The maximum number of timeline items per group; a run with more items is a group of its own."""

MAX_LINE_SPANS = 500
MAX_LINE_BYTES = 4 * 1_048_576
"""The maximum size of the packed spans or log records in one JSON line. A line can be sent again as one request, whose size is
limited."""


class RunExport:
    """An export of all runs that match a filter, as a context manager; it can be entered once.

    Attributes:
        total: the number of runs that match when the context is entered.
        on_progress: called after each group of runs, with the number of runs read so far.

    Args:
        database: the database to read.
        open_first: recomputes the runs that received new spans, and then opens a read transaction. The matching runs
            are selected in this transaction.
        run_filter: selects the runs.
        what: whether to export complete runs, their timeline items, their raw spans, or their log records.
        prices: the prices of models, for the estimated costs in Parquet rows of runs.
    """

    def __init__(
        self,
        database: Database,
        open_first: Callable[[], AbstractContextManager[DatabaseSession]],
        run_filter: RunFilter,
        what: ExportWhat,
        prices: PriceTable,
    ) -> None:
        self._database = database
        self._open_first = open_first
        self._filter = run_filter
        self._prices = prices
        self._what = what
        # A temporary file with the ids of the runs; the exit deletes it.
        self._ids: IO[str] | None = None
        self.total = 0
        self.on_progress: Callable[[int], object] = lambda _done: None

    def __enter__(self) -> Self:
        # A file, because the ids of ten million runs would take a gigabyte of memory.
        self._ids = tempfile.TemporaryFile("w+", encoding="utf-8")
        with self._open_first() as session:
            found = export_repository.iter_matching(session, self._filter, with_spans=self._what == "spans")
            for run_id, items in found:
                self._ids.write(f"{items} {json.dumps(run_id)}\n")
                self.total += 1
        return self

    def __exit__(self, *_: object) -> None:
        assert self._ids is not None
        self._ids.close()

    def lines(self) -> Iterator[str]:
        """Yield the export as lines of JSON.

        The content of a line depends on the exported kind:

        - `runs`: a run as `POST /agent-runs` accepts it, without empty lists
        - `items`: a timeline item with its run id, kind and time
        - `spans`: an OTLP `ExportTraceServiceRequest`, as the OpenTelemetry collector writes it to files
        - `logs`: an OTLP `ExportLogsServiceRequest`, in the same format
        """
        if self._what == "runs":
            return self._run_lines()
        if self._what == "items":
            return self._item_lines()
        if self._what == "spans":
            return self._request_lines(SpanOriginRow, export_repository.iter_spans, request_to_json)
        return self._request_lines(LogOriginRow, export_repository.iter_logs, logs_request_to_json)

    def write_parquet(self, path: Path) -> None:
        """Write the export as a Parquet file with one flat row for each run, timeline item, span or log record.

        Intermediate files are written to the same folder.

        Raises:
            ParquetUnavailableError: the optional dependency DuckDB is not installed.
            OSError: the file cannot be written, for example because the disk is full.
        """
        if self._what == "runs":
            write_parquet(path, RUN_COLUMNS, self._run_rows())
        elif self._what == "items":
            write_parquet(path, ITEM_COLUMNS, self._item_rows())
        elif self._what == "spans":
            write_parquet(path, SPAN_COLUMNS, self._span_rows())
        else:
            write_parquet(path, LOG_COLUMNS, self._log_rows())

    def _run_lines(self) -> Iterator[str]:
        for session, ids in self._groups():
            runs = repository.load_runs(session, ids)
            lists: dict[str, list[list[tuple[int, str]]]] = {run_id: [[], [], []] for run_id in runs}
            for item in export_repository.iter_items(session, ids):
                lists[item.run_id][item.kind].append((item.position, item.data))
            for run_id in ids:
                if run_id in runs:
                    yield _whole(runs[run_id].data, lists[run_id])

    def _item_lines(self) -> Iterator[str]:
        for session, ids in self._groups():
            for item in export_repository.iter_items(session, ids):
                head = {
                    "run_id": item.run_id,
                    "kind": ITEM_KINDS[item.kind].name.value,
                    "ref_id": item.ref_id,
                    "at": format_time(item.at),
                }
                yield f'{json_text(head)[:-1]},"data":{item.data}}}'

    def _request_lines(
        self,
        table: span_repository.OriginTable,
        items_of: Callable[[DatabaseSession, list[str]], Iterator[Any]],
        to_json: Callable[[Groups], dict[str, Any]],
    ) -> Iterator[str]:
        for session, ids in self._groups():
            origins = span_repository.load_origins(session, table, ids)
            for line in _requests((item.origin, item.data) for item in items_of(session, ids)):
                yield json_text(to_json(_by_origin(line, origins)))

    def _run_rows(self) -> Iterator[dict[str, Any]]:
        for session, ids in self._groups():
            runs = repository.load_runs(session, ids)
            yield from (run_row(runs[run_id], self._prices) for run_id in ids if run_id in runs)

    def _item_rows(self) -> Iterator[dict[str, Any]]:
        for session, ids in self._groups():
            yield from map(item_row, export_repository.iter_items(session, ids))

    def _span_rows(self) -> Iterator[dict[str, Any]]:
        for session, ids in self._groups():
            origins = _origin_texts(session, SpanOriginRow, ids)
            for span in export_repository.iter_spans(session, ids):
                yield span_row(span.data, *origins[span.origin])

    def _log_rows(self) -> Iterator[dict[str, Any]]:
        for session, ids in self._groups():
            origins = _origin_texts(session, LogOriginRow, ids)
            for log in export_repository.iter_logs(session, ids):
                yield log_row(log, *origins[log.origin])

    def _groups(self) -> Iterator[tuple[DatabaseSession, list[str]]]:
        """Yield `(session, run ids)` for each batch of runs; the session is a read transaction for this batch only."""
        done = 0
        for ids in self._id_groups():
            with self._database.read() as session:
                prefer_indexes(session)
                yield session, ids
            done += len(ids)
            self.on_progress(done)

    def _id_groups(self) -> Iterator[list[str]]:
        assert self._ids is not None, "the export is not entered"
        self._ids.seek(0)
        group: list[str] = []
        size = 0
        for line in self._ids:
            count, _, run_id = line.partition(" ")
            size += int(count)
            if group and (len(group) >= MAX_GROUP_RUNS or size > MAX_GROUP_ITEMS):
                yield group
                group, size = [], int(count)
            group.append(json.loads(run_id))
        if group:
            yield group


def _whole(run: str, lists: list[list[tuple[int, str]]]) -> str:
    """Return the JSON of a run, completed by the lists of its steps, calls and events.

    Args:
        run: the JSON of the run without these three lists.
        lists: the steps, the calls and the events, each as `(position, JSON of the item)`. They are sorted here by the
            position in which they were sent.
    """
    parts = [run[:-1]]
    for kind, items in zip(ITEM_KINDS, lists, strict=True):
        if items:
            # The sort is stable: items made from spans all have position 0 and keep the order of the timeline.
            items.sort(key=lambda item: item[0])
            parts.append(f'"{kind.list_name}":[{",".join([text for _, text in items])}]')
    return ",".join(parts) + "}"


def _origin_texts(
    session: DatabaseSession, table: span_repository.OriginTable, trace_ids: list[str]
) -> dict[int, tuple[str, str, str]]:
    """Return `{key of an origin: (resource as JSON, scope as JSON, schema URL)}` for all origins of the traces.

    An origin is the resource and the scope that created spans or log records. `table` is the table with the origins of
    spans, or the one with the origins of log records.
    """
    origins = span_repository.load_origins(session, table, trace_ids)
    return {
        key: (json_text(content["resource"]), json_text(content["scope"]), content["schema_url"])
        for key, content in origins.items()
    }


def _requests(items: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Split spans or log records into lists; each list becomes one OTLP request, which is one line of the export.

    `items` has `(key of the origin, protobuf bytes)` of each span or log record. The origin is its resource and scope.
    """
    line: list[tuple[int, bytes]] = []
    size = 0
    for item in items:
        if line and (len(line) >= MAX_LINE_SPANS or size + len(item[1]) > MAX_LINE_BYTES):
            yield line
            line, size = [], 0
        line.append(item)
        size += len(item[1])
    if line:
        yield line


def _by_origin(
    line: list[tuple[int, bytes]], origins: dict[int, dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    by_origin: dict[int, list[bytes]] = {}
    for origin, raw in line:
        by_origin.setdefault(origin, []).append(raw)
    for origin, packed in by_origin.items():
        yield origins[origin], packed
