"""Measure a real server over HTTP: posts, analyses, idle subscribers, and its memory."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.progress import Progress

from bench.samples import run_bytes
from rig.servers import free_port
from rig.waiting import wait_until


@dataclass
class Figures:
    """One row of the table; rates are per second, times in ms, memory in MB."""

    what: str
    per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    memory_mb: float | None = None
    note: str = ""


class Server:
    """A running `lab serve` in a separate process, with a worker."""

    def __init__(self, home: Path, database_url: str | None) -> None:
        self.port = free_port()
        home.mkdir(parents=True)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        # Automatic analyses are off, so that the server does only the measured work.
        self._environment = {**kept, "RELAB_HOME": str(home), "LOG_LEVEL": "ERROR", "RELAB_RCA__ON_ARRIVAL": "false"}
        if database_url is not None:
            self._environment["DATABASE_URL"] = database_url
            subprocess.run(
                [sys.executable, "-m", "relab", "db", "upgrade"], env=self._environment, check=True, capture_output=True
            )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "relab", "serve", "--port", str(self.port)], env=self._environment
        )
        wait_until(self._ready, what="the server answering")

    def request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Send a request over a connection; return the status and the body of the response."""
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection; the caller closes it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def memory_mb(self) -> dict[str, float]:
        """Return the resident memory of the processes `api` and `worker` in MB, by name."""
        process = psutil.Process(self._process.pid)
        found = {"api": process.memory_info().rss / 1_048_576}
        for child in process.children():
            found["worker"] = child.memory_info().rss / 1_048_576
        return found

    def worker(self) -> psutil.Process:
        """Return the worker process of the API."""
        return psutil.Process(self._process.pid).children()[0]

    def gauge(self, metric: str) -> float:
        """Return the value of a Prometheus metric of the server; `metric` is its name with its labels."""
        _, text = self.request(self.connect(), "GET", "/metrics")
        return next(float(line.split()[1]) for line in text.decode().splitlines() if line.startswith(f"{metric} "))

    def stop(self) -> None:
        """Terminate the server and wait for its end."""
        self._process.terminate()
        self._process.wait()

    def _ready(self) -> bool:
        try:
            return self.request(self.connect(), "GET", "/readyz")[0] == 200
        except OSError:
            return False


def measure_server(name: str, home: Path, database_url: str | None, args: argparse.Namespace) -> list[Figures]:
    """Start a server in `home`, measure it, stop it, and return the rows of the table.

    Args:
        name: the name of the database in the rows.
        home: the home of the server.
        database_url: the URL of the database; None: SQLite in the home.
        args: the command-line options.
    """
    server = Server(home, database_url)
    try:
        before = server.memory_mb()
        rows = [_ingest(name, server, args), _analyses(name, server, args), _latency(name, server)]
        after = server.memory_mb()
        memory = ", ".join(f"{part} {before[part]:.0f} → {after[part]:.0f}" for part in sorted(after) if part in before)
        rows[0].memory_mb = after["api"]
        rows[1].memory_mb = after.get("worker")
        rows.append(Figures(f"{name}: memory before → after", note=f"{memory} MB"))
        rows.append(_subscribers(name, server, args.subscribers))
        return rows
    finally:
        server.stop()


def _spread(
    server: Server, tasks: list[tuple[str, str, bytes | None]], connections: int, label: str
) -> tuple[float, list[float]]:
    """Send the requests over `connections` connections; return the total seconds and the sorted latencies in ms."""
    queue = iter(tasks)
    latencies: list[float] = []
    bar = Progress(disable=not sys.stderr.isatty(), transient=True)
    counter = bar.add_task(label, total=len(tasks))

    def work() -> None:
        connection = server.connect()
        while (task := next(queue, None)) is not None:
            started = time.perf_counter()
            status, answer = server.request(connection, *task)
            if status >= 300:
                raise RuntimeError(f"{task[0]} {task[1]} answered {status}: {answer[:200]!r}")
            latencies.append((time.perf_counter() - started) * 1_000)
            bar.advance(counter)
        connection.close()

    started = time.perf_counter()
    with bar, ThreadPoolExecutor(connections) as pool:
        for future in [pool.submit(work) for _ in range(connections)]:
            future.result()
    return time.perf_counter() - started, sorted(latencies)


def _ingest(name: str, server: Server, args: argparse.Namespace) -> Figures:
    tasks = [("POST", "/agent-runs", run_bytes(number)) for number in range(args.runs)]
    seconds, latencies = _spread(server, list(tasks), args.connections, f"{name}: posting")
    return Figures(
        f"{name}: POST /agent-runs, durable",
        args.runs / seconds,
        latencies[len(latencies) // 2],
        latencies[int(len(latencies) * 0.99)],
        note=f"{args.connections} connections, load on the same cores",
    )


def _analyses(name: str, server: Server, args: argparse.Namespace) -> Figures:
    tasks = [("POST", f"/agent-runs/bench-{number}/rca-runs", None) for number in range(args.runs)]
    started = time.perf_counter()
    _spread(server, list(tasks), args.connections, f"{name}: asking for analyses")
    connection = server.connect()

    def all_done() -> bool:
        _, text = server.request(connection, "GET", "/metrics")
        done = sum(
            float(line.rsplit(b" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(b"relab_rca_runs{") and b'status="done"' in line
        )
        return done >= args.runs

    wait_until(all_done, within_s=600, what="all analyses")
    return Figures(
        f"{name}: RCA reports, asked for over HTTP until stored",
        args.runs / (time.perf_counter() - started),
        note="one worker, five progress events each",
    )


def _latency(name: str, server: Server) -> Figures:
    """Measure the time from the request for one analysis to the end of its progress stream, on an idle system."""
    connection = server.connect()
    times = []
    for number in range(50):
        started = time.perf_counter()
        _, answer = server.request(connection, "POST", f"/agent-runs/bench-{number}/rca-runs?force=true")
        rca_run_id = json.loads(answer)["rca_run_id"]
        server.request(connection, "GET", f"/rca-runs/{rca_run_id}/stream")
        times.append((time.perf_counter() - started) * 1_000)
    times.sort()
    return Figures(
        f"{name}: one report, from request to end of stream",
        1_000 / times[25],
        times[25],
        times[-1],
        note="idle, n = 50, p99 is the maximum",
    )


def _subscribers(name: str, server: Server, count: int) -> Figures:
    """Measure the memory of `count` open progress streams of a waiting analysis, and the time until all of them end."""
    worker = server.worker()
    # A worker that is suspended in the middle of a write would hold SQLite's lock.
    idle = ('relab_jobs{status="pending"}', 'relab_jobs{status="running"}')
    wait_until(lambda: not any(server.gauge(metric) for metric in idle), what="an idle queue")
    worker.suspend()
    try:
        _, answer = server.request(server.connect(), "POST", "/agent-runs/bench-0/rca-runs?force=true")
        head = f"GET /rca-runs/{json.loads(answer)['rca_run_id']}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        before = server.memory_mb()["api"]
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        for client in clients:
            client.sendall(head.encode())
        wait_until(lambda: server.gauge("relab_progress_followers") == count, what="all streams being followed")
        after = server.memory_mb()["api"]
    finally:
        worker.resume()
    started = time.perf_counter()
    ended = sum(_read_to_end(client) for client in clients)
    seconds = time.perf_counter() - started
    return Figures(
        f"{name}: {count:,} idle progress streams",
        memory_mb=after - before,
        note=f"{(after - before) * 1_024 / count:.1f} KB each; {ended:,} ended by themselves {seconds:.1f} s after the work went on",
    )


def _read_to_end(client: socket.socket) -> bool:
    client.settimeout(60)
    received = b""
    while b"RCA complete" not in received or b"0\r\n\r\n" not in received:
        chunk = client.recv(65_536)
        if not chunk:
            break
        received += chunk
    client.close()
    return b"RCA complete" in received
