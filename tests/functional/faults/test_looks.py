"""The operators' view beside the target: components, settings history and logs, without hidden parts and causes."""

from __future__ import annotations

import pytest

from rig.waiting import wait_until
from support.testbed.fault_field import Field
from support.testbed.signals import SIGNALS


@pytest.mark.full
def test_probes_answer_while_the_target_is_down(field: Field) -> None:
    field.inject("crash_loop")

    def is_told() -> bool:
        sight = field.look()
        exits = [item["exits"][-1:] for item in sight.workers().values()]
        return not sight.health and sight.said("database.pool_size", within_s=60) and exits == [[3], [3]]

    wait_until(is_told, within_s=60, what="a target that is away, and why")
    assert field.look().last_change() == {"database.pool_size": {"from": 10, "to": "auto"}}
    lines = field.actions.get("/logs", params={"component": "worker-1", "lines": 5}).json()["lines"]
    assert any("settings" in str(line) and "invalid" in str(line) for line in lines)


@pytest.mark.full
def test_stopped_worker_is_visible_and_can_be_resumed(field: Field) -> None:
    injection_id = field.inject("hang", {"intensity": 0.5})
    assert SIGNALS["hang"](field.look())

    field.do("resume-process", {"component": "worker-1"})
    assert not SIGNALS["hang"](field.look())
    wait_until(field.is_well, what="a service that is well")
    assert field.injection(injection_id)["phase"] == "active"


@pytest.mark.full
def test_hidden_components_are_not_shown(field: Field) -> None:
    known = {item["name"] for item in field.actions.get("/components").json()["components"]}
    assert known == {"postgres", "redis", "links", "worker-1", "worker-2", "actions", "report-job"}
    for name in ("chaos", "supervisor", "../private/plan.json", ""):
        refused = field.actions.get("/logs", params={"component": name})
        assert refused.status_code == 404
        assert refused.json()["code"] == "unknown_component"
    for name in sorted(known):
        answer = field.actions.get("/logs", params={"component": name, "lines": 3})
        assert answer.status_code == 200
        assert len(answer.json()["lines"]) <= 3


@pytest.mark.full
def test_public_endpoints_do_not_reveal_the_cause(field: Field) -> None:
    for fault in ("memory_leak", "bad_flags", "batch_job", "db_lock"):
        field.inject(fault)
    wait_until(lambda: field.look().job_log, what="a job that says something")
    shown = [
        field.actions.get("/components").text,
        field.actions.get("/settings/history").text,
        *(
            field.actions.get("/logs", params={"component": name, "lines": 500}).text
            for name in ("target", "worker-1", "worker-2", "postgres", "redis", "report-job")
        ),
    ]
    for word in ("chaos", "inject", "fault", "leak", "attack", "defect"):
        assert not any(word in text.lower() for text in shown), word
