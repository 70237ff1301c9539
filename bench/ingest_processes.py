"""`python -m bench.ingest_processes`: measure what one span costs 1, 2, … server processes on one PostgreSQL, and compute what they reach.

All processes share this machine, so that their rates say little. The processor time per span of the servers and of PostgreSQL does not
depend on how many cores there are (no worker runs, which would analyse failed runs), and samples of PostgreSQL's sessions show whether the processes wait for each other's locks.
`docs/design/ingest-speed.md` says how the last column is computed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg

from bench.otlp_load import SPANS_PER_TRACE
from bench.otlp_targets import DURABLE_POSTGRES, serving
from rig.servers import PostgresServer

SAMPLE_S = 0.02


@dataclass
class Costs:
    """Processor time per span in µs, and per wait event the share of samples in which a writing session waited."""

    processes: int
    spans: int
    server_us: float
    postgresql_us: float
    waits: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest_processes", description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--traces", type=int, default=5_000, help="Traces of 10 spans in total.")
    parser.add_argument("--conns", type=int, default=8, help="Connections to each process.")
    args = parser.parse_args()
    for count in args.processes:
        with TemporaryDirectory(prefix="relab-processes-") as folder:
            found = measure(Path(folder), count, args.traces, args.conns)
        waits = ", ".join(f"{name} {share:.1%}" for name, share in sorted(found.waits.items())) or "none"
        print(
            f"{found.processes} processes, n={found.spans:,} spans: servers {found.server_us:.1f} µs, "
            f"PostgreSQL {found.postgresql_us:.1f} µs of processor time per span; waits of sessions: {waits}"
        )


def measure(root: Path, processes: int, traces: int, conns: int) -> Costs:
    """Send traces to several server processes at once, and return the costs of a span."""
    with ExitStack() as cleanup:
        server = PostgresServer.create()
        cleanup.callback(server.destroy)
        server.options = DURABLE_POSTGRES
        server.stop()
        server.start()
        url = server.create_database("bench")
        targets = []
        for number in range(processes):
            home = root / str(number)
            home.mkdir()
            targets.append(cleanup.enter_context(serving(home, f"relab {number}", url, url, "--workers", "0")))
        own = [psutil.Process(target.process.pid) for target in targets]
        assert server.process is not None
        database = psutil.Process(server.process.pid)
        _load([target.url for target in targets], 200, conns, seed=1)
        before_s = sum(map(_spent_s, own)), _spent_s(database)
        waits: Counter[str] = Counter()
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(url, done, waits))
        watcher.start()
        spans = _load([target.url for target in targets], traces, conns, seed=2)
        done.set()
        watcher.join()
        after_s = sum(map(_spent_s, own)), _spent_s(database)
    samples = waits.pop("samples") or 1
    server_us, postgresql_us = ((after - before) / spans * 1e6 for before, after in zip(before_s, after_s, strict=True))
    return Costs(processes, spans, server_us, postgresql_us, {name: count / samples for name, count in waits.items()})


def _load(urls: list[str], traces: int, conns: int, *, seed: int) -> int:
    """Send the traces to all servers at once, an equal part to each; return how many spans they accepted."""
    part = traces // len(urls)
    driver = (sys.executable, "-m", "bench.otlp_load")
    started = [
        subprocess.Popen(
            [*driver, url, "--traces", str(part), "--conns", str(conns), "--seed", str(seed * 100 + number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, url in enumerate(urls)
    ]
    spans = sum(int(json.loads(process.communicate()[0])["spans"]) for process in started)
    if spans != part * len(urls) * SPANS_PER_TRACE:
        raise RuntimeError(f"{spans:,} spans of {part * len(urls) * SPANS_PER_TRACE:,} were accepted.")
    return spans


def _spent_s(process: psutil.Process) -> float:
    """Return the processor time of a process and its children, in seconds."""
    family = [process, *process.children(recursive=True)]
    return sum(used.user + used.system for used in (member.cpu_times() for member in family))


def _watch(url: str, done: threading.Event, waits: Counter[str]) -> None:
    """Count the wait events of sessions with a running statement, until `done` is set."""
    statement = (
        "SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity "
        "WHERE state = 'active' AND pid <> pg_backend_pid() AND application_name = 'relab'"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        while not done.wait(SAMPLE_S):
            for (event,) in connection.execute(statement):
                waits["samples"] += 1
                if event is not None:
                    waits[event] += 1


if __name__ == "__main__":
    main()
