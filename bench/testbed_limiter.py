"""Measure the testbed's target at three times its capacity: without a limit, with a fixed and with an adaptive limit.

The service (workers, database, cache and links) has one core and the load generator another, so that the result shows
how well the target uses its core. Its capacity is measured first with a closed loop: the highest throughput over
several numbers of clients that wait for their answers.
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
DRAIN_TIMEOUT_S: Final = 300.0
PATIENCE_S: Final = 3.0
"""The time-out of a client, in seconds."""
LIMITS: Final = 256
"""The value of a fixed limit that is too high, and the maximum of an adaptive limit.

It is the number of concurrent requests of the whole service.
"""
MIX: Final = """
values:
  product_id: {kind: integer, low: 1, high: 5000}
requests:
  - name: order
    method: POST
    path: /api/v1/orders
    body: {product_id: "{product_id}", quantity: 1, customer: bench}
"""
"""The requests of the overload. Rejections must be much cheaper than answers.

An order takes a few milliseconds of work, a rejection a fifteenth of that. With cheap answers, the rejections alone
would use a large part of the core.
"""


@dataclass
class Overload:
    """Figures of a load of three times the capacity.

    Attributes:
        offered_per_s: the rate of requests.
        good_per_s, goodput_pct: the rate of good answers, absolute and in percent of the capacity.
        p50_ms, p95_ms, p99_ms: latencies of accepted requests, from the time when they were due.
        target_p95_ms: the P95 that an adaptive limit should keep.
        turned_away_pct, timed_out_pct: the percentage of requests that were rejected, and that got no answer in time.
        generator_cpu: the share of a core that the load generator used.
        limits: the limit of each worker at the end.
    """

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
    """While the `with` block runs, pin all processes of the service to one core and this process to another.

    Do nothing if the two cores are not available.
    """
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
    # A database session or a thread may end in the meantime.
    with suppress(ProcessLookupError, FileNotFoundError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def set_flow(url: str, **control: Any) -> None:
    """Change the target's flow control, and wait until all workers use it; `control` are its settings by name."""
    httpx.post(f"{url}/api/flags", json={"control": control}, timeout=10, trust_env=False).raise_for_status()
    # Each worker polls the flags ten times a second.
    time.sleep(0.5)


def capacity(url: str, seconds: float) -> tuple[float, int, float]:
    """Return the capacity: the highest number of good answers per second.

    Also return the number of closed-loop clients that reached it, and their P95 in ms.
    """
    plan = make_plan(url=url, mix=parse_mix(MIX, "bench"), stages=[Stage(duration_s=1, rate_per_s=1)])
    found = [find_throughput(plan, clients=clients, seconds=seconds) for clients in CLIENTS]
    best = max(found, key=lambda row: row.good_per_s)
    return best.good_per_s, best.clients, best.p95_ms or 0.0


def wait_drained(url: str) -> None:
    """Wait until the target has no more active or waiting requests of earlier clients.

    Raises:
        TimeoutError: requests remain after five minutes.
    """
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while time.monotonic() < deadline:
        # The worker that answers reports the state of all workers.
        flow = httpx.get(f"{url}/api/v1/metrics", timeout=60, trust_env=False).json()["flow_control"]
        if all(worker["active"] == 0 and worker["waiting"] == 0 for worker in flow):
            return
        time.sleep(1.0)
    raise TimeoutError(f"The target still works on old requests after {DRAIN_TIMEOUT_S:g} s.")


def overload(url: str, what: str, at_capacity: float, target_p95_ms: float, seconds: float) -> Overload:
    """Send three times the capacity and return the figures; the flow control must already be set.

    Args:
        url: the URL of the target.
        what: the name of the mode, for the table.
        at_capacity: the capacity, in requests per second.
        target_p95_ms: the P95 that an adaptive limit should keep.
        seconds: the duration of the overload.
    """
    result = _offer(url, OVERLOAD * at_capacity, seconds)
    flow = httpx.get(f"{url}/api/v1/metrics", timeout=30, trust_env=False).json()["flow_control"]
    # The last requests are served when no more requests arrive, so they do not count as overload.
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
        # Time for an adaptive limit to settle.
        warmup_s=10.0,
        timeout_s=PATIENCE_S,
        max_in_flight=20_000,
    )
    return run_load(plan)
