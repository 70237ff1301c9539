"""Three times the load that the testbed's target can take: without a limit, with a fixed one, with one that adapts.

The service, which is workers, database, cache and links, has one core and the load generator the other: what is measured is
the target's own economy with what it has. Its capacity is found first, by clients that wait for their answers (a closed loop): more
of them, until no more answers come.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from relab.load.histogram import LatencyHistogram
from relab.load.models import LoadResult, Stage
from relab.load.service import find_throughput, make_plan, parse_mix, run_load
from relab.testbed import service

GROUPS: Final = ("target", "database", "cache", "links")
SERVICE_CORE: Final = 1
OTHER_CORE: Final = 0
CLIENTS: Final = (2, 4, 8, 16, 32)
OVERLOAD: Final = 3.0
DRAINED_WITHIN_S: Final = 300.0
PATIENCE_S: Final = 3.0
"""After which a client gives up."""
LIMITS: Final = 256
"""What a fixed limit is set too high to, and what an adapting one may rise to; of the whole service."""
MIX: Final = """
values:
  product_id: {kind: integer, low: 1, high: 5000}
requests:
  - name: order
    method: POST
    path: /api/v1/orders
    body: {product_id: "{product_id}", quantity: 1, customer: bench}
"""
"""What an answer costs must be worth turning others away for: an order is a few milliseconds of work, a refusal a
fifteenth of one. Of a load of cheap answers refusals alone would take a good part of the core.
"""


@dataclass
class Overload:
    """What became of three times the capacity; latencies of accepted requests, from when they were due."""

    what: str
    offered_per_s: float
    good_per_s: float
    goodput_pct: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    target_p95_ms: float
    turned_away_pct: float
    timed_out_pct: float
    generator_cpu: float
    generator_late_p99_ms: float | None
    limits: list[int | None]


@contextmanager
def separated(home: Path, name: str) -> Iterator[None]:
    """Keep the service with all that it needs on one core and this process on the other, where there are two."""
    before = os.sched_getaffinity(0)
    if not {SERVICE_CORE, OTHER_CORE} <= before:
        yield
        return
    first = [item.pid for item in service.status(home, name).components if item.pid and item.group in GROUPS]
    pids = [
        pid for one in first for pid in (one, *(child.pid for child in psutil.Process(one).children(recursive=True)))
    ]
    for pid in pids:
        _pin(pid, {SERVICE_CORE})
    os.sched_setaffinity(0, {OTHER_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        for pid in pids:
            _pin(pid, before)


def _pin(pid: int, cores: set[int]) -> None:
    # A session of the database, or a thread, may end meanwhile.
    with suppress(ProcessLookupError, FileNotFoundError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def set_flow(url: str, **control: Any) -> None:
    """Change the target's flow control."""
    httpx.post(f"{url}/api/flags", json={"control": control}, timeout=10, trust_env=False).raise_for_status()
    # Each worker looks at the flags ten times a second.
    time.sleep(0.5)


def capacity(url: str, seconds: float) -> tuple[float, int, float]:
    """Return the most answers per second, of how many waiting clients that was, and their P95 in ms."""
    plan = make_plan(url=url, mix=parse_mix(MIX, "bench"), stages=[Stage(duration_s=1, rate_per_s=1)])
    found = [find_throughput(plan, clients=clients, seconds=seconds) for clients in CLIENTS]
    best = max(found, key=lambda row: row.good_per_s)
    return best.good_per_s, best.clients, best.p95_ms or 0.0


def wait_drained(url: str) -> None:
    """Wait until the target has done with what earlier clients asked for and no longer want.

    Raises:
        TimeoutError: it has not, after five minutes.
    """
    deadline = time.monotonic() + DRAINED_WITHIN_S
    while time.monotonic() < deadline:
        # Whichever worker answers tells of both.
        flow = httpx.get(f"{url}/api/v1/metrics", timeout=60, trust_env=False).json()["flow_control"]
        if all(worker["active"] == 0 and worker["waiting"] == 0 for worker in flow):
            return
        time.sleep(1.0)
    raise TimeoutError(f"The target still works on old requests after {DRAINED_WITHIN_S:g} s.")


def overload(url: str, what: str, at_capacity: float, target_p95_ms: float, seconds: float) -> Overload:
    """Offer three times the capacity and return what came of it; the flags are in force already."""
    result = _offer(url, OVERLOAD * at_capacity, seconds)
    flow = httpx.get(f"{url}/api/v1/metrics", timeout=30, trust_env=False).json()["flow_control"]
    # What is due at the end is served when nothing more comes: it is no part of the overload.
    windows = [window for window in result.windows if window.end_s <= seconds]
    good = LatencyHistogram.merged(LatencyHistogram.decode(window.good_latency.histogram) for window in windows)
    counts = [window.counts for window in windows]
    offered = sum(each.offered for each in counts)
    lost = sum(each.timed_out + each.failed + each.dropped for each in counts)
    p50_ms, p95_ms, p99_ms = good.quantiles_ms((0.5, 0.95, 0.99))
    return Overload(
        what,
        offered / seconds,
        good.count / seconds,
        100 * good.count / seconds / at_capacity,
        p50_ms,
        p95_ms,
        p99_ms,
        target_p95_ms,
        100 * sum(each.statuses.get("5xx", 0) for each in counts) / offered,
        100 * lost / offered,
        result.generator.cpu_share,
        result.generator.lag_p99_ms,
        [worker.get("limit") for worker in flow],
    )


def _offer(url: str, rate_per_s: float, seconds: float) -> LoadResult:
    plan = make_plan(
        url=url,
        mix=parse_mix(MIX, "bench"),
        stages=[Stage(duration_s=seconds + PATIENCE_S, rate_per_s=rate_per_s)],
        arrivals="poisson",
        # In which an adapting limit finds its place.
        warmup_s=10.0,
        timeout_s=PATIENCE_S,
        max_in_flight=20_000,
    )
    return run_load(plan)
