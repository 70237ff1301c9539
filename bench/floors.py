"""Measure floors: the same work as the server's without HTTP, without the database, or with the database only."""

from __future__ import annotations

import json
import resource
import sqlite3
import time
from pathlib import Path

from bench.samples import run_bytes
from bench.server import Figures
from relab.bootstrap import build
from relab.rca.analyzer import analyze
from relab.settings import load_settings
from relab.telemetry.ingest.reading import read_agent_run


def parse_floor(runs: int) -> Figures:
    """Measure how many request bodies are parsed and validated per second on one core, without storing them."""
    bodies = [run_bytes(number) for number in range(runs)]
    started = time.perf_counter()
    for body in bodies:
        read_agent_run(body)
    return Figures("floor: parse and validate a run", runs / (time.perf_counter() - started), note="one core")


def sqlite_floor(root: Path, runs: int) -> Figures:
    """Measure how many durable SQLite writes this machine makes per second.

    Each run is one JSON text, in one transaction with a full sync.
    """
    connection = sqlite3.connect(root / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE runs (run_id TEXT PRIMARY KEY, body TEXT)")
    bodies = [(f"bench-{number}", run_bytes(number).decode()) for number in range(runs)]
    started = time.perf_counter()
    for row in bodies:
        connection.execute("INSERT INTO runs VALUES (?, ?)", row)
    seconds = time.perf_counter() - started
    connection.close()
    return Figures("floor: one synced SQLite insert a run", runs / seconds, note="body as text, nothing indexed")


def service_floor(root: Path, runs: int) -> Figures:
    """Measure how many runs are ingested per second without HTTP, in one thread, on SQLite."""
    services = build(load_settings(root / "service"))
    services.prepare()
    bodies = [run_bytes(number) for number in range(runs)]
    started = time.perf_counter()
    for body in bodies:
        services.telemetry.ingest(read_agent_run(body))
    seconds = time.perf_counter() - started
    services.close()
    return Figures("floor: ingest without HTTP, SQLite", runs / seconds, note="one thread, durable each")


def analyze_floor(runs: int) -> Figures:
    """Measure how many small runs are analysed per second on one core, without reading or storing them."""
    loaded = [read_agent_run(run_bytes(number)) for number in range(runs)]
    started = time.perf_counter()
    for run in loaded:
        analyze(run)
    return Figures("floor: analysis alone, small runs", runs / (time.perf_counter() - started), note="one core")


def big_run() -> Figures:
    """Measure the reading and the analysis of one run of 10,000 steps and 10,000 tool calls."""
    body = run_bytes(0, steps=10_000)
    started = time.perf_counter()
    run = read_agent_run(body)
    read_s = time.perf_counter() - started
    times = []
    for _ in range(5):
        started = time.perf_counter()
        report = analyze(run)
        times.append((time.perf_counter() - started) * 1_000)
    times.sort()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    size_mb = len(body) / 1_048_576
    return Figures(
        "10,000 steps + 10,000 calls: analysis",
        1_000 / times[2],
        p50_ms=times[2],
        p99_ms=times[-1],
        memory_mb=peak_mb,
        note=f"{size_mb:.1f} MB body read in {read_s * 1_000:.0f} ms; report {len(json.dumps(report.model_dump(mode='json'))) >> 10} KB",
    )
