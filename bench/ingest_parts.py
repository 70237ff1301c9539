"""`python -m bench.ingest_parts`: measure the processor time that one span takes in each part of its way, in one process.

No server and no load run beside it, and processor time is measured instead of time: so the figures hold on a busy machine.
The same requests are decoded by the floor of `bench/ingest_floors.py` in the same run; compare the ratios to it. Each figure
is the lowest of several passes. Of PostgreSQL only the client's processor time counts.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.ingest_floors import decode_bodies
from bench.otlp_load import SPANS_PER_TRACE, printed
from bench.otlp_targets import DURABLE_POSTGRES
from relab.core.clock import SystemClock
from relab.core.garbage import collect_seldom
from relab.storage import Database
from relab.storage.migrate import upgrade
from relab.telemetry.ingest.intake import TelemetryIntake
from relab.telemetry.ingest.posted import PostedSpans
from relab.telemetry.otlp.decoding import SpanBatch, decode_protobuf
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.spans import read_spans
from relab.telemetry.projection.projector import Projector
from rig.servers import PostgresServer

TRACES_PER_REQUEST = 20
REQUESTS_PER_COMMIT = 8
"""The requests that the server of `bench.ingest` commits at once, when all 8 connections wait for it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest_parts", description=__doc__)
    parser.add_argument("--traces", type=int, default=1_600, help="Traces of 10 spans per pass.")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--postgresql", action="store_true", help="Also store the spans in PostgreSQL.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    collect_seldom()
    found = measure(args.traces, args.passes, postgresql=args.postgresql)
    if args.json:
        print(json.dumps(found))
        return
    floor = found["floor: decode only"]
    print(f"Processor time per span in µs, n={args.traces * SPANS_PER_TRACE:,} spans, lowest of {args.passes} passes")
    for name, spent_us in found.items():
        print(f"{name:<34} {spent_us:7.2f}   floor / this {floor / spent_us:5.2f}")


def measure(traces: int, passes: int, *, postgresql: bool) -> dict[str, float]:
    """Return the processor time per span in µs of the floor, of each part, and of the whole way, by name.

    The way to the answer of a request is "until acknowledged"; "later" is the projection that makes the run afterwards.
    """
    spans = traces * SPANS_PER_TRACE
    bodies = _bodies(traces, 1)
    batches = [decode_protobuf(body) for body in bodies]
    raws = [received.raw for batch in batches for members in batch.traces.values() for received in members]
    read = list(read_spans(raws))
    facts = [facts_of(span, {}) for span in read]
    by_trace: dict[str, list[SpanFacts]] = {}
    for found in facts:
        by_trace.setdefault(found.span.trace_id, []).append(found)

    parts: dict[str, Callable[[], object]] = {
        "floor: decode only": lambda: decode_bodies(bodies),
        "request: check, grouping": lambda: [decode_protobuf(body) for body in bodies],
        "later, decode: bytes to spans": lambda: list(read_spans(raws)),
        "later, facts: spans to facts": lambda: [facts_of(span, {}) for span in read],
        "later, project: facts to runs": lambda: [project(trace_id, each) for trace_id, each in by_trace.items()],
    }
    with contextlib.ExitStack() as cleanup:
        stores = {
            "SQLite": f"sqlite:///{Path(cleanup.enter_context(TemporaryDirectory(prefix='relab-parts-'))) / 'relab.db'}"
        }
        if postgresql:
            stores["PostgreSQL"] = cleanup.enter_context(_postgresql())
        databases = {name: cleanup.enter_context(_database(url)) for name, url in stores.items()}
        spent: dict[str, list[float]] = defaultdict(list)
        for number in range(passes):
            # Each pass measures every part, so that other work on the machine slows all of them alike.
            for name, work in parts.items():
                spent[name].append(_spent_s(work))
            # New ids for each pass, because a stored span is not stored again.
            fresh = _bodies(traces, 10 + number)
            for name, database in databases.items():
                took = _store(database, fresh)
                spent[f"{name}: store"].append(took.stored_s)
                spent[f"{name}: until acknowledged"].append(took.decoded_s + took.stored_s)
                spent[f"{name}: later, in all"].append(took.projected_s)
                spent[f"{name}: whole way"].append(took.decoded_s + took.stored_s + took.projected_s)
    return {name: min(times) / spans * 1e6 for name, times in spent.items()}


@contextlib.contextmanager
def _postgresql() -> Iterator[str]:
    """Run a PostgreSQL server that syncs to disk; return the URL of an empty database."""
    server = PostgresServer.create()
    try:
        server.options = DURABLE_POSTGRES
        server.stop()
        server.start()
        yield server.create_database("parts")
    finally:
        server.destroy()


@contextlib.contextmanager
def _database(url: str) -> Iterator[Database]:
    database = Database.open(url)
    try:
        upgrade(database)
        yield database
    finally:
        database.close()


class _Took(NamedTuple):
    """Processor time in seconds: to decode requests, to store them, and to project them afterwards."""

    decoded_s: float
    stored_s: float
    projected_s: float


def _store(database: Database, bodies: Sequence[bytes]) -> _Took:
    """Decode, store and project requests."""
    clock = SystemClock()
    intake = TelemetryIntake(database, clock, shard=0)
    projector = Projector(database, clock, shard=0)
    gc.collect()
    begun = time.process_time()
    batches = [decode_protobuf(body) for body in bodies]
    decoded = time.process_time()
    for posted in _commits(batches):
        intake.write(posted)
    stored = time.process_time()
    waiting = projector.backlog().runs
    projector.project()
    projected = time.process_time()
    if waiting != sum(len(batch.traces) for batch in batches):
        raise RuntimeError(f"Only {waiting:,} runs were left to project later; measure fewer traces.")
    return _Took(decoded - begun, stored - decoded, projected - stored)


def _bodies(traces: int, seed: int) -> list[bytes]:
    return [body for body, _ in printed(traces, TRACES_PER_REQUEST, seed, 60)]


def _commits(batches: Sequence[SpanBatch]) -> Iterator[list[PostedSpans]]:
    for first in range(0, len(batches), REQUESTS_PER_COMMIT):
        yield [PostedSpans(batch) for batch in batches[first : first + REQUESTS_PER_COMMIT]]


def _spent_s(work: Callable[[], object]) -> float:
    gc.collect()
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
