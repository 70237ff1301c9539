"""`python -m bench.load`: check whether the load generator keeps its rate, and whether its latencies are true.

The generator (`lab load`, a process) has one core, the server another. The server records when each request arrived and
was answered; together with the times at which the requests were due, this gives the true latencies, which include the
generator's delays. The table also shows what was injected (delays and stalls, for requests sent exactly when due), and
the figures of wrk, which waits for an answer before it sends again (a closed loop), on an equal server.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from relab.load.arrivals import arrival_offsets_ns
from relab.load.models import LoadPlan, LoadResult
from rig.load_servers import Behaviour, KnownServer, Truth, known_server

GENERATOR_CORE = 0
SERVER_CORE = 1
MIX = "{values: {n: {kind: sequence}}, requests: [{name: it, path: /ok, query: {n: '{n}'}}]}"
_WRK_LINE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)\s*$", re.MULTILINE)
_WRK_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1_000.0, "m": 60_000.0}


@dataclass
class Row:
    """One row of the table.

    Attributes:
        n: the number of requests.
        rate_per_s, rate_error_pct: the rate of requests, and its deviation from the planned rate in percent.
        cpu_share: the share of a core that the generator used.
        p50_ms, p99_ms: the latencies that the generator measured.
        true_p50_ms, true_p99_ms: the latencies according to the server's record.
        injected_p50_ms, injected_p99_ms: the latencies that the injected delays would cause.
    """

    what: str
    n: int
    rate_per_s: float | None = None
    rate_error_pct: float | None = None
    cpu_share: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    true_p50_ms: float | None = None
    true_p99_ms: float | None = None
    injected_p50_ms: float | None = None
    injected_p99_ms: float | None = None
    others_cores: float | None = None
    """Cores used by other processes during the measurement; a generator that shares its core is late."""
    note: str = ""


IDLE_SHARE = 0.85
"""The share of all cores' time in a second that must be unused for the machine to count as idle."""


def wait_idle(at_most_s: float) -> None:
    """Wait until the machine has been idle for one second, but at most `at_most_s` seconds."""
    deadline = time.monotonic() + at_most_s
    while time.monotonic() < deadline:
        if psutil.cpu_percent(interval=1.0) <= 100 * (1 - IDLE_SHARE):
            return


def measured(measure: Callable[[], list[Row]]) -> list[Row]:
    """Run a measurement and return its rows with `others_cores`: how many cores other processes used meanwhile."""
    own, busy, started = _own_cpu_s(), _busy_cpu_s(), time.monotonic()
    rows = measure()
    others = (_busy_cpu_s() - busy - (_own_cpu_s() - own)) / (time.monotonic() - started)
    return [replace(row, others_cores=max(others, 0.0)) for row in rows]


def _busy_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _own_cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def pin(pid: int, core: int) -> None:
    """Pin a process to one core, if that core is available."""
    if hasattr(os, "sched_setaffinity") and core in os.sched_getaffinity(0):
        os.sched_setaffinity(pid, {core})


def run_pinned(command: list[str], core: int) -> str:
    """Run a command pinned to one core, and return its standard output."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pin(process.pid, core)
        out, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}: {out[-500:]}")
    return out


def generate(
    server: KnownServer, folder: Path, rate: float, seconds: float, arrivals: str
) -> tuple[LoadPlan, LoadResult]:
    """Run `lab load` against the server, and return its plan and its result.

    Args:
        server: the server.
        folder: the folder for the files of the load.
        rate: the requests per second.
        seconds: the duration of the load.
        arrivals: `constant` or `poisson`.
    """
    (folder / "mix.yaml").write_text(MIX)
    out = folder / "load.json"
    run_pinned(
        [
            sys.executable, "-m", "relab", "load", server.url, "--requests", str(folder / "mix.yaml"), "--rate", str(rate),
            "--duration", str(seconds), "--arrivals", arrivals, "--output", str(out), "--quiet",
        ],
        GENERATOR_CORE,
    )  # fmt: skip
    found = json.loads(out.read_text())
    return LoadPlan.model_validate(found["plan"]), LoadResult.model_validate(found["result"])


def rank(values: list[float], share: float) -> float:
    return values[max(1, int(share * len(values) + 0.5)) - 1]


def served_rate(truth: Truth) -> float:
    """Return how many requests per second arrived at the server, according to its record."""
    first_ns, last_ns = int(truth.rows[0][2]), int(truth.rows[-1][2])
    return (len(truth.rows) - 1) / ((last_ns - first_ns) / 1e9)


def rate_row(folder: Path, rate: float, seconds: float, arrivals: str) -> Row:
    """Measure at the server how accurately the generator keeps a rate; return a row of the table.

    Args:
        folder: the folder for the files of the load.
        rate: the requests per second.
        seconds: the duration of the load.
        arrivals: `constant` or `poisson`.
    """
    with known_server() as server:
        pin(server.pid, SERVER_CORE)
        plan, result = generate(server, folder, rate, seconds, arrivals)
        truth = server.truth()
    row = _row(f"lab load, {arrivals}, no delay", plan, result, truth)
    planned = (result.counts.offered - 1) / _planned_span_s(plan)
    row.rate_per_s = served_rate(truth)
    row.rate_error_pct = 100 * (row.rate_per_s / planned - 1)
    return row


def _planned_span_s(plan: LoadPlan) -> float:
    due_ns = list(arrival_offsets_ns(plan.stages, plan.arrivals, plan.seed))
    return (due_ns[-1] - due_ns[0]) / 1e9


def accuracy_rows(folder: Path, name: str, behaviour: Behaviour, rate: float, seconds: float) -> list[Row]:
    """Measure latencies of a server with known delays with `lab load` and wrk; return a row of the table for each tool.

    wrk uses the number of connections that gives the same rate.

    Args:
        folder: the folder for the files of the load.
        name: the name of the behaviour, for the table.
        behaviour: the delays and stalls of the server.
        rate: the requests per second.
        seconds: the duration of the load.
    """
    with known_server(behaviour) as server:
        pin(server.pid, SERVER_CORE)
        plan, result = generate(server, folder, rate, seconds, "constant")
        truth = server.truth()
    rows = [_row(f"lab load, {name}", plan, result, truth)]
    injected_ms = truth.injected_ms(plan, result, behaviour.delays_ms)
    rows[0].injected_p50_ms, rows[0].injected_p99_ms = rank(injected_ms, 0.5), rank(injected_ms, 0.99)
    if shutil.which("wrk") is None:
        return rows
    connections = max(1, round(rate * sum(behaviour.delays_ms) / len(behaviour.delays_ms) / 1_000))
    with known_server(behaviour) as server:
        pin(server.pid, SERVER_CORE)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", f"{server.url}/ok"]
        output = run_pinned(command, GENERATOR_CORE)
        seen = server.truth()
    found = {share: float(value) * _WRK_UNIT_MS[unit] for share, value, unit in _WRK_LINE.findall(output)}
    peer = Row(f"wrk -c{connections}, {name}", len(seen.rows), served_rate(seen))
    peer.p50_ms, peer.p99_ms = found["50"], found["99"]
    peer.note = f"closed loop; {len(seen.stalls)} stalls"
    return [rows[0], peer]


def _row(what: str, plan: LoadPlan, result: LoadResult, truth: Truth) -> Row:
    true_ms = truth.latencies_ms(plan, result)
    generator = result.generator
    stalls = f"{len(truth.stalls)} stalls; " if truth.stalls else ""
    return Row(
        what,
        result.counts.good,
        generator.rate_per_s,
        generator.rate_error_pct,
        generator.cpu_share,
        result.latency.p50_ms,
        result.latency.p99_ms,
        rank(true_ms, 0.5),
        rank(true_ms, 0.99),
        note=f"{stalls}late by {generator.lag_p99_ms:.2f} ms at P99; {result.counts.bad + result.counts.dropped} bad or dropped",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--rate", type=float, default=2_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--wait-idle", type=float, default=0, help="Before each, wait so long at most for idleness.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk, the closed-loop peer, is missing: apt-get install wrk", file=sys.stderr)
    # An odd number of delays, so that the median falls on one delay; they leave most of the server's core free.
    delays = (5.0, 10.0, 20.0, 30.0, 50.0)
    calm = args.rate / 2
    at = (int(args.rate * args.seconds * 0.25),)
    calm_at = (at[0] // 2,)
    measures: list[Callable[[Path], list[Row]]] = [
        lambda folder: [rate_row(folder, args.rate, args.seconds, "constant")],
        lambda folder: [rate_row(folder, args.rate, args.seconds, "poisson")],
        lambda folder: accuracy_rows(folder, "delays", Behaviour(delays), calm, args.seconds),
        lambda folder: accuracy_rows(folder, "delays and a stall", Behaviour(delays, calm_at), calm, args.seconds),
        lambda folder: accuracy_rows(folder, "2 ms and a stall", Behaviour((2.0,), at), args.rate, args.seconds),
    ]
    rows: list[Row] = []
    with TemporaryDirectory(prefix="relab-bench-") as folder:
        for measure in measures:
            for _ in range(args.repeats):
                wait_idle(args.wait_idle)
                rows += measured(partial(measure, Path(folder)))
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table(title=f"Load generator; {args.seconds:g} s each, load {os.getloadavg()[0]:.1f}", title_justify="left")
    for column in (
        "what",
        "n",
        "rate/s",
        "error %",
        "CPU",
        "P50",
        "true",
        "injected",
        "P99",
        "true",
        "injected",
        "others",
        "note",
    ):
        table.add_column(column, justify="left" if column in {"what", "note"} else "right")
    for row in rows:
        figures = (
            (row.rate_per_s, ".1f"), (row.rate_error_pct, "+.3f"), (row.cpu_share, ".2f"), (row.p50_ms, ".2f"),
            (row.true_p50_ms, ".2f"), (row.injected_p50_ms, ".2f"), (row.p99_ms, ".2f"), (row.true_p99_ms, ".2f"),
            (row.injected_p99_ms, ".2f"), (row.others_cores, ".2f"),
        )  # fmt: skip
        cells = ["" if value is None else format(value, form) for value, form in figures]
        table.add_row(row.what, f"{row.n:,}", *cells, row.note)
    Console(width=190).print(table)


if __name__ == "__main__":
    main()
