"""`make bench`: measure how fast runs are ingested and reports are created, and how much memory this needs.

Every figure is printed beside its floor, measured in the same run on the same machine: the same work without the parts
that relab adds. Ratios mean something on a noisy machine; single figures do not.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from bench.floors import analyze_floor, big_run, parse_floor, service_floor, sqlite_floor
from bench.server import Figures, measure_server
from rig.servers import PostgresServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="Agent runs to post and analyse (default 2000).")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--subscribers", type=int, default=1_000, help="Idle progress streams to hold open.")
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    rows: list[Figures] = []
    with TemporaryDirectory(prefix="relab-bench-") as folder:
        root = Path(folder)
        rows += [parse_floor(args.runs), sqlite_floor(root, args.runs), service_floor(root, args.runs)]
        rows += [analyze_floor(args.runs), big_run()]
        if args.database in {"sqlite", "both"}:
            rows += measure_server("SQLite", root / "sqlite", None, args)
        if args.database in {"postgres", "both"}:
            server = PostgresServer.create()
            try:
                url = server.create_database("bench")
                rows += measure_server("PostgreSQL", root / "postgres", url, args)
            finally:
                server.destroy()
    if args.json:
        print(json.dumps([row.__dict__ for row in rows], indent=2))
        return
    table = Table(title=f"relab bench on {platform.machine()}, {args.runs:,} runs", title_justify="left")
    for column in ("what", "per second", "p50 ms", "p99 ms", "memory MB", "note"):
        table.add_column(column, justify="left" if column in {"what", "note"} else "right")
    for row in rows:
        table.add_row(row.what, _cell(row.per_s), _cell(row.p50_ms), _cell(row.p99_ms), _cell(row.memory_mb), row.note)
    Console(width=130).print(table)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


if __name__ == "__main__":
    main()
