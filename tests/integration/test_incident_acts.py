"""Actions on a real testbed: planned, permitted, approved, executed once, verified and undone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from relab.incidents.actions.approvals import ApprovalState, approval_request, approval_state, decide
from relab.incidents.actions.catalogue import ParameterValue, UserImpact
from relab.incidents.actions.client import ActionsClient, DryRun
from relab.incidents.actions.errors import (
    ActionServerBusyError,
    ActionServerStoppedError,
    RefusedError,
    StateChangedError,
)
from relab.incidents.actions.planning import ActionPlan, PlanningSettings, next_plan
from relab.incidents.actions.policy import Autonomy, Permission, Policy, ProposedAction, Situation, rule
from relab.incidents.actions.records import ActionRecord, ActionStatus, idempotency_key, of_others
from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.knowledge.models import FactValue, Risk, Runbook, RunbookAction
from relab.testbed import service
from rig.waiting import wait_until
from support.testbed.beds import bed_home
from support.testbed.fault_field import Field, a_field

pytestmark = pytest.mark.full

Value = TypeVar("Value")
STOPPED = Runbook(
    "process_stopped", "A worker is stopped", (), (), ("processes",),
    (RunbookAction("resume-process", {"component": "worker-{workers.stopped.worker}"}),
     RunbookAction("restart-worker", {"worker": "{workers.stopped.worker}"})), (), Risk.LOW,
)  # fmt: skip
SURE = (Candidate("process_stopped", 0.95), Candidate(UNKNOWN, 0.05))


@pytest.fixture(scope="module")
def whole_field() -> Iterator[Field]:
    with bed_home() as home, a_field(home) as found:
        yield found


@pytest.fixture
def field(whole_field: Field) -> Iterator[Field]:
    yield whole_field
    whole_field.reset()
    wait_until(whole_field.is_well, within_s=60, what="a service that is well again")


def asked(field: Field, work: Callable[[ActionsClient], Awaitable[Value]]) -> Value:
    """Run `work` with a client of the action server that has a new token, and return its result."""
    layout = field.bed.layout
    token = service.make_token(layout.home, layout.name, "responder", ["read", "act"], replace=True)

    async def ask_it() -> Value:
        client = ActionsClient(str(field.actions.base_url), token)
        return await work(client)

    return asyncio.run(ask_it())


def now_us() -> int:
    return time.time_ns() // 1_000


def stopped_worker(field: Field) -> str | None:
    """Return the number of a worker whose process is stopped, or None if every worker runs."""
    rows = field.actions.get("/components").json()["components"]
    stopped = (row["name"] for row in rows if (row["process"] or {}).get("kernel_state") == "stopped")
    return next((name.removeprefix("worker-") for name in stopped), None)


def test_approved_plan_resumes_a_stopped_worker(field: Field) -> None:
    detected_us = now_us()
    field.inject("hang", {"intensity": 0.5})
    worker = wait_until(lambda: stopped_worker(field), what="a worker that is stopped")
    assert worker is not None
    facts: dict[str, FactValue] = {"workers.stopped.worker": worker}

    async def work(client: ActionsClient) -> ActionRecord:
        catalogue = await client.catalogue()
        assert catalogue.unreadable == 0
        plan = next_plan(SURE, [STOPPED], facts, catalogue, (), PlanningSettings())
        assert isinstance(plan, ActionPlan), plan
        assert plan.action == "resume-process"
        assert plan.parameters == {"component": f"worker-{worker}"}
        found = await client.dry_run(plan.action, plan.parameters)
        recent = await client.records_since(detected_us)
        situation = Situation(
            now_us(),
            UserImpact.SOME_REQUESTS,
            server_is_stopped=await client.is_stopped(),
            others=[item.action for item in of_others(recent.records, (), since_us=detected_us)],
        )
        wish = ProposedAction(catalogue.actions[plan.action], plan.target, "i1")
        assert rule(Policy(Autonomy.APPROVE), wish, situation).verdict is Permission.NEEDS_APPROVAL
        question = approval_request(
            plan, approval_id="a1", incident_id="i1", state_digest=found.state_digest, ground="-", now_us=now_us(),
            valid_s=600.0,
        )  # fmt: skip
        answer = decide(question, None, approved=True, by="ann", now_us=now_us())
        again = await client.dry_run(plan.action, plan.parameters)
        holds = approval_state(question, answer, plan=plan, state_digest=again.state_digest, now_us=now_us())
        assert holds is ApprovalState.APPROVED
        record = ActionRecord(
            key=idempotency_key("i1", 1, plan.action), incident_id="i1", attempt=1, action=plan.action,
            action_class=plan.action_class, blast_radius=plan.blast_radius, target=plan.target,
            parameters=plan.parameters, cause=plan.cause, asked_at=now_us(), state_digest=found.state_digest,
        )  # fmt: skip
        done = [
            await client.execute(record.action, record.parameters, key=record.key, state_digest=record.state_digest)
            for _ in range(2)
        ]
        assert done[0].record_id == done[1].record_id
        return record.model_copy(update={"status": done[0].status, "record_id": done[0].record_id})

    act = asked(field, work)
    assert act.status is ActionStatus.SUCCEEDED
    wait_until(field.is_well, within_s=60, what="users who are served well")
    recent = asked(field, lambda client: client.records_since(detected_us))
    assert len(recent.records) == 1
    assert of_others(recent.records, [act], since_us=detected_us) == ()


def test_changed_state_prevents_the_action(field: Field) -> None:
    async def work(client: ActionsClient) -> tuple[str | None, int]:
        return (await client.dry_run("restart-worker", {"worker": 1})).state_digest, now_us()

    digest, detected_us = asked(field, work)
    # A different action, because the server would first reject the same one for its cooldown.
    field.do("restart-target")

    with pytest.raises(StateChangedError):
        asked(field, lambda client: client.execute("restart-worker", {"worker": 1}, key="k1", state_digest=digest))
    recent = asked(field, lambda client: client.records_since(detected_us))
    assert [item.actor for item in of_others(recent.records, (), since_us=detected_us)] == ["test"]


async def after_its_pause(client: ActionsClient, action: str, parameters: dict[str, ParameterValue]) -> DryRun:
    """Return the result of a dry run, once the cooldown of the action is over."""
    while True:
        try:
            return await client.dry_run(action, parameters)
        except ActionServerBusyError as error:
            await asyncio.sleep(error.retry_after_s)


def test_setting_is_undone_exactly_once(field: Field) -> None:
    given: dict[str, ParameterValue] = {"max_memory_mb": 32, "policy": "allkeys-lfu"}
    before = asked(field, lambda client: client.dry_run("set-cache-memory", given)).state

    async def work(client: ActionsClient) -> None:
        done = await client.execute("set-cache-memory", given, key="k1")
        assert done.after["maxmemory-policy"] == "allkeys-lfu"
        undone = await client.undo(done.record_id)
        assert (await client.undo(done.record_id)).record_id == undone.record_id

    asked(field, work)
    after = asked(field, lambda client: after_its_pause(client, "set-cache-memory", given))
    assert after.state["maxmemory-policy"] == before["maxmemory-policy"]


def test_no_action_while_the_kill_switch_is_on(field: Field) -> None:
    field.actions.put("/kill-switch", json={"stopped": True}).raise_for_status()

    assert asked(field, lambda client: client.is_stopped())
    with pytest.raises(ActionServerStoppedError):
        asked(field, lambda client: client.execute("restart-cache", {}, key="k1"))
    field.actions.put("/kill-switch", json={"stopped": False}).raise_for_status()
    with pytest.raises(RefusedError):
        asked(field, lambda client: client.dry_run("recreate-indexes", {}))
