"""The presence check of each fault: it finds the cause until the fault is repaired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from relab.testbed.actions.plant import Plant
from relab.testbed.chaos.faults.catalogue import FAULTS, find_fault
from relab.testbed.chaos.ground import Ground
from relab.testbed.links.client import LinksClient
from rig.waiting import wait_until
from support.testbed.beds import bed_home
from support.testbed.fault_cases import EVERY_WORKER, WORKERS, Steps
from support.testbed.fault_field import Field, a_field

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
RECOVERY_TIMEOUT_S = 30.0
SAMPLE = frozenset(("db_lock", "cache_latency", "bad_setting"))
"""The faults that are tested with the other long tests; the others are tested with the matrix of faults."""


@dataclass(frozen=True)
class PresenceCase:
    """A fault, the actions that repair it, and actions that do not."""

    fault: str
    right: Steps
    wrong: Steps = ()
    given: Mapping[str, Any] = field(default_factory=dict)


def limits(**most: int) -> Steps:
    return tuple(("raise-limit", {"component": f"worker-{number}", **most}) for number in WORKERS)


TARGET: Steps = (("restart-target", {}),)
LINKS: Steps = (("restart-links", {}),)
BACK: Steps = (("roll-back-settings", {}),)
CASES = (
    PresenceCase("db_pool", TARGET, (("restart-cache", {}),)),
    PresenceCase("db_connections", (("restart-database", {}),), TARGET),
    PresenceCase("db_lock", (("end-blocking-sessions", {}),), TARGET),
    PresenceCase("db_slow_query", (("recreate-indexes", {}),), (("restart-database", {}),)),
    PresenceCase("db_down", (("restart-database", {}),)),
    *(PresenceCase(f"database_{kind}", LINKS, TARGET) for kind in ("latency", "bandwidth", "blackhole")),
    *(PresenceCase(f"database_{kind}", (("use-path", {"dependency": "database"}),)) for kind in ("refuse", "reset")),
    *(PresenceCase(f"cache_{kind}", (("use-path", {"dependency": "cache"}),)) for kind in ("latency", "bandwidth")),
    *(PresenceCase(f"cache_{kind}", LINKS, TARGET) for kind in ("blackhole", "refuse", "reset")),
    PresenceCase("cache_down", (("restart-cache", {}),), TARGET),
    PresenceCase("cache_full", (("set-cache-memory", {}),), TARGET),
    PresenceCase("cache_auth", (("rotate-credential", {"dependency": "cache"}),), TARGET),
    PresenceCase("hang", (("resume-process", {"component": "target"}),)),
    PresenceCase("memory_leak", EVERY_WORKER, given={"mb_per_s": 40}),
    PresenceCase("descriptors", limits(descriptors=65_536)),
    PresenceCase("cpu_throttle", limits(cpu_pct=400), TARGET),
    PresenceCase("oom", limits(memory_mb=2_048)),
    PresenceCase("crash_loop", BACK),
    PresenceCase("disk_full", (("free-disk", {}),), TARGET),
    PresenceCase("bad_setting", BACK, TARGET, {"setting": "pool"}),
    PresenceCase("bad_credential", (("rotate-credential", {"dependency": "database"}),), TARGET),
    PresenceCase("bad_flags", (("set-search-route", {"backend": "rules"}),), TARGET, {"flag": "route"}),
    PresenceCase("search_index", TARGET, (("restart-cache", {}),), {"intensity": 0.5}),
    PresenceCase("cpu_saturation", (("stop-job", {}),), (("restart-cache", {}),)),
    PresenceCase("traffic_spike", (("set-flow-control", {"max_concurrency": 4}),), TARGET, {"rate_per_s": 50}),
    PresenceCase("retry_storm", (("set-flow-control", {"max_concurrency": 4}),), TARGET, {"rate_per_s": 20}),
)


@pytest.fixture(scope="module")
def broken() -> Iterator[Field]:
    with bed_home() as home, a_field(home) as found:
        yield found


@pytest.fixture
def field_of_faults(broken: Field) -> Iterator[Field]:
    yield broken
    for item in broken.chaos.get("/api/v1/break").json()["injections"]:
        if item["phase"] == "active":
            broken.stop(item["fault"], item["injection_id"])
    broken.reset()
    wait_until(broken.is_well, what="a service that is well again", within_s=60)


@pytest.fixture
def ground(broken: Field) -> Iterator[Ground]:
    layout = broken.bed.layout
    plant = Plant(layout.control_socket, broken.target)
    yield Ground(plant, LinksClient(layout.links_socket), layout.private, broken.target)
    plant.close()


def test_every_fault_has_a_presence_case() -> None:
    assert {case.fault for case in CASES} == set(FAULTS)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.fault, marks=[] if case.fault in SAMPLE else [pytest.mark.matrix]) for case in CASES],
)
def test_fault_is_present_until_it_is_repaired(case: PresenceCase, field_of_faults: Field, ground: Ground) -> None:
    there = field_of_faults
    if there.catalogue()[case.fault]["impossible"]:
        pytest.skip("this machine cannot bring it about")
    fault = find_fault(case.fault)
    presence = fault.presence(ground, fault.read_parameters(case.given))
    there.inject(case.fault, case.given)
    presence.begun()
    assert presence.is_there() in {True, None}
    wait_until(lambda: presence.is_there() is True, what="the cause to be there")

    for action, given in case.wrong:
        there.attempt(action, given)
    if case.wrong:
        wait_until(lambda: presence.is_there() is True, what="the cause to be there still")

    for action, given in case.right:
        there.do(action, given)
    wait_until(lambda: presence.is_there() is False, within_s=RECOVERY_TIMEOUT_S, what="the cause to be gone")
    assert presence.is_there() is False
