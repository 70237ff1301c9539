"""Past runs, as far as an analysis compares a run with them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from relab.telemetry.outcome_models import RunOutcome


class PastRun(BaseModel):
    """The fields of a past run that a comparison of versions needs; `tool_call_counts` is `{tool: number of calls}`."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    agent_version: str | None
    prompt_hash: str | None
    started_at: int
    outcome: RunOutcome
    step_count: int
    tool_call_counts: dict[str, int]


class PassedCall(BaseModel):
    """A tool call of a run that succeeded; `args_json` is None if the call has no arguments, or if they are too long."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    call_id: str
    tool_name: str
    args_json: Any = None


class PassingRun(BaseModel):
    """A run that succeeded, for a comparison with a failed run.

    `calls` are the tool calls that did not fail, in order of time. `answer` is None if the run has no answer or a too
    long one.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    started_at: int
    answer: str | None = None
    calls: tuple[PassedCall, ...] = ()


class PassingRuns(BaseModel):
    """The succeeded runs for a comparison with a failed run, newest first.

    `same_task` is True if they had the same agent and task as the failed run, False if they had the same agent and
    version.
    """

    model_config = ConfigDict(frozen=True)

    same_task: bool
    runs: tuple[PassingRun, ...] = ()
