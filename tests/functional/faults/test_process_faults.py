"""Faults of the target's own processes and of their resource limits."""

from __future__ import annotations

import pytest

from support.testbed.fault_cases import EVERY_WORKER, WORKERS, Check, FaultCase, checks, fails, is_slow, says
from support.testbed.fault_field import Field

CASES = (
    FaultCase(
        "hang", fails(0.02), (("restart-database", {}), ("restart-cache", {})),
        ((("resume-process", {"component": "target"}),), (("restart-target", {}),), EVERY_WORKER),
    ),
    FaultCase(
        "memory_leak", says("MiB of memory"), (("restart-cache", {}), ("raise-limit", {"component": "target", "descriptors": 4_096})),
        ((("restart-target", {}),), EVERY_WORKER), given={"mb_per_s": 40},
    ),
    FaultCase(
        "descriptors", fails(), (("restart-cache", {}), ("restart-database", {})),
        (
            tuple(("raise-limit", {"component": f"worker-{number}", "descriptors": 65_536}) for number in WORKERS),
            (("restart-target", {}),), EVERY_WORKER,
        ),
    ),
    FaultCase(
        "search_index", says("search index faiss"), (("restart-cache", {}), ("restart-database", {})),
        ((("restart-target", {}),), EVERY_WORKER),
    ),
)  # fmt: skip
LIMITED = (
    FaultCase(
        "cpu_throttle", is_slow("product", 60.0), (("restart-target", {}), ("restart-database", {})),
        (tuple(("raise-limit", {"component": f"worker-{number}", "cpu_pct": 400}) for number in WORKERS),),
    ),
    FaultCase(
        "oom", fails(0.02), (("restart-target", {}), ("restart-worker", {"worker": 1})),
        (tuple(("raise-limit", {"component": f"worker-{number}", "memory_mb": 2_048}) for number in WORKERS),),
    ),
)  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(CASES))
def test_process_fault_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(LIMITED))
def test_resource_limit_fault_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    if field.catalogue()["oom"]["impossible"]:
        pytest.skip("this machine has no control groups; see test_impossible_fault_is_rejected_with_the_reason")
    check(field)


@pytest.mark.full
def test_impossible_fault_is_rejected_with_the_reason(field: Field) -> None:
    for name, row in field.catalogue().items():
        if row["impossible"]:
            refused = field.chaos.post(f"/api/v1/break/{name}")
            assert refused.status_code == 503
            assert refused.json()["code"] == "not_possible_here"
            assert row["impossible"] in refused.json()["detail"]
