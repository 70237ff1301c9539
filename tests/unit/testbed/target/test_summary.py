"""Statistics of the target: latency buckets, metrics over all workers, statistics files, pool status and health."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.testbed.target.health import judge, pool_status, worker_state
from relab.testbed.target.histogram import GROWTH, MIN_MS, bucket_of, cumulative, quantile_ms, upper_ms
from relab.testbed.target.recorder import WorkerCounters, WorkerRecorder
from relab.testbed.target.stats_files import StatsWriter, WorkerStats, path_of, read_stats
from relab.testbed.target.summary import covered_s, metrics, window

GAUGES: dict[str, Any] = {
    "loop_lag_ms": 0.1,
    "limiter": {"limit": 16, "active": 1},
    "pool": {"max": 15, "used": 1, "idle": 2, "pending": 0},
}


class Clock:
    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def told(worker: int, recorder: WorkerRecorder, clock: Clock, *, started_s: float = 0.0, **gauges: Any) -> WorkerStats:
    document = {
        "worker": worker, "pid": 1, "written_s": clock.now_s, "started_s": started_s, "gauges": {**GAUGES, **gauges},
        "counted": json.loads(recorder.text()),
    }  # fmt: skip
    return WorkerStats.read(document)


@given(st.floats(MIN_MS, 1e7))
def test_a_bucket_holds_its_values_within_two_percent(ms: float) -> None:
    upper = upper_ms(bucket_of(ms))

    assert upper / GROWTH * (1 - 1e-6) <= ms <= upper * (1 + 1e-6)


@given(st.lists(st.floats(0.02, 1e5), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_the_nearest_rank_within_a_percent(values: list[float], q: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1

    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    assert quantile_ms(counts, q) == pytest.approx(exact, rel=0.011)
    assert cumulative(counts, [1e9]) == [(1e9, len(values))]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.floats(0, 40), st.sampled_from([200, 404, 500, 503]), st.floats(0.1, 5_000)),
        max_size=120,
    )
)
def test_metrics_of_all_workers_cover_exactly_the_requests_of_the_window(
    requests: list[tuple[int, float, int, float]],
) -> None:
    clock = Clock()
    recorders = {worker: WorkerRecorder(window_s=30, clock=clock) for worker in (1, 2, 3)}
    for worker, at_s, status, ms in sorted(requests, key=lambda request: request[1]):
        clock.now_s = 1_000.0 + at_s
        recorders[worker].request("product" if worker < 3 else "search", status, ms)
    clock.now_s = 1_040.0
    workers = [told(worker, recorder, clock) for worker, recorder in recorders.items()]

    found = metrics(workers, now_s=clock.now_s, window_s=30)

    inside = [(status, ms) for _, at_s, status, ms in requests if int(1_000 + at_s) >= 1_011]
    failed = sum(status >= 500 for status, _ in inside)
    assert found["requests"] == len(inside)
    assert found["errors"] == failed
    assert found["error_rate"] == pytest.approx(100 * failed / len(inside) if inside else 0, abs=1e-3)
    if inside:
        exact = sorted(ms for _, ms in inside)[math.ceil(0.95 * len(inside)) - 1]
        assert found["p95_ms"] == pytest.approx(exact, rel=0.011, abs=0.001)
    assert sum(route["requests"] for route in found["routes"].values()) == len(inside)
    assert sum(w.totals.routes[name].count for w in workers for name in w.totals.routes) == len(requests)


def test_rates_are_computed_over_the_uptime_of_the_target() -> None:
    clock = Clock(1_000.0)
    recorder = WorkerRecorder(window_s=30, clock=clock)
    for _ in range(50):
        recorder.request("product", 200, 1.0)
    clock.now_s = 1_005.0

    worker = told(1, recorder, clock, started_s=1_000.0)

    assert metrics([worker], now_s=clock.now_s, window_s=30)["requests_per_second"] == 10.0
    assert covered_s([worker], now_s=2_000.0, window_s=30) == pytest.approx(29.0)


def test_statistics_are_read_back_even_after_their_file_shrinks(tmp_path: Path) -> None:
    clock = Clock()
    recorder = WorkerRecorder(window_s=30, clock=clock)
    recorder.request("product", 503, 12.0, shed=True)
    recorder.event("cache_hits", 3)
    recorder.wait(1.5)
    text = (
        json.dumps({"worker": 1, "pid": 7, "written_s": 1.0, "started_s": 0.5, "gauges": {"long": "x" * 5_000}})[:-1]
        + f',"counted":{recorder.text()}}}'
    )
    writer = StatsWriter(tmp_path, 1)
    writer.write(text)
    writer.write(text.replace("x" * 5_000, ""))
    found = read_stats(tmp_path, 1)
    writer.close()

    assert found is not None
    assert found.gauges == {"long": ""}
    assert found.seconds[1_000].routes["product"].shed == 1
    assert found.totals.events == {"cache_hits": 3}


@pytest.mark.parametrize("raw", [b"", b"garbage", b"0000000a00000000too short", b"000000020000000199"])
def test_partially_written_file_is_ignored(tmp_path: Path, raw: bytes) -> None:
    path_of(tmp_path, 1).write_bytes(raw)

    assert read_stats(tmp_path, 1) is None
    assert read_stats(tmp_path, 2) is None


@pytest.mark.parametrize(
    ("kernel", "age_s", "expected"),
    [
        ("sleeping", 0.2, "running"),
        ("sleeping", 3.0, "not responding"),
        ("stopped", 0.2, "stopped"),
        ("gone", 0.2, "down"),
        ("zombie", 9.0, "down"),
    ],
)
def test_worker_state_follows_from_its_process_and_the_age_of_its_statistics(
    kernel: str, age_s: float, expected: str
) -> None:
    worker = WorkerStats(1, 1, 100.0, 0.0, GAUGES, {}, WorkerCounters())

    assert worker_state(worker, now_s=100.0 + age_s, state=lambda _: kernel) == expected
    assert worker_state(None, now_s=100.0) == "down"


@pytest.mark.parametrize(
    ("used", "pending", "timeouts", "health", "utilization"),
    [
        (0, 0, 0, "healthy", "low"),
        (8, 0, 0, "healthy", "normal"),
        (13, 0, 0, "degraded", "high"),
        (15, 0, 0, "degraded", "exhausted"),
        (15, 1, 0, "critical", "exhausted"),
        (15, 0, 2, "critical", "exhausted"),
        (2, 0, 1, "degraded", "low"),
    ],
)
def test_pool_health_is_that_of_its_worst_worker(
    used: int, pending: int, timeouts: int, health: str, utilization: str
) -> None:
    clock = Clock()
    quiet, busy = WorkerRecorder(window_s=30, clock=clock), WorkerRecorder(window_s=30, clock=clock)
    if timeouts:
        busy.event("pool_timeouts", timeouts)
    pool = {"max": 15, "used": used, "idle": 0, "pending": pending}
    workers = [told(1, quiet, clock), told(2, busy, clock, pool=pool)]
    recent = {w.worker: window([w], now_s=clock.now_s, window_s=30) for w in workers}

    status = pool_status(workers, recent)

    assert status["pool_health"] == health
    assert status["pool_utilization"] == utilization
    assert status["used"] == used + 1
    assert status["max"] == 30


HEALTHY: dict[str, Any] = {
    "figures": {"requests": 100, "error_rate": 0.0, "p95_ms": 20.0, "cache": {"write_errors": 0}},
    "pool": {"pool_health": "healthy", "used": 1, "max": 30, "pending": 0, "timeouts": 0},
    "workers": {1: "running", 2: "running"},
    "probes": {"database": {"ok": True}, "cache": {"ok": True}},
    "indexes": {"faiss": "ready", "qdrant": "ready"},
    "receipt_errors": 0,
    "target_p95_ms": 1_200.0,
}


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({}, "healthy", None),
        ({"probes": {"database": {"ok": False, "error": "refused"}, "cache": {"ok": True}}}, "critical", "database"),
        ({"probes": {"database": {"ok": True}, "cache": {"ok": False, "error": "refused"}}}, "degraded", "cache"),
        ({"figures": {**HEALTHY["figures"], "error_rate": 1.0}}, "degraded", "error rate"),
        ({"figures": {**HEALTHY["figures"], "error_rate": 50.0}}, "critical", "error rate"),
        ({"figures": {**HEALTHY["figures"], "error_rate": 100.0, "requests": 4}}, "healthy", None),
        ({"figures": {**HEALTHY["figures"], "p95_ms": 1_201.0}}, "degraded", "P95"),
        ({"workers": {1: "running", 2: "stopped"}}, "degraded", "worker 2 is stopped"),
        ({"workers": {1: "running", 2: "down", 3: "stopped"}}, "critical", "worker"),
        ({"indexes": {"faiss": "incomplete", "qdrant": "ready"}}, "degraded", "faiss"),
        ({"receipt_errors": 2}, "degraded", "files"),
        ({"pool": {**HEALTHY["pool"], "pool_health": "critical"}}, "critical", "connection pool"),
        ({"figures": {**HEALTHY["figures"], "cache": {"write_errors": 3}}}, "degraded", "cache refused 3 writes"),
    ],
)
def test_health_follows_the_thresholds(changed: dict[str, Any], status: str, reason: str | None) -> None:
    found, reasons = judge(**{**HEALTHY, **changed})

    assert found == status
    assert bool(reasons) == (reason is not None)
    assert all(reason in told for told in reasons if reason)
