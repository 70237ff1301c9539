"""Probes and the shipped runbooks on a real service with each fault: the cause is found, and an action is accepted."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.incidents.diagnosis.inference import Diagnosis
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.client import ProbeClient
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.probes.service_health import relative_facts
from relab.knowledge.library import shipped_shelf
from relab.knowledge.models import FactValue
from relab.testbed.chaos.faults.catalogue import FAULTS
from rig.waiting import wait_until
from support.testbed.fault_field import Field
from support.testbed.signals import SIGNALS

pytestmark = [pytest.mark.full, pytest.mark.matrix]
RUNBOOKS = shipped_shelf().runbooks
SIGNAL_TIMEOUT_S = 60.0
DIAGNOSIS_TIMEOUT_S = 20.0
GIVEN: Mapping[str, Mapping[str, Any]] = {"memory_leak": {"mb_per_s": 40}, "db_lock": {"table": "stock"}}
NO_FAULT = ("batch_job", "slow_client", "deploy_restart")
LIKE_EACH_OTHER = frozenset(("traffic_spike", "retry_storm"))
"""Faults with the same symptom, too many requests, and the same repair."""


@pytest.fixture
def field(whole_field: Field) -> Iterator[Field]:
    wait_until(whole_field.is_well, within_s=60, what="a service that is well")
    yield whole_field
    # A reset keeps the chaos server, whose processes are the clients, so their injections are stopped first.
    for item in whole_field.chaos.get("/api/v1/break").json()["injections"]:
        if item["phase"] == "active" and item["fault"] in LIKE_EACH_OTHER:
            whole_field.stop(item["fault"], item["injection_id"])
    whole_field.reset()


def look(field: Field, usual: Mapping[str, float]) -> dict[str, FactValue]:
    """Run all probes as a responder does, with two addresses and a token; return the facts."""
    token = str(field.actions.headers["Authorization"]).removeprefix("Bearer ")

    async def take() -> dict[str, FactValue]:
        asker = ProbeTransport(field.target, str(field.actions.base_url), token=token)
        return dict((await ProbeClient(asker).run(PROBES)).facts)

    found = asyncio.run(take())
    return found | relative_facts({name: value for name, value in found.items() if isinstance(value, float)}, usual)


def usual_of(field: Field) -> dict[str, float]:
    """Return the service's numeric facts now, for use as its usual values."""
    return {name: value for name, value in look(field, {}).items() if isinstance(value, float)}


def thought(field: Field, usual: Mapping[str, float]) -> tuple[list[Candidate], dict[str, FactValue]]:
    facts = look(field, usual)
    return Diagnosis(RUNBOOKS, facts).candidates(), facts


def shows(field: Field, fault: str) -> bool:
    if fault == "cache_bandwidth":
        # At full strength large answers take as long as their time limit; the fault's own signal counts only those in time.
        sight = field.look()
        return SIGNALS[fault](sight) or sight.health.get("health_status") == "degraded"
    if fault in SIGNALS:
        return SIGNALS[fault](field.look())
    # Half of the window of the target's figures must have passed.
    return len(field.users.recent(3.0)) > 5 and field.users.failed_share(3.0) > 0.05


def variants() -> Iterator[Any]:
    two = {"bad_setting": ("setting", ("pool", "port")), "bad_flags": ("flag", ("concurrency", "route"))}
    for fault in FAULTS:
        name, values = two.get(fault, ("", ("",)))
        for value in values:
            yield pytest.param(fault, {name: value} if name else GIVEN.get(fault, {}), id=value or fault)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "given"), list(variants()))
def test_cause_is_diagnosed_and_a_repair_is_accepted(field: Field, fault: str, given: Mapping[str, Any]) -> None:
    if field.catalogue()[fault]["impossible"]:
        pytest.skip("this machine does not let anybody do that")
    usual = usual_of(field)
    field.inject(fault, given)
    wait_until(lambda: shows(field, fault), within_s=SIGNAL_TIMEOUT_S, what=f"{fault} to show")
    wanted = LIKE_EACH_OTHER if fault in LIKE_EACH_OTHER else {FAULTS[fault].cause}
    seen: list[str] = []

    def is_named() -> bool:
        candidates, facts = thought(field, usual)
        best = [item for item in candidates[:2] if item.cause in wanted]
        seen.append(", ".join(f"{item.cause} {item.probability:.2f}" for item in candidates[:3]))
        is_right = candidates[0].cause in wanted and sum(item.probability for item in best) >= 0.5
        return is_right and can_begin(field, candidates[0].cause, facts)

    try:
        wait_until(is_named, within_s=DIAGNOSIS_TIMEOUT_S, what=f"{FAULTS[fault].cause} to be named")
    except AssertionError as error:
        raise AssertionError(f"{error}; it was thought: {'; '.join(seen)}") from error
    print(f"{fault}: {'; '.join(seen)}")
    assert seen[-1].partition(" ")[0] in wanted


def can_begin(field: Field, cause: str, facts: Mapping[str, FactValue]) -> bool:
    """Return whether a dry run of one of the runbook's actions succeeds with parameters from the facts."""
    runbook = next(item for item in RUNBOOKS if item.cause == cause)
    for action in runbook.actions:
        names = [found for value in action.parameters.values() for found in re.findall(r"^\{(.+)\}$", str(value))]
        if not all(name in facts for name in names):
            continue
        given = {
            name: facts[value[1:-1]] if isinstance(value, str) and value.startswith("{") else value
            for name, value in action.parameters.items()
        }
        answer = field.actions.post(f"/action/{action.action}", params={"dry_run": True}, json=given)
        assert answer.status_code in {200, 409, 503}, answer.text
        if answer.status_code == 200:
            return True
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("noise", NO_FAULT)
def test_noise_is_not_diagnosed_as_a_fault(field: Field, noise: str) -> None:
    usual = usual_of(field)
    field.inject(noise)
    began = time.monotonic()
    while time.monotonic() - began < 6.0:
        candidates, facts = thought(field, usual)
        told = {str(each): facts[each.fact] for each in candidates[0].for_it}
        assert candidates[0].probability < 0.5 or candidates[0].cause == UNKNOWN, (candidates[0].cause, told)
