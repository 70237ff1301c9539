"""Builders of records of simulated rollouts, for tests of reports."""

from __future__ import annotations

from typing import Any

from relab.rollouts.judging import judge
from relab.rollouts.models import ArmWindow
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import Application, RolloutPhase, RolloutRecord, RolloutStatus
from unit.rollouts.rollout_windows import ROLLOUT_ID, START_US, plan_of, rollout

ROLLBACK = """curl -X POST http://localhost:8011/ops/flags \\
  -H 'Content-Type: application/json' \\
  -d '{"control": {"enabled_actuators": []}, "routing": {"enabled": false}}'"""
APPLY = "curl -X POST http://localhost:8011/ops/flags -H 'Content-Type: application/json' -d '{}'"


def record_of(
    change_pct: float = -30, *, plan: Plan | None = None, windows: list[ArmWindow] | None = None, **changes: Any
) -> RolloutRecord:
    """Return the record of a judged rollout of 8 rounds; `changes` are fields of the record."""
    used = plan_of(8) if plan is None else plan
    measured = rollout(used, 8, change_pct) if windows is None else windows
    judgement = judge(measured, used)
    applied = judgement.verdict.value == "PASS"
    fields: dict[str, Any] = {
        "rollout_id": ROLLOUT_ID,
        "plan": used,
        "target": "http://localhost:8011",
        "status": RolloutStatus.DONE,
        "phase": RolloutPhase.APPLY,
        "requested_by": "somebody",
        "created_at": START_US,
        "started_at": START_US,
        "finished_at": START_US + 1_000_000,
        "windows": tuple(measured),
        "judgement": judgement,
        "application": Application(applied=applied, message="Version 7 was read back." if applied else ""),
        "flags_restored": not applied,
        "apply_command": APPLY,
        "rollback_command": ROLLBACK,
    }
    return RolloutRecord(**{**fields, **changes})
