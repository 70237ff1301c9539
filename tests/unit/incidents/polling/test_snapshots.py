"""Reading a target's responses into a snapshot: bounded figures and words, and a reason for each missing part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.detection.detector import Detector
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import AbsenceReason
from relab.incidents.polling.snapshots import read_poll

SETTINGS = DetectionSettings(poll_interval_s=1.0)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
FIELDS = (
    "health_status",
    "error_rate",
    "dependencies",
    "workers",
    "routes",
    "cache",
    "utilization_pct",
    "timestamp",
    "pool_health",
)


@given(
    answers=st.dictionaries(
        st.sampled_from(("health", "metrics", "pool", "processes")),
        JSON | st.dictionaries(st.sampled_from(FIELDS), JSON),
    )
)
def test_any_response_gives_a_snapshot(answers: dict[str, Any]) -> None:
    snapshot = read_poll(1, answers)
    assert all(0 <= value <= 1e15 for value in snapshot.numbers.values())
    assert all(len(word) <= 100 for word in snapshot.words.values())
    Detector(SETTINGS).observe(snapshot)


def test_invalid_values_are_reported_and_not_used() -> None:
    snapshot = read_poll(
        1, {"metrics": {"error_rate": -3, "p95_ms": float("nan"), "requests_per_second": "many", "requests": 7}}
    )
    assert snapshot.absurd == ("errors.pct", "latency.p95_ms", "traffic.rps")
    assert snapshot.numbers == {"traffic.requests": 7.0}


def test_snapshot_has_the_figures_of_a_real_response() -> None:
    health = {
        "timestamp": "2026-01-01T00:00:01Z", "health_status": "critical", "error_rate": 12.5, "avg_response_time_ms": None,
        "dependencies": {"database": {"ok": False, "sqlstate": "53300", "connect_ms": 1.5}},
        "workers": [{"worker": 1, "state": "running"}, {"worker": 2, "state": "stopped"}],
    }  # fmt: skip
    metrics = {
        "timestamp": "2026-01-01T00:00:02Z",
        "p95_ms": 80.0,
        "routes": {"order": {"error_rate": 50.0, "p95_ms": 90.0}},
    }
    snapshot = read_poll(5, {"health": health, "metrics": metrics, "pool": AbsenceReason.TIMED_OUT})

    assert snapshot.told_at_us == 1_767_225_602_000_000
    assert snapshot.words == {
        "health": "critical", "dependency.database": "failing", "dependency.database.sqlstate": "53300",
        "worker.1": "running", "worker.2": "stopped",
    }  # fmt: skip
    assert snapshot.numbers["route.order.errors.pct"] == 50.0
    assert snapshot.numbers["workers.silent"] == 1.0
    assert snapshot.absent == {"pool": AbsenceReason.TIMED_OUT}


@pytest.mark.parametrize("fds", [10**308, 1.7e308, 3])
def test_very_large_numbers_are_dropped_without_an_error(fds: float) -> None:
    workers = [{"worker": 1, "fds": fds, "fd_limit": 1, "rss_bytes": fds, "uptime_s": fds}]
    snapshot = read_poll(1, {"processes": {"workers": workers}})
    assert all(0 <= value <= 1e15 for value in snapshot.numbers.values())


@pytest.mark.parametrize("name", ["payments", "api.example.com"])
def test_failing_dependency_opens_an_incident_whatever_its_name_is(name: str) -> None:
    health = {"health_status": "healthy", "dependencies": {name: {"ok": False, "sqlstate": "28P01"}}}
    detector = Detector(SETTINGS)

    snapshots = [read_poll(at_us * 1_000_000, {"health": health}) for at_us in (1, 2)]
    _, found = (detector.observe(snapshot) for snapshot in snapshots)

    assert snapshots[0].failing == {name}
    assert [anomaly.signal for anomaly in found.confirmed] == [f"dependency.{name}"]
    assert found.opens is True
