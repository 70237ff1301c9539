"""Measure floors for spans: only decoding them, and only inserting them, without relab."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import psycopg
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.otlp_load import SPANS_PER_TRACE, printed

BATCH = 1_000
_TABLE = "spans (trace_id varchar(32), span_id varchar(16), data {blob}, PRIMARY KEY (trace_id, span_id))"

Row = tuple[str, str, bytes]


def decode_floor(spans: int) -> float:
    """Return how many spans per second one core decodes from protobuf and writes as JSON, without storing them."""
    bodies = [body for body, _ in printed(spans // SPANS_PER_TRACE, 20, 1, 60)]
    started = time.perf_counter()
    decode_bodies(bodies)
    return spans / (time.perf_counter() - started)


def decode_bodies(bodies: Iterable[bytes]) -> None:
    """Decode requests from protobuf, and write the attributes of each span as JSON."""
    for body in bodies:
        for span in _spans(body):
            json.dumps({pair.key: _value(pair.value) for pair in span.attributes})


def sqlite_floor(root: Path, spans: int) -> float:
    """Return how many spans per second one SQLite table with one index accepts, with a synced commit per 1,000."""
    rows = _rows(spans)
    connection = sqlite3.connect(root / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"CREATE TABLE {_TABLE.format(blob='blob')}")
    started = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO spans VALUES (?, ?, ?)", rows[start : start + BATCH])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return spans / seconds


def postgresql_floor(url: str, spans: int) -> float:
    """Return the spans per second that an indexed PostgreSQL table accepts by COPY, with a synced commit per 1,000."""
    rows = _rows(spans)
    with psycopg.connect(url) as connection:
        connection.execute(f"CREATE TABLE floor_{_TABLE.format(blob='bytea')}")
        connection.commit()
        started = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            with connection.cursor().copy("COPY floor_spans FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["varchar", "varchar", "bytea"])
                for row in rows[start : start + BATCH]:
                    copy.write_row(row)
            connection.commit()
        return spans / (time.perf_counter() - started)


def _rows(spans: int) -> list[Row]:
    return [
        (span.trace_id.hex(), span.span_id.hex(), span.SerializeToString())
        for body, _ in printed(spans // SPANS_PER_TRACE, 20, 2, 60)
        for span in _spans(body)
    ]


def _spans(body: bytes) -> list:
    request = ExportTraceServiceRequest.FromString(body)
    return [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]


def _value(value) -> object:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None
