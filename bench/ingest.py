"""`python -m bench.ingest`: how fast OTLP spans come in, beside the floors and beside peers.

One run on one machine: the load, the server and its database share it, so the ratios are
what to look at. A span counts when another process finds it stored. The load is that of
`bench/otlp_load.py`; with RELAB_OTLP_DRIVER the throughput is taken by that program
instead (`URL --traces N --conns N --count-cmd COMMAND`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console
from rich.table import Table

from bench.ingest_floors import decode_floor, postgresql_floor, sqlite_floor
from bench.otlp_load import SPANS_PER_TRACE
from bench.otlp_targets import Target, peer, relab
from support.servers import PostgresServer

TARGET_RATE = 10_000
"""Spans a second that relab promises; half of it is the load of the latency figure."""
PARTS = ("floors", "relab-sqlite", "relab-postgresql", "phoenix", "mlflow")
GROWTH_FROM = 100_000


@dataclass
class Figures:
    """One row of the table."""

    what: str
    accepted_per_s: float | None = None
    visible_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    memory_mb: float | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"Parts, of {','.join(PARTS)}.")
    parser.add_argument("--traces", type=int, default=10_000, help="Traces of 10 spans for relab.")
    parser.add_argument("--peer-traces", type=int, default=500, help="Traces for the peers, which take longer.")
    parser.add_argument("--spans", type=int, default=1_000_000, help="How far to let relab grow; 0 for not at all.")
    parser.add_argument("--conns", type=int, default=8)
    parser.add_argument("--peers-dir", type=Path, default=Path(".bench/peers"), help="Where peers are installed.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    parts = args.only.split(",")
    rows: list[Figures] = []
    with TemporaryDirectory(prefix="relab-ingest-") as folder:
        root = Path(folder)
        if "floors" in parts:
            rows += _floors(root, args)
        for database in ("sqlite", "postgresql"):
            if f"relab-{database}" in parts:
                rows += _measure_relab(partial(relab, _folder(root, database), database), args)
        for name in ("phoenix", "mlflow"):
            if name in parts:
                where = partial(peer, name, _folder(root, name), args.peers_dir.absolute())
                rows += _measure(where, args.peer_traces, args)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _show(rows)


def _folder(root: Path, name: str) -> Path:
    made = root / name
    made.mkdir()
    return made


def _floors(root: Path, args: argparse.Namespace) -> list[Figures]:
    _say("floors")
    spans = min(args.traces * SPANS_PER_TRACE, 100_000)
    rows = [
        Figures("floor: decode only", decode_floor(spans), note="protobuf, attributes to JSON, one core"),
        Figures("floor: insert only, SQLite", sqlite_floor(root, spans), note="packed spans, one index, synced"),
    ]
    server = PostgresServer.create()
    try:
        server.options = "-c fsync=on -c shared_buffers=128MB"
        server.stop()
        server.start()
        rate = postgresql_floor(server.create_database("floor"), spans)
    finally:
        server.destroy()
    return [*rows, Figures("floor: insert only, PostgreSQL", rate, note="COPY, one index, synced")]


def _measure(
    where: Callable[[], AbstractContextManager[Target]], traces: int, args: argparse.Namespace
) -> list[Figures]:
    with where() as target:
        return [_throughput(target, traces, args)]


def _measure_relab(where: Callable[[], AbstractContextManager[Target]], args: argparse.Namespace) -> list[Figures]:
    with where() as target:
        rows = [_throughput(target, args.traces, args)]
        half = (rows[0].visible_per_s or TARGET_RATE) / 2
        rows += [_at_rate(target, rate, args) for rate in (TARGET_RATE / 2, half)]
        rows.append(_long_run(target))
        if args.spans:
            rows.append(_growth(target, args))
        rows.append(_overview(target))
        return rows


def _throughput(target: Target, traces: int, args: argparse.Namespace) -> Figures:
    """As fast as it goes, over so many connections."""
    _say(f"{target.name}: {traces * SPANS_PER_TRACE:,} spans as fast as they go")
    _load(target, 100, args.conns, "--seed", "1")
    _wait_visible(target, 0, 100 * SPANS_PER_TRACE)
    before, memory = target.visible_spans(), target.memory_mb()
    started = time.perf_counter()
    driver = os.environ.get("RELAB_OTLP_DRIVER")
    if driver:
        found = _external(driver, target, traces, args)
        return Figures(target.name, found["spans_per_s_accepted"], found["spans_per_s_visible"], details=found)
    found = _load(target, traces, args.conns, "--seed", "2")
    _wait_visible(target, before, found["spans"])
    seconds = time.perf_counter() - started - found["startup_s"]
    return Figures(
        target.name,
        found["spans_per_s"],
        found["spans"] / max(seconds, found["seconds"]),
        found["p50_ms"],
        found["p99_ms"],
        found["max_ms"],
        target.memory_mb(),
        f"n={found['spans']:,} {target.version} memory before {memory:.0f} MB {_trouble(found)}",
        found,
    )


def _at_rate(target: Target, rate: float, args: argparse.Namespace) -> Figures:
    """At a fixed rate, latencies from when each request was due."""
    _say(f"{target.name}: {rate:,.0f} spans a second")
    traces = int(rate * 15 / SPANS_PER_TRACE)
    found = _load(target, traces, args.conns, "--seed", str(int(rate)), "--rate", str(rate))
    return Figures(
        f"{target.name}, open loop at {rate:,.0f}/s",
        found["spans_per_s"],
        None,
        found["p50_ms"],
        found["p99_ms"],
        found["max_ms"],
        target.memory_mb(),
        f"n={found['requests']:,} requests {_trouble(found)}",
        found,
    )


def _growth(target: Target, args: argparse.Namespace) -> Figures:
    """Memory and speed while the database grows."""
    samples: list[tuple[int, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(1.0):
            samples.append((target.visible_spans(), target.memory_mb()))

    before = target.visible_spans()
    missing = max(args.spans - before, 0)
    _say(f"{target.name}: growing by {missing:,} spans")
    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        found = _load(target, missing // SPANS_PER_TRACE, args.conns, "--seed", "3", "--spread-s", str(20 * 3_600))
    finally:
        done.set()
        watcher.join()
    samples.append((target.visible_spans(), target.memory_mb()))
    later = [memory for spans, memory in samples if spans >= GROWTH_FROM] or [samples[-1][1]]
    drift = (later[-1] / later[0] - 1) * 100
    return Figures(
        f"{target.name}, to {samples[-1][0]:,} spans",
        found["spans_per_s"],
        None,
        found["p50_ms"],
        found["p99_ms"],
        found["max_ms"],
        later[-1],
        f"memory at {GROWTH_FROM:,}: {later[0]:.0f}, lowest {min(later):.0f}, highest {max(later):.0f} MB, "
        f"drift {drift:+.1f} % {_trouble(found)}",
        found | {"samples": samples},
    )


def _long_run(target: Target) -> Figures:
    """A run of 10,000 steps, sent in requests of 500 spans one after the other, and its timeline."""
    trace_id, root = os.urandom(16), os.urandom(8)
    begin = time.time_ns() - 3_600 * 10**9
    started = time.perf_counter()
    for first in range(0, 10_000, 500):
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for number in range(first, first + 500):
            at = begin + number * 10**8
            span = spans.add(trace_id=trace_id, span_id=os.urandom(8), parent_span_id=root, name="chat gpt-4o")
            span.start_time_unix_nano, span.end_time_unix_nano = at, at + 10**7
            for key, text in (("gen_ai.operation.name", "chat"), ("gen_ai.output.messages", "Next, look it up. " * 10)):
                span.attributes.add(key=key).value.string_value = text
        _post(target, request.SerializeToString())
    seconds = time.perf_counter() - started
    path = f"/agent-runs/{trace_id.hex()}/timeline?limit="
    whole, page = _times(target, f"{path}10000"), _times(target, f"{path}1000")
    return Figures(
        f"{target.name}, timeline of 10,000 steps",
        p50_ms=statistics.median(whole),
        max_ms=max(whole),
        note=f"one page, n=20; pages of 1,000: {statistics.median(page):.0f} ms; "
        f"the run came in 20 requests in {seconds:.1f} s",
    )


def _overview(target: Target) -> Figures:
    times = _times(target, "/metrics/overview?hours=48")
    with urllib.request.urlopen(f"{target.base}/metrics/overview?hours=48") as response:
        runs = json.load(response)["total_runs"]
    return Figures(
        f"{target.name}, overview of {target.visible_spans():,} spans",
        p50_ms=statistics.median(times),
        max_ms=max(times),
        note=f"n=20, {runs:,} runs",
    )


def _times(target: Target, path: str) -> list[float]:
    found = []
    for _ in range(20):
        started = time.perf_counter()
        with urllib.request.urlopen(target.base + path) as response:
            response.read()
        found.append((time.perf_counter() - started) * 1_000)
    return found


def _post(target: Target, body: bytes) -> None:
    request = urllib.request.Request(target.url, body, {"Content-Type": "application/x-protobuf"})
    with urllib.request.urlopen(request) as response:
        response.read()


def _load(target: Target, traces: int, conns: int, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.otlp_load", target.url, "--traces", str(traces), "--conns", str(conns)]
    for header in target.headers:
        command += ["--header", header]
    started = time.perf_counter()
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    # Python's start and the printing of requests are no part of the load.
    return found | {"startup_s": time.perf_counter() - started - found["seconds"]}


def _external(driver: str, target: Target, traces: int, args: argparse.Namespace) -> dict[str, Any]:
    count = [sys.executable, "-m", "bench.ingest_count", target.database, target.count]
    command = [sys.executable, driver, target.url, "--traces", str(traces), "--conns", str(args.conns)]
    command += ["--count-cmd", shlex.join(count)]
    for header in target.headers:
        command += ["--header", header]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _wait_visible(target: Target, before: int, spans: int) -> None:
    deadline = time.monotonic() + 600
    while target.visible_spans() - before < spans and time.monotonic() < deadline:
        time.sleep(0.05)


def _trouble(found: dict[str, Any]) -> str:
    return " ".join(f"{name}={found[name]}" for name in ("refused", "errors") if found[name])


def _say(text: str) -> None:
    print(f"{text} ...", file=sys.stderr)


def _show(rows: list[Figures]) -> None:
    title = f"OTLP ingest on {platform.machine()}, {os.cpu_count()} cores shared by load, server and database"
    table = Table(title=title, title_justify="left")
    for column in ("what", "accepted/s", "visible/s", "p50 ms", "p99 ms", "max ms", "memory MB", "note"):
        table.add_column(column, justify="left" if column in {"what", "note"} else "right")
    for row in rows:
        figures = (row.accepted_per_s, row.visible_per_s, row.p50_ms, row.p99_ms, row.max_ms, row.memory_mb)
        table.add_row(row.what, *("" if value is None else f"{value:,.0f}" for value in figures), row.note)
    console = Console(width=200)
    console.print(table)
    by_name = {row.what: row for row in rows}
    for name in ("relab on sqlite", "relab on postgresql"):
        own = by_name.get(name)
        if own is None or not own.visible_per_s:
            continue
        for other in rows:
            rate = other.visible_per_s or (other.accepted_per_s if other.what.startswith("floor") else None)
            if rate and other is not own and not other.what.startswith("relab"):
                console.print(f"{name} / {other.what}: {own.visible_per_s / rate:.2f}")


if __name__ == "__main__":
    main()
