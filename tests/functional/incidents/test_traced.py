"""An incident in which every action fails: RCA explains its agent run, and its postmortem names the error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relab.bootstrap import Services, build
from relab.incidents.storage.models import IncidentStatus
from relab.incidents.tracing.projection import agent_run_id
from relab.rca.models import RcaStatus, Report
from relab.settings import load_settings
from relab.telemetry.models import RunStatus
from rig.waiting import wait_until
from support.api.client import run_jobs
from support.storage.migrated import migrate
from support.testbed.beds import bed_home
from support.testbed.broken_hands import ERROR, broken_hands
from support.testbed.fault_field import Field, a_field

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with bed_home() as home, a_field(home) as found:
        yield found


@contextmanager
def services_of(field: Field, home: Path, *, autonomy: str, hands: str) -> Iterator[Services]:
    """Yield the services of a responder."""
    token = str(field.actions.headers["Authorization"]).removeprefix("Bearer ")
    given = {"target_api_base_url": field.target, "action_server_url": hands, "action_server_token": token}
    settings = {"autonomy": autonomy, "target_name": "shop"}
    made = build(load_settings(home, poll_interval_seconds=1.0, incidents=settings, **given))
    migrate(made.database)
    yield made
    made.close()


def handed_over(services: Services, field: Field) -> str:
    """Inject `cache_down`, and return the id of the incident once it is escalated."""

    def escalated() -> str | None:
        found = services.incidents.log.list_incidents(target="shop", statuses=[IncidentStatus.ESCALATED]).items
        return found[0].incident_id if found else None

    async def go() -> str:
        async with services.incidents.responding():
            await asyncio.to_thread(
                lambda: wait_until(lambda: services.incidents.status().polls >= 8, within_s=60, what="polls")
            )
            await asyncio.to_thread(field.inject, "cache_down")
            found = await asyncio.to_thread(lambda: wait_until(escalated, within_s=150, what="an escalation"))
            assert found is not None
            return found

    return asyncio.run(go())


def explained(services: Services, run_id: str) -> Report:
    asked = services.rca.request(run_id)
    run_jobs(services)
    found = services.rca.get(asked.rca_run_id)
    assert found.status is RcaStatus.DONE
    assert found.report is not None
    return found.report


def test_failure_of_every_action_is_explained(field: Field, tmp_path: Path) -> None:
    with (
        broken_hands(str(field.actions.base_url)) as hands,
        services_of(field, tmp_path, autonomy="act", hands=hands) as services,
    ):
        incident_id = handed_over(services, field)
        run, _ = services.telemetry.load(agent_run_id(incident_id))
        report = explained(services, run.run_id)
        told = services.incidents.postmortems.of(incident_id)

    assert run.status == RunStatus.FAILURE
    assert run.error_type == "actions_failed"
    failed = [call for call in run.tool_calls if call.error_message == ERROR]
    assert [call.tool_name for call in failed][:1] == ["restart-cache"]
    assert {"look:service", "look:processes"} <= {call.tool_name for call in run.tool_calls}
    assert all(call.step_id is not None for call in run.tool_calls)
    assert report.attribution is not None
    assert report.attribution.call_id == failed[0].call_id
    assert ERROR in report.summary
    assert not told.is_over
    assert told.actions[0].action == "restart-cache"
    assert ERROR in told.actions[0].result
    assert {"errors.pct", "latency.p95_ms"} <= {figure.name for figure in told.signals}


def test_policy_refusal_is_a_guardrail_event(field: Field, tmp_path: Path) -> None:
    field.reset()
    with services_of(field, tmp_path, autonomy="observe", hands=str(field.actions.base_url)) as services:
        run, _ = services.telemetry.load(agent_run_id(handed_over(services, field)))
        report = explained(services, run.run_id)

    assert run.status == RunStatus.FAILURE
    assert run.error_type == "policy_refused"
    assert [each.type for each in run.guardrail_events] == ["policy"]
    assert "restart-cache" in run.guardrail_events[0].message
    assert run.guardrail_events[0].message in " ".join(item.snippet for item in report.evidence_index)
