"""The measurements of the ingest benchmark: throughput, fixed rates, growth, and reading stored runs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.otlp_load import SPANS_PER_TRACE
from bench.otlp_targets import Target

TARGET_RATE = 10_000
"""The rate that relab should reach, in spans per second; the latency is measured at half of it."""
GROWTH_FROM = 100_000
GROWTH_SPREAD_S = 20 * 3_600
"""The runs of the growing database start within this time in seconds, so that a 48-hour overview covers them all."""
VISIBLE_TIMEOUT_S = 600.0
LONG_RUN_STEPS = 10_000
READS = 20
# The driver's count command must start within a few ms, because it runs on the same machine as the measured server.
_COUNT_SQLITE = "import sqlite3,sys;print(sqlite3.connect(sys.argv[1],timeout=30).execute(sys.argv[2]).fetchone()[0])"
_COUNT_POSTGRESQL = "import psycopg,sys;print(psycopg.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"


@dataclass
class Figures:
    """One row of the table; rates are in spans per second, times in ms, memory in MB."""

    what: str
    accepted_per_s: float | None = None
    visible_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    memory_before_mb: float | None = None
    memory_mb: float | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def throughput(target: Target, traces: int, args: argparse.Namespace) -> Figures:
    """Measure how many spans per second the receiver accepts and stores at most.

    Args:
        target: the receiver.
        traces: the number of traces to send.
        args: the command-line options; `conns` is the number of connections.
    """
    warm = _load(target, 100, args.conns, "--seed", "1")
    _wait_visible(target, 0, warm["spans"])
    before, memory = target.visible_spans(), tree_mb(target)
    if args.driver:
        found = _external(args.driver, target, traces, args)
        row = Figures(target.name, found["spans_per_s_accepted"], found["spans_per_s_visible"])
    else:
        started = time.perf_counter()
        found = _load(target, traces, args.conns, "--seed", "2")
        visible = _wait_visible(target, before, found["spans"])
        seconds = time.perf_counter() - started - found["startup_s"]
        row = Figures(target.name, found["spans_per_s"], **_latencies(found))
        found["visible"] = visible
        # A receiver that lost spans gets no rate of visible spans.
        if found["spans"] and visible >= found["spans"]:
            row.visible_per_s = found["spans"] / max(seconds, found["seconds"])
        else:
            found["lost"] = found["spans"] - visible
    row.memory_before_mb, row.memory_mb = memory, tree_mb(target)
    row.note = _note(found, f"n={found['spans']:,} spans", target.version)
    row.details = found
    return row


def at_rate(target: Target, rate: float, seed: int, args: argparse.Namespace) -> Figures:
    """Measure latencies at a fixed rate; each latency counts from the time when its request was due.

    Args:
        target: the receiver.
        rate: the rate in spans per second.
        seed: the seed of the spans' ids.
        args: the command-line options; `seconds` is the duration.
    """
    memory = tree_mb(target)
    traces = int(rate * args.seconds / SPANS_PER_TRACE)
    found = _load(target, traces, args.conns, "--seed", str(seed), "--rate", str(rate))
    return Figures(
        f"{target.name}, open loop at {rate:,.0f}/s",
        found["spans_per_s"],
        **_latencies(found),
        memory_before_mb=memory,
        memory_mb=tree_mb(target),
        note=_note(found, f"n={found['requests']:,} requests, from when each was due"),
        details=found,
    )


def growth(target: Target, args: argparse.Namespace) -> Figures:
    """Measure the memory of the server process while its database grows from empty to `args.spans` spans."""
    samples: list[tuple[int, float]] = [(target.visible_spans(), target.memory_mb())]
    if samples[0][0] >= GROWTH_FROM:
        raise ValueError(f"The database holds {samples[0][0]:,} spans already.")
    done = threading.Event()

    def sample() -> None:
        pause_s = 0.5
        while not done.wait(pause_s):
            started = time.perf_counter()
            samples.append((target.visible_spans(), target.memory_mb()))
            # Counting a million rows is slow, so the pause grows with it: counting must stay a small part of the load.
            pause_s = max(0.5, 20 * (time.perf_counter() - started))

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        traces = args.spans // SPANS_PER_TRACE
        found = _load(target, traces, args.conns, "--seed", "3", "--spread-s", str(GROWTH_SPREAD_S))
    finally:
        done.set()
        watcher.join()
    samples.append((target.visible_spans(), target.memory_mb()))
    memory = memory_growth(samples)
    return Figures(
        f"{target.name}, growing to {samples[-1][0]:,} spans",
        found["spans_per_s"],
        **_latencies(found),
        memory_before_mb=samples[0][1],
        memory_mb=samples[-1][1],
        note=_note(found, _growth_note(memory)),
        details=found | {"memory": memory, "samples": samples},
    )


def memory_growth(samples: list[tuple[int, float]]) -> dict[str, float] | None:
    """Return figures of the memory from the 100,000th span on; None if there are fewer than two samples from there on.

    Args:
        samples: `(spans, MB)` in order of time.
    """
    later = [(spans, memory) for spans, memory in samples if spans >= GROWTH_FROM]
    if len(later) < 2:
        return None
    first, sizes = later[0][1], [memory for _, memory in later]
    return {
        "from_spans": later[0][0],
        "to_spans": later[-1][0],
        "from_mb": first,
        "to_mb": sizes[-1],
        "lowest_mb": min(sizes),
        "highest_mb": max(sizes),
        "drift_percent": (sizes[-1] / first - 1) * 100,
        "furthest_percent": max(((size / first - 1) * 100 for size in sizes), key=abs),
        "samples": len(later),
    }


def _growth_note(memory: dict[str, float] | None) -> str:
    if memory is None:
        return f"too short for memory from {GROWTH_FROM:,} spans on"
    return (
        f"API process at {memory['from_spans']:,} spans {memory['from_mb']:.0f} MB, at {memory['to_spans']:,} "
        f"{memory['to_mb']:.0f} MB ({memory['drift_percent']:+.1f} %), between {memory['lowest_mb']:.0f} and "
        f"{memory['highest_mb']:.0f} MB (furthest {memory['furthest_percent']:+.1f} %), n={memory['samples']:.0f} samples"
    )


def long_run(target: Target) -> Figures:
    """Send a run of 10,000 steps in sequential requests of 500 spans, and measure how long its timeline takes to read.

    Raises:
        RuntimeError: the timeline does not have all steps.
    """
    held = target.visible_spans()
    trace_id = os.urandom(16)
    started = time.perf_counter()
    for body in _long_run_requests(trace_id):
        request = urllib.request.Request(target.url, body, {"Content-Type": "application/x-protobuf"})
        with urllib.request.urlopen(request) as response:
            response.read()
    seconds = time.perf_counter() - started
    path = f"{target.base}/agent-runs/{trace_id.hex()}/timeline?limit="
    with urllib.request.urlopen(f"{path}{LONG_RUN_STEPS}") as response:
        steps = len(json.load(response)["items"])
    if steps != LONG_RUN_STEPS:
        raise RuntimeError(f"The timeline has {steps:,} items of {LONG_RUN_STEPS:,}.")
    whole, page = _times(f"{path}{LONG_RUN_STEPS}"), _times(f"{path}1000")
    return Figures(
        f"{target.name}, timeline of {steps:,} steps, {held:,} spans stored",
        p50_ms=statistics.median(whole),
        max_ms=max(whole),
        note=f"one page, n={READS}; a page of 1,000: median {statistics.median(page):.0f}, max {max(page):.0f} ms; "
        f"came in {LONG_RUN_STEPS // 500} requests in {seconds:.1f} s",
        details={"whole_ms": whole, "page_of_1000_ms": page, "ingest_s": seconds, "spans_stored": held},
    )


def _long_run_requests(trace_id: bytes) -> list[bytes]:
    root, begin = os.urandom(8), time.time_ns() - 3_600 * 10**9
    bodies = []
    for first in range(0, LONG_RUN_STEPS, 500):
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for number in range(first, first + 500):
            at = begin + number * 10**8
            span = spans.add(trace_id=trace_id, span_id=os.urandom(8), parent_span_id=root, name="chat gpt-4o")
            span.start_time_unix_nano, span.end_time_unix_nano = at, at + 10**7
            for key, text in (("gen_ai.operation.name", "chat"), ("gen_ai.output.messages", "Next, look it up. " * 10)):
                span.attributes.add(key=key).value.string_value = text
        bodies.append(request.SerializeToString())
    # Like real exporters, send the agent's own span last, because it ends last.
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add().scope_spans.add().spans.add(trace_id=trace_id, span_id=root, name="invoke_agent")
    )
    span.start_time_unix_nano, span.end_time_unix_nano = begin, begin + LONG_RUN_STEPS * 10**8
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent"
    return [*bodies, request.SerializeToString()]


def overview(target: Target) -> Figures:
    """Measure how long the overview of the dashboard takes to read, over all sent runs."""
    url = f"{target.base}/metrics/overview?hours=48"
    with urllib.request.urlopen(url) as response:
        runs = json.load(response)["total_runs"]
    times = _times(url)
    held = target.visible_spans()
    return Figures(
        f"{target.name}, overview of 48 hours, {held:,} spans stored",
        p50_ms=statistics.median(times),
        max_ms=max(times),
        note=f"n={READS}, {runs:,} runs",
        details={"times_ms": times, "runs": runs, "spans_stored": held},
    )


def tree_mb(target: Target) -> float:
    """Return the resident memory of the server and all its child processes in MB; PostgreSQL is not one of them."""
    process = psutil.Process(target.process.pid)
    sizes = [process.memory_info().rss]
    for child in process.children(recursive=True):
        try:
            sizes.append(child.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return sum(sizes) / 1_048_576


def _times(url: str) -> list[float]:
    found = []
    for _ in range(READS):
        started = time.perf_counter()
        with urllib.request.urlopen(url) as response:
            response.read()
        found.append((time.perf_counter() - started) * 1_000)
    return found


def _load(target: Target, traces: int, conns: int, *options: str) -> dict[str, Any]:
    """Run the load driver to its end; return its JSON output and its start-up time (`startup_s`).

    Raises:
        RuntimeError: the driver failed.
    """
    command = [sys.executable, "-m", "bench.otlp_load", target.url, "--traces", str(traces), "--conns", str(conns)]
    for header in target.headers:
        command += ["--header", header]
    started = time.perf_counter()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with (
        bar,
        subprocess.Popen(
            [*command, *options, "--progress"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        task = bar.add_task(f"{target.name}: spans", total=traces * SPANS_PER_TRACE)
        said = []
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stderr:
                if line.strip().isdecimal():
                    bar.update(task, completed=int(line))
                else:
                    said.append(line)
            printed = process.stdout.read()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"The load ended with {process.returncode}: {''.join(said)[-500:]}")
    found: dict[str, Any] = json.loads(printed)
    # The start of Python and the preparation of the requests do not count as load.
    return found | {"startup_s": time.perf_counter() - started - found["seconds"]}


def _external(driver: str, target: Target, traces: int, args: argparse.Namespace) -> dict[str, Any]:
    if target.database.startswith("postgresql"):
        count = [sys.executable, "-c", _COUNT_POSTGRESQL, target.database, target.count]
    else:
        count = [sys.executable, "-I", "-S", "-c", _COUNT_SQLITE, target.database, target.count]
    command = [sys.executable, driver, target.url, "--traces", str(traces), "--conns", str(args.conns)]
    command += ["--count-cmd", shlex.join(count)]
    for header in target.headers:
        command += ["--header", header]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _wait_visible(target: Target, before: int, spans: int) -> int:
    """Wait until `spans` new spans are stored, or until a time limit; return the number of stored new spans."""
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    while (visible := target.visible_spans() - before) < spans and time.monotonic() < deadline:
        time.sleep(0.1)
    return visible


def _latencies(found: dict[str, Any]) -> dict[str, float | None]:
    return {name: found[name] for name in ("p50_ms", "p99_ms", "max_ms")}


def _note(found: dict[str, Any], *parts: str) -> str:
    trouble = [f"{name}={found[name]}" for name in ("refused", "errors", "lost") if found.get(name)]
    cost = [f"load {found['load_cores']:.2f} cores"] if "load_cores" in found else ["external driver"]
    return "; ".join([part for part in parts if part] + cost + (trouble or ["no refusals or errors"]))
