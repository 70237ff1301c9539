"""Store a rollout in telemetry as an agent run, so that root cause analysis can explain one that failed."""

from __future__ import annotations

from typing import Any, Final

from relab.core.clock import format_time
from relab.core.errors import UnavailableError
from relab.core.json import digest
from relab.core.logging import get_logger
from relab.rollouts.models import ArmWindow
from relab.rollouts.record import RolloutPhase, RolloutRecord, RolloutStatus
from relab.stats.verdicts import Verdict
from relab.telemetry.models import AgentRun
from relab.telemetry.service import TelemetryService

AGENT_NAME: Final = "relab-rollout"
ENVIRONMENT: Final = "rollout"
_MAX_TEXT: Final = 8_000

_log = get_logger(__name__)


def agent_run_id(rollout_id: str) -> str:
    """Return the id that a rollout's agent run has in telemetry."""
    return f"rollout.{rollout_id}"


def agent_run_of(record: RolloutRecord) -> AgentRun:
    """Return the agent run of a rollout, with a step for each phase and a tool call for each window (measurement).

    The first case that applies decides the status of the agent run:

    - running: the rollout is not over.
    - failure: the rollout ended with an error.
    - success: the new flags are in force.
    - cancelled: it was a dry run.
    - failure: the verdict is FAIL or INVALID, or it is PASS but the new flags were not applied.
    - cancelled: otherwise, such as after the verdict EDGE (neither PASS nor FAIL), or if the rollout was interrupted
      before the verdict.
    """
    # The wall clock may have been set back during the rollout; times of a run must be in order.
    started_at = record.started_at or record.created_at
    ended_at = record.finished_at
    latest = max([started_at, *(phase.at for phase in record.phases), *(_ended(window) for window in record.windows)])
    status, error = _status(record), _error(record)
    run: dict[str, Any] = {
        "run_id": agent_run_id(record.rollout_id),
        "agent_name": AGENT_NAME,
        "environment": ENVIRONMENT,
        "started_at": format_time(started_at),
        "status": status,
        "task_id": record.target[:200].replace("/", "_"),
        "prompt_hash": digest(record.plan.model_dump(mode="json")),
        "correlation_ids": [record.rollout_id],
        "steps": _steps(record, latest, error),
        "tool_calls": [_call(window) for window in record.windows],
        "rollout": {
            "rollout_id": record.rollout_id,
            "href": f"/rollouts/{record.rollout_id}",
            "target": record.target,
            "experiment_run": None if record.experiment is None else record.experiment.run_id,
            "verdict": None if record.judgement is None else record.judgement.verdict.value,
            "applied": record.application is not None and record.application.applied,
            "flags_restored": record.flags_restored,
        },
    }
    if ended_at is not None:
        run["ended_at"] = format_time(max(ended_at, latest))
    if status == "failure":
        run |= {"error_type": error[0], "error_message": error[1][:_MAX_TEXT]}
    return AgentRun.model_validate(run)


def send_to_telemetry(telemetry: TelemetryService, record: RolloutRecord) -> None:
    """Store a rollout as an agent run in telemetry. If the database is unavailable, log a warning and return."""
    try:
        telemetry.ingest(agent_run_of(record))
    except UnavailableError as error:
        _log.warning("rollout_not_in_telemetry", rollout_id=record.rollout_id, error=str(error))


def _status(record: RolloutRecord) -> str:
    if not record.status.is_over:
        return "running"
    if record.status is RolloutStatus.FAILED:
        return "failure"
    if record.application is not None and record.application.applied:
        return "success"
    if record.is_dry_run:
        return "cancelled"
    judged = None if record.judgement is None else record.judgement.verdict
    if judged in {Verdict.FAIL, Verdict.INVALID, Verdict.PASS}:
        return "failure"
    return "cancelled"


def _error(record: RolloutRecord) -> tuple[str, str]:
    """Return `(type, message)` of the error of an agent run that failed, such as `("rollout_verdict_fail", ...)`."""
    if record.status is RolloutStatus.FAILED:
        return f"rollout_{record.phase.value}_failed", record.error or "The rollout failed."
    judgement = record.judgement
    if judgement is None:
        return "rollout_interrupted", record.error or ""
    if judgement.verdict is Verdict.PASS:
        return "rollout_not_applied", "" if record.application is None else record.application.message
    reasons = [judgement.reason, *judgement.problems]
    return f"rollout_verdict_{judgement.verdict.value.lower()}", " ".join(reasons)


def _steps(record: RolloutRecord, latest: int, error: tuple[str, str]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    begun = [*record.phases]
    for number, phase in enumerate(begun):
        is_last = number == len(begun) - 1
        ended_at = latest if is_last else max(begun[number + 1].at, phase.at)
        step: dict[str, Any] = {
            "step_id": f"{number:02d}_{phase.phase.value}",
            "name": phase.phase.value,
            "status": "success",
            "started_at": format_time(phase.at),
        }
        if is_last and not record.status.is_over:
            step["status"] = "running"
        else:
            step["ended_at"] = format_time(max(ended_at, phase.at))
        if _failed_here(record, phase.phase, is_last=is_last):
            step |= {"status": "failure", "error_class": error[0], "error_message": error[1][:_MAX_TEXT]}
        steps.append(step)
    return steps


def _failed_here(record: RolloutRecord, phase: RolloutPhase, *, is_last: bool) -> bool:
    """Return whether `phase` is the phase in which a rollout failed.

    Telemetry stores the rollout as an agent run, which shows this phase as a failed step. `is_last` says whether
    `phase` is the last phase that the rollout entered.
    """
    if _status(record) != "failure":
        return False
    if record.status is RolloutStatus.FAILED:
        return is_last or phase is record.phase
    assert record.judgement is not None
    return phase is (RolloutPhase.APPLY if record.judgement.verdict is Verdict.PASS else RolloutPhase.JUDGE)


def _call(window: ArmWindow) -> dict[str, Any]:
    call: dict[str, Any] = {
        "call_id": f"window_{window.index}",
        "tool_name": "measure_window",
        "status": "failure" if window.problems else "success",
        "started_at": format_time(window.started_at),
        "ended_at": format_time(_ended(window)),
        "args_json": {"window": window.index, "round": window.round, "arm": window.arm.value},
        "result_summary": (
            f"{window.completed} requests, {window.bad} failed, {window.dropped} dropped, metric "
            + ("missing" if window.metric is None else f"{window.metric:.3f}")
        ),
    }
    if window.problems:
        call |= {"error_class": "window_unusable", "error_message": " ".join(window.problems)[:_MAX_TEXT]}
    return call


def _ended(window: ArmWindow) -> int:
    return window.started_at + int(window.duration_s * 1e6)
