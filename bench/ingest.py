"""`python -m bench.ingest`: measure how fast OTLP spans are ingested, beside floors and other receivers (peers).

Everything runs on one machine: the load, the server and its database share it, so compare the ratios. A span counts
when another process finds it stored. The load is that of `bench/otlp_load.py`; with `--driver` (or RELAB_OTLP_DRIVER)
that program measures the throughput instead (`URL --traces N --conns N --count-cmd COMMAND`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from bench.ingest_floors import decode_floor, postgresql_floor, sqlite_floor
from bench.ingest_runs import TARGET_RATE, Figures, at_rate, growth, long_run, overview, throughput
from bench.otlp_load import SPANS_PER_TRACE
from bench.otlp_targets import DURABLE_POSTGRES, Target, peer, relab
from rig.servers import PostgresServer

PARTS = ("floors", "relab-sqlite", "relab-postgresql", "phoenix", "mlflow")
_ALIASES = {"relab-postgres": "relab-postgresql"}
# If one part cannot run, for example because a peer cannot be installed, the figures of the other parts are kept.
_FAILURES = (OSError, RuntimeError, ValueError, AssertionError, subprocess.SubprocessError, psutil.Error)
_DATABASE_FAILURES = (sqlite3.Error, psycopg.Error)


def main() -> None:
    args = _arguments()
    # Exit normally on SIGTERM, so that the servers are stopped as after an error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Figures] = []
    failed = False
    with TemporaryDirectory(prefix="relab-ingest-") as folder:
        for part in args.only:
            try:
                _measure(part, Path(folder), args, rows)
            except (*_FAILURES, *_DATABASE_FAILURES) as error:
                failed = True
                _print(f"{part} failed: {error}")
                rows.append(Figures(part, note=f"failed: {type(error).__name__}: {str(error)[:300]}"))
    if args.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "driver": args.driver or "bench.otlp_load"}
        print(json.dumps(about | {"rows": [asdict(row) for row in rows], "ratios": ratios(rows)}, indent=2))
    else:
        _show(rows)
    if failed:
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"Parts, of {','.join(PARTS)}.")
    parser.add_argument("--traces", type=int, default=10_000, help="Traces of 10 spans for relab.")
    parser.add_argument("--peer-traces", type=int, default=1_000, help="Traces for the peers, which take longer.")
    parser.add_argument("--spans", type=int, default=1_000_000, help="How far to let relab grow; 0 for not at all.")
    parser.add_argument("--no-memory", action="store_true", help="Do not let relab grow; reads are of less data then.")
    parser.add_argument("--seconds", type=float, default=30.0, help="How long each fixed rate lasts.")
    parser.add_argument("--conns", type=int, default=8)
    parser.add_argument("--driver", default=os.environ.get("RELAB_OTLP_DRIVER"), help="A program for the throughput.")
    parser.add_argument("--peers-dir", type=Path, default=Path(".bench/peers"), help="Where peers are installed.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.no_memory:
        args.spans = 0
    return args


def _parts(text: str) -> list[str]:
    named = [_ALIASES.get(part, part) for part in text.split(",")]
    unknown = sorted(set(named) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return named


def _measure(part: str, root: Path, args: argparse.Namespace, rows: list[Figures]) -> None:
    """Measure one part and append its figures to `rows`; after an error, the figures taken before it stay there."""
    if part == "floors":
        _floors(root, args, rows)
    elif part in {"phoenix", "mlflow"}:
        _print(f"{part}: {args.peer_traces * SPANS_PER_TRACE:,} spans as fast as they go")
        with peer(part, _folder(root, part), args.peers_dir.absolute()) as target:
            rows.append(throughput(target, args.peer_traces, args))
    else:
        _measure_relab(part, root, args, rows)


def _measure_relab(part: str, root: Path, args: argparse.Namespace, rows: list[Figures]) -> None:
    database = part.removeprefix("relab-")

    def empty(name: str) -> AbstractContextManager[Target]:
        return relab(_folder(root, f"{part}-{name}"), database)

    with empty("rates") as target:
        _print(f"{part}: {args.traces * SPANS_PER_TRACE:,} spans as fast as they go")
        rows.append(throughput(target, args.traces, args))
        half = (rows[-1].visible_per_s or TARGET_RATE) / 2
        for number, rate in enumerate((TARGET_RATE / 2, half)):
            _print(f"{part}: {args.seconds:.0f} s at {rate:,.0f} spans a second")
            # A new seed, because spans with the same ids would already be stored.
            rows.append(at_rate(target, rate, 10 + number, args))
        if not args.spans:
            _reads(part, target, rows)
    if args.spans:
        # Start with an empty database; otherwise the 100,000th span would be stored before the first sample.
        with empty("growth") as target:
            _print(f"{part}: growing to {args.spans:,} spans")
            rows.append(growth(target, args))
            _reads(part, target, rows)


def _reads(part: str, target: Target, rows: list[Figures]) -> None:
    reads: tuple[Callable[[Target], Figures], ...] = (long_run, overview)
    for read in reads:
        _print(f"{part}: {read.__name__.replace('_', ' ')}")
        rows.append(read(target))


def _folder(root: Path, name: str) -> Path:
    made = root / name
    made.mkdir()
    return made


def _floors(root: Path, args: argparse.Namespace, rows: list[Figures]) -> None:
    _print("floors")
    spans = min(args.traces * SPANS_PER_TRACE, 100_000)
    what = f"n={spans:,} spans"
    decoded = decode_floor(spans)
    rows.append(Figures("floor: decode only", decoded, note=f"{what}; protobuf, attributes to JSON, one core"))
    inserted = sqlite_floor(root, spans)
    rows.append(Figures("floor: insert only, SQLite", inserted, note=f"{what}; packed spans, one index, synced"))
    server = PostgresServer.create()
    try:
        server.options = DURABLE_POSTGRES
        server.stop()
        server.start()
        copied = postgresql_floor(server.create_database("floor"), spans)
    finally:
        server.destroy()
    rows.append(Figures("floor: insert only, PostgreSQL", copied, note=f"{what}; COPY, one index, synced"))


def ratios(rows: list[Figures]) -> list[dict[str, str | float]]:
    """Return the ratios of relab's rate of stored spans to the rate of each peer and floor that was measured with it.

    Each is a dict with `of` (relab), `to` (the other) and `ratio`.
    """
    found: list[dict[str, str | float]] = []
    for own in rows:
        if own.what not in {"relab on sqlite", "relab on postgresql"} or not own.visible_per_s:
            continue
        for other in rows:
            rate = other.accepted_per_s if other.what.startswith("floor") else other.visible_per_s
            if rate and not other.what.startswith("relab"):
                found.append({"of": own.what, "to": other.what, "ratio": own.visible_per_s / rate})
    return found


def _print(text: str) -> None:
    print(f"{text} ...", file=sys.stderr)


def _show(rows: list[Figures]) -> None:
    title = f"OTLP ingest on {platform.machine()}, {os.cpu_count()} cores shared by load, server and database"
    table = Table(title=title, title_justify="left")
    for column in ("what", "accepted/s", "visible/s", "p50 ms", "p99 ms", "max ms", "MB before", "MB after", "note"):
        table.add_column(column, justify="left" if column in {"what", "note"} else "right")
    for row in rows:
        times = (row.p50_ms, row.p99_ms, row.max_ms)
        sizes = (row.memory_before_mb, row.memory_mb)
        figures = (row.accepted_per_s, row.visible_per_s, *times, *sizes)
        table.add_row(row.what, *("" if value is None else f"{value:,.0f}" for value in figures), row.note)
    console = Console(width=200)
    console.print(table)
    for found in ratios(rows):
        console.print(f"{found['of']} / {found['to']}: {found['ratio']:.2f}")


if __name__ == "__main__":
    main()
