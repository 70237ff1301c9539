"""Store a pass over a project (a build and its retries) as an agent run, so that root cause analysis can explain it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError

from relab.builds.controller import BuildPass
from relab.builds.logs.reading import read_log
from relab.builds.logs.relevance import relevant_lines
from relab.builds.models import Build, BuildStatus, agent_run_id
from relab.builds.optimizer.catalogue import action_of
from relab.core.clock import format_time
from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.telemetry.models import AgentRun
from relab.telemetry.service import TelemetryService

AGENT_NAME: Final = "relab-build"
ENVIRONMENT: Final = "build"
_MAX_TEXT: Final = 8_000
_MAX_LINES: Final = 30
_STATUS: Final = {
    BuildStatus.RUNNING: "running",
    BuildStatus.SUCCESS: "success",
    BuildStatus.FAILED: "failure",
    BuildStatus.INTERRUPTED: "cancelled",
}

_log = get_logger(__name__)


def agent_run_of(done: BuildPass, log_of: Callable[[str], str | None]) -> AgentRun:
    """Return a pass (a build and its retries) as an agent run: each build becomes a step with one tool call.

    The status of the agent run is the status of the last build; `cancelled` if the pass was stopped before a retry.

    Args:
        done: the pass, with at least one build.
        log_of: returns the log of the build with a given id; None if the build has no log.
    """
    first, last = done.builds[0], done.builds[-1]
    run: dict[str, Any] = {
        "run_id": agent_run_id(first.build_id),
        "agent_name": AGENT_NAME,
        "environment": ENVIRONMENT,
        "started_at": format_time(first.started_at),
        # The wall clock may have been set back during the pass; times of a run must be in order.
        "ended_at": format_time(max(first.started_at, *(_ended(build) for build in done.builds))),
        "status": "cancelled" if done.is_stopped else _STATUS[last.result.status],
        "task_id": first.project,
        "prompt_hash": first.input_digest,
        "correlation_ids": [build.build_id for build in done.builds],
        "steps": [_step(done, number) for number in range(len(done.builds))],
        "tool_calls": [_call(build, number, log_of) for number, build in enumerate(done.builds)],
        "build": {"build_id": first.build_id, "href": f"/builds/{first.build_id}", "is_flaky": done.is_flaky},
    }
    if last.result.status is BuildStatus.FAILED and not done.is_stopped:
        run |= {"error_type": _error_class(last), "error_message": _text(last.result.error or "")}
    return AgentRun.model_validate(run)


def send_to_telemetry(telemetry: TelemetryService, done: BuildPass, log_of: Callable[[str], str | None]) -> None:
    """Store a pass (a build and its retries) as an agent run. If this fails, log the error and return.

    `log_of` returns the log of the build with a given id; None if the build has no log.
    """
    if not done.builds:
        return
    try:
        telemetry.ingest(agent_run_of(done, log_of))
    except (RelabError, ValidationError) as error:
        _log.warning("build_not_in_telemetry", build_id=done.builds[0].build_id, error=str(error))


def _step(done: BuildPass, number: int) -> dict[str, Any]:
    build = done.builds[number]
    step: dict[str, Any] = {"step_id": f"attempt_{number}", "name": "build", **_outcome(build)}
    if number > 0:
        decision = done.decisions[number - 1]
        step["input_summary"] = (
            f"After a failure, the policy {decision.policy} chose: {action_of(decision.action_id).description}"
        )
        step["retries"] = number
    return step


def _call(build: Build, number: int, log_of: Callable[[str], str | None]) -> dict[str, Any]:
    call: dict[str, Any] = {
        "call_id": f"build_{number}",
        "step_id": f"attempt_{number}",
        "tool_name": "build",
        "args_json": {} if build.configuration is None else build.configuration.values(),
        **_outcome(build),
    }
    log = log_of(build.build_id) if build.result.status is BuildStatus.FAILED else None
    if log:
        lines = relevant_lines(read_log(io.BytesIO(log.encode())))[:_MAX_LINES]
        call["result_summary"] = _text("\n".join(line.text for line in lines))
    return call


def _outcome(build: Build) -> dict[str, Any]:
    """Return the status, the times and the error of a build, as fields of a step or of a tool call.

    An agent run of builds has a step with one tool call for each build; both get these fields.
    """
    found: dict[str, Any] = {
        "status": _STATUS[build.result.status],
        "started_at": format_time(build.started_at),
        "ended_at": format_time(_ended(build)),
        "latency_ms": (build.result.duration_s or 0.0) * 1_000,
    }
    if build.result.status is BuildStatus.FAILED:
        found |= {"error_class": _error_class(build), "error_message": _text(build.result.error or "")}
    return found


def _error_class(build: Build) -> str:
    return "build_failed" if build.result.failure is None else f"build_{build.result.failure.value}"


def _ended(build: Build) -> int:
    return build.started_at + int((build.result.duration_s or 0.0) * 1e6)


def _text(text: str) -> str:
    # Telemetry accepts no NUL.
    return text[:_MAX_TEXT].replace("\x00", "\ufffd")
