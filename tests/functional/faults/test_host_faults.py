"""Faults of the machine beside the target, and noise that only looks like a fault."""

from __future__ import annotations

import pytest

from rig.waiting import wait_until
from support.testbed.fault_cases import Check, FaultCase, checks, fails
from support.testbed.fault_field import Field
from support.testbed.signals import SIGNALS


def has_long_run_queue(field: Field) -> bool:
    """Return whether two samples show more runnable processes than processors while the job runs."""
    sight = field.look()
    queues = (sight.kernel_then["running"], sight.kernel["running"])
    return min(queues) > sight.kernel["cpus"] and sight.is_running("report-job")


SATURATION = FaultCase(
    "cpu_saturation", has_long_run_queue, (("restart-target", {}), ("restart-cache", {})), ((("stop-job", {}),),),
)  # fmt: skip
DISK = FaultCase(
    "disk_full", fails(0.1, route="place_order"), (("restart-target", {}), ("restart-database", {})),
    ((("free-disk", {}),),),
)  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks((SATURATION,)))
def test_cpu_saturation_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks((DISK,)))
def test_full_disk_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    if field.catalogue()["disk_full"]["impossible"]:
        pytest.skip("this machine does not permit mounting; see test_impossible_fault_is_rejected_with_the_reason")
    check(field)


@pytest.mark.full
def test_reads_succeed_on_a_full_volume(field: Field) -> None:
    if field.catalogue()["disk_full"]["impossible"]:
        pytest.skip("this machine lets nobody mount")
    field.inject("disk_full")
    wait_until(lambda: field.users.failed_share(2.0, route="place_order") > 0.5, what="orders that fail")
    for route in ("search", "product", "order"):
        assert field.users.failures(route=route) == {}
    assert field.look().said("ENOSPC")


@pytest.mark.full
@pytest.mark.parametrize("noise", ["batch_job", "slow_client"])
def test_noise_is_not_a_fault(field: Field, noise: str) -> None:
    injection_id = field.inject(noise)
    if noise in SIGNALS:
        wait_until(lambda: SIGNALS[noise](field.look()), what=f"{noise} to be seen")
    sight = field.look()
    alike = [name for name in field.catalogue()[noise]["look_alikes"] if name in SIGNALS]
    assert [name for name in alike if SIGNALS[name](sight)] == []
    assert field.users.failures(count=200) == {}
    assert field.stop(noise, injection_id)["notes"] == []
    wait_until(field.is_well, what="a service that is well")


@pytest.mark.full
def test_deployment_replaces_every_worker_and_ends(field: Field) -> None:
    before = field.look()
    injection_id = field.inject("deploy_restart")

    def is_over() -> bool:
        now = field.look()
        is_new = all(now.workers()[name]["pid"] != item["pid"] for name, item in before.workers().items())
        return is_new and all(item["state"] == "running" for item in now.workers().values())

    wait_until(is_over, within_s=60, what="all workers to be new ones")
    sight = field.look()
    assert SIGNALS["deploy_restart"](sight)
    # No worker crashed, and no signal of a fault that looks like a restart is true.
    assert [item["restarts"] for item in sight.workers().values()] == [0, 0]
    assert not any(SIGNALS[name](sight) for name in ("crash_loop", "oom", "hang", "bad_setting"))
    wait_until(field.is_well, what="a service that is well")
    assert field.stop("deploy_restart", injection_id)["notes"] == []


@pytest.mark.full
def test_second_job_is_rejected_while_one_runs(field: Field) -> None:
    field.inject("batch_job", {"seconds": 600})
    refused = field.chaos.post("/api/v1/break/cpu_saturation")
    assert refused.status_code == 503
    assert "report-job is already running" in refused.text
    field.do("stop-job")
    again = field.attempt("stop-job")
    assert again.status_code == 409
    assert again.json()["code"] == "precondition_failed"
