"""Rollouts whose plans an earlier version accepted stay readable."""

from __future__ import annotations

from relab.core.ids import new_id
from relab.rollouts.plans.canary import Canary
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import flag_plan
from relab.rollouts.plans.subject import JsonMetric
from relab.rollouts.record import RolloutPhase, RolloutRecord, RolloutStatus
from relab.rollouts.store import RolloutStore
from support.rollouts.rollout_lab import RolloutLab


def test_stored_plan_with_steps_that_flags_cannot_distinguish_is_read(lab: RolloutLab) -> None:
    canary = Canary().model_copy(update={"steps": (0.004, 100.0)})
    plan = flag_plan("flag", a="off", b="on").model_copy(update={"canary": canary})

    assert_readable(lab, plan)


def test_stored_plan_whose_metric_counts_requests_beside_a_load_is_read(lab: RolloutLab) -> None:
    plan = flag_plan("flag", a="off", b="on")
    metric = JsonMetric(kind="json", url="http://localhost/figures", pointer="/p95", errors="/errors")

    assert_readable(lab, plan.model_copy(update={"subject": plan.subject.model_copy(update={"metric": metric})}))


def assert_readable(lab: RolloutLab, plan: Plan) -> None:
    record = RolloutRecord(
        rollout_id=new_id(),
        plan=plan,
        target="flag:flag",
        status=RolloutStatus.DONE,
        phase=RolloutPhase.APPLY,
        requested_by="tester",
        created_at=1,
    )
    database = lab.services.database
    with database.write() as unit:
        RolloutStore(database).add(unit, record, is_job=False)

    assert lab.services.rollouts.get(record.rollout_id) == record
    assert [item.rollout_id for item in lab.services.rollouts.list_rollouts().items] == [record.rollout_id]
