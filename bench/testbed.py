"""`python -m bench.testbed`: measure a testbed: how fast it starts and stops, how steady its target is, and its limiter.

It is a private testbed in a private folder, on the ports from `--port-base` on. The load generator runs on the same
machine; each row shows how many of its cores were busy with anything, and the load average.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.load import wait_idle
from bench.testbed_limiter import LIMITS, Overload, capacity, overload, separated, set_flow, wait_drained
from relab.core.errors import RelabError
from relab.load.models import LoadResult, Stage
from relab.load.service import built_in_mix, make_plan, run_load
from relab.testbed import service

NAME: Final = "bench"
PARTS: Final = ("times", "steady", "limiter")
ASKED: Final = {"up": 10.0, "reset": 3.0, "down": None}
MODES: Final[dict[str, dict[str, Any]]] = {
    "no limiter": {"policy": "fixed", "enabled_actuators": []},
    "fixed, too high": {"policy": "fixed", "enabled_actuators": ["concurrency"]},
    "aimd": {"policy": "aimd", "enabled_actuators": ["concurrency"]},
}
STEADY_RATE: Final = 60.0
WINDOW_S: Final = 5.0


@dataclass
class Times:
    """The durations of one operation on a testbed, one for each repeat.

    Attributes:
        what: `up`, `reset` or `down`.
        asked_s: the time that it may take at most; None: no limit.
        busy_cores: for each repeat, how many cores of the machine were busy.
        load: the load average of the machine.
    """

    what: str
    seconds: list[float]
    asked_s: float | None
    busy_cores: list[float] = field(default_factory=list)
    load: float = 0.0


@dataclass
class Steady:
    """Figures of the target at a fixed moderate rate.

    Attributes:
        window_p95_mean_ms, window_p95_sd_ms: mean and standard deviation of the P95s of the windows.
        generator_late_p99_ms: how late the load generator sent requests, at P99.
        routes: the latencies of each route, as measured by the clients and by the target.
        busy_cores, load: how many cores of the machine were busy, and its load average.
    """

    rate_per_s: float
    seconds: float
    requests: int
    error_rate_pct: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    windows: int
    window_s: float
    window_p95_mean_ms: float
    window_p95_sd_ms: float
    generator_late_p99_ms: float
    routes: list[dict[str, Any]]
    busy_cores: float
    load: float


class Machine:
    """Measures how many cores of the whole machine are busy."""

    def __init__(self) -> None:
        self._before = self._now()

    def cores(self) -> float:
        """Return the mean number of busy cores since the last call, or since the creation of the object."""
        before, self._before = self._before, self._now()
        (busy, at_s), (was, was_s) = self._before, before
        return (busy - was) / max(at_s - was_s, 1e-9)

    @staticmethod
    def _now() -> tuple[float, float]:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        return busy, time.monotonic()


@contextmanager
def a_home() -> Iterator[Path]:
    """Yield a temporary home with a short path, as sockets need; afterwards, stop its testbed and remove it."""
    with tempfile.TemporaryDirectory(prefix="rlb-") as folder:
        home = Path(folder)
        try:
            yield home
        finally:
            # The bench may have ended it already.
            with suppress(RelabError):
                service.down(home, NAME)


def measure_times(home: Path, base: int, repeats: int, idle_s: float) -> list[Times]:
    """Start, reset and stop a testbed `repeats` times, and return the durations of each operation.

    A first start creates the template, which is not measured.

    Args:
        home: the home of the testbed.
        base: the first port of the testbed.
        repeats: the number of repeats.
        idle_s: how long to wait for an idle machine before each operation, at most, in seconds.
    """
    service.up(home, NAME, port_base=base, start_within_s=60)
    service.down(home, NAME)
    rows = {what: Times(what, [], asked) for what, asked in ASKED.items()}

    def timed(what: str, act: Callable[[], object]) -> None:
        wait_idle(idle_s)
        machine = Machine()
        began = time.monotonic()
        act()
        rows[what].seconds.append(time.monotonic() - began)
        rows[what].busy_cores.append(machine.cores())
        rows[what].load = os.getloadavg()[0]

    for _ in range(repeats):
        timed("up", lambda: service.up(home, NAME, port_base=base, start_within_s=60))
        timed("reset", lambda: service.reset(home, NAME))
        timed("down", lambda: service.down(home, NAME))
    return list(rows.values())


def measure_steady(url: str, windows: int) -> Steady:
    """Load the target at a moderate rate for `windows` windows, and return its figures."""
    seconds = windows * WINDOW_S
    plan = make_plan(
        url=url,
        mix=built_in_mix("order"),
        stages=[Stage(duration_s=seconds, rate_per_s=STEADY_RATE)],
        arrivals="poisson",
        warmup_s=5.0,
        window_s=WINDOW_S,
    )
    machine = Machine()
    result = run_load(plan)
    p95s = [window.latency.p95_ms or 0.0 for window in result.windows]
    return Steady(
        STEADY_RATE,
        seconds,
        result.counts.offered,
        result.counts.error_rate_pct or 0.0,
        result.latency.p50_ms or 0.0,
        result.latency.p95_ms or 0.0,
        result.latency.p99_ms or 0.0,
        len(p95s),
        WINDOW_S,
        statistics.fmean(p95s),
        statistics.stdev(p95s),
        result.generator.lag_p99_ms or 0.0,
        _routes(url, result),
        machine.cores(),
        os.getloadavg()[0],
    )


def _routes(url: str, result: LoadResult) -> list[dict[str, Any]]:
    """Return the latencies of each route as measured by the clients and as reported by the target."""
    route_metrics = httpx.get(f"{url}/api/v1/metrics", timeout=30, trust_env=False).json()["routes"]
    names = {"order": "place_order", "order_status": "order", "product": "product"}
    return [
        {
            "route": names[route.name],
            "requests": route.counts.offered,
            "p50_ms": route.latency.p50_ms,
            "p95_ms": route.latency.p95_ms,
            "target_p50_ms": route_metrics.get(names[route.name], {}).get("p50_ms"),
            "target_p95_ms": route_metrics.get(names[route.name], {}).get("p95_ms"),
        }
        for route in result.routes
    ]


def measure_limiter(
    home: Path, url: str, target_p95_ms: float, seconds: float, idle_s: float
) -> tuple[float, int, list[tuple[Overload, float, float]]]:
    """Measure the target at three times its capacity, with each mode of its limiter.

    Return the capacity per second, the number of clients that reached it, and for each mode a tuple of its figures, the
    busy cores of the machine, and the load average.

    Args:
        home: the home of the testbed.
        url: the URL of the target.
        target_p95_ms: the P95 that an adaptive limit should keep.
        seconds: the duration of each overload.
        idle_s: how long to wait for an idle machine before each measurement, at most, in seconds.
    """
    found: list[tuple[Overload, float, float]] = []
    with separated(home, NAME):
        # Searches run one at a time, so that the cost of a search does not depend on the number of waiting ones.
        set_flow(url, **MODES["no limiter"], target_p95_ms=target_p95_ms, max_concurrency=LIMITS)
        wait_idle(idle_s)
        at_capacity, clients, _ = capacity(url, seconds=3.0)
        for what, control in MODES.items():
            wait_drained(url)
            set_flow(url, **control)
            wait_idle(idle_s)
            machine = Machine()
            row = overload(url, what, at_capacity, target_p95_ms, seconds)
            found.append((row, machine.cores(), os.getloadavg()[0]))
    return at_capacity, clients, found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.testbed", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=15.0, help="Of each overload.")
    parser.add_argument("--target-p95-ms", type=float, default=200.0)
    parser.add_argument("--port-base", type=int, default=25_500)
    parser.add_argument("--wait-idle", type=float, default=0, help="Before each, wait so long at most for idleness.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    with a_home() as home:
        if "times" in args.parts:
            found["times"] = measure_times(home, args.port_base, args.repeats, args.wait_idle)
        if {"steady", "limiter"} & set(args.parts):
            status = service.up(home, NAME, port_base=args.port_base, start_within_s=60)
            url = status.state.addresses.target
            if "steady" in args.parts:
                wait_idle(args.wait_idle)
                found["steady"] = measure_steady(url, args.windows)
            if "limiter" in args.parts:
                found["limiter"] = measure_limiter(home, url, args.target_p95_ms, args.seconds, args.wait_idle)
    if args.json:
        print(json.dumps(_plain(found), indent=2))
        return
    console = Console(width=150)
    for print_part, part in ((_print_times, "times"), (_print_steady, "steady"), (_print_limiter, "limiter")):
        if part in found:
            print_part(console, found[part])


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    plain = dict(found)
    if "times" in plain:
        plain["times"] = [asdict(row) for row in plain["times"]]
    if "steady" in plain:
        plain["steady"] = asdict(plain["steady"])
    if "limiter" in plain:
        at_capacity, clients, rows = plain["limiter"]
        each = [{**asdict(row), "busy_cores": cores, "load": load} for row, cores, load in rows]
        plain["limiter"] = {"capacity_per_s": at_capacity, "clients": clients, "rows": each}
    return plain


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _print_times(console: Console, rows: list[Times]) -> None:
    table = _table("Seconds", "what", "n", "best", "median", "worst", "asked", "busy cores", "load")
    for row in rows:
        each = sorted(row.seconds)
        shown = [f"{value:.2f}" for value in (each[0], statistics.median(each), each[-1])]
        asked = "" if row.asked_s is None else f"≤ {row.asked_s:g}"
        table.add_row(
            row.what, str(len(each)), *shown, asked, f"{statistics.fmean(row.busy_cores):.2f}", f"{row.load:.1f}"
        )
    console.print(table)


def _print_steady(console: Console, row: Steady) -> None:
    console.print(
        f"Steady state: {row.rate_per_s:g} requests/s for {row.seconds:g} s, {row.requests:,} requests, "
        f"errors {row.error_rate_pct:.3f} % (asked < 0.1), P50 {row.p50_ms:.2f} P95 {row.p95_ms:.2f} "
        f"P99 {row.p99_ms:.2f} ms; P95 of {row.windows} windows of {row.window_s:g} s: mean {row.window_p95_mean_ms:.2f}, "
        f"SD {row.window_p95_sd_ms:.2f} ms; generator late by {row.generator_late_p99_ms:.2f} ms at P99; "
        f"busy cores {row.busy_cores:.2f}, load {row.load:.1f}"
    )
    table = _table("Routes, ms", "route", "n", "P50", "P95", "P50 reported", "P95 reported")
    for route in row.routes:
        figures = [route[name] for name in ("p50_ms", "p95_ms", "target_p50_ms", "target_p95_ms")]
        table.add_row(route["route"], f"{route['requests']:,}", *(_cell(value) for value in figures))
    console.print(table)


def _print_limiter(console: Console, found: tuple[float, int, list[tuple[Overload, float, float]]]) -> None:
    at_capacity, clients, rows = found
    title = (
        f"Three times the capacity of {at_capacity:.0f}/s (closed loop, {clients} clients); target P95 "
        f"{rows[0][0].target_p95_ms:g} ms, limits up to {LIMITS}; the service on one core, the generator on the other"
    )
    table = _table(
        title, "what", "offered/s", "good/s", "goodput %", "P50", "P95", "P99", "503 %", "lost %", "limits",
        "gen. CPU", "gen. late P99", "busy cores", "load",
    )  # fmt: skip
    for row, cores, load in rows:
        table.add_row(
            row.what, f"{row.offered_per_s:.0f}", f"{row.good_per_s:.0f}", f"{row.goodput_pct:.0f}",
            _cell(row.p50_ms), _cell(row.p95_ms), _cell(row.p99_ms), f"{row.turned_away_pct:.0f}",
            f"{row.timed_out_pct:.0f}", " ".join("-" if limit is None else str(limit) for limit in row.limits),
            f"{row.generator_cpu:.2f}", _cell(row.generator_late_p99_ms), f"{cores:.2f}", f"{load:.1f}",
        )  # fmt: skip
    console.print(table)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
