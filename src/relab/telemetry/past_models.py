"""Earlier runs, with only the fields that an analysis needs to compare a run with them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from relab.telemetry.outcome_models import RunOutcome


class PastRun(BaseModel):
    """The fields of an earlier run that a comparison of two versions of an agent needs.

    `tool_call_counts` is `{tool: number of calls}`.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    agent_version: str | None
    prompt_hash: str | None
    started_at: int
    outcome: RunOutcome
    step_count: int
    tool_call_counts: dict[str, int]


class PassedCall(BaseModel):
    """A tool call of a successful run.

    `args_json` is None if the call has no arguments, or if the arguments are too long.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    call_id: str
    tool_name: str
    args_json: Any = None


class PassingRun(BaseModel):
    """A run that succeeded, for a comparison with a failed run.

    `calls` are the tool calls that did not fail, in order of time. `answer` is None if the run has no answer, or if the
    answer is too long.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    started_at: int
    answer: str | None = None
    calls: tuple[PassedCall, ...] = ()


class PassingRuns(BaseModel):
    """The succeeded runs for a comparison with a failed run, newest first.

    `same_task` is true if they have the same agent and task as the failed run. If it is false, they have the same agent
    and version. `of_trial` says whether the failed run is a trial of an experiment; its version is then its variant.
    """

    model_config = ConfigDict(frozen=True)

    same_task: bool
    of_trial: bool = False
    runs: tuple[PassingRun, ...] = ()
