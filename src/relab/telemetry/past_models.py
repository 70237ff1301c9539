"""Models of earlier runs with which a run is compared, limited to the fields that the comparison reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from relab.telemetry.outcome_models import RunOutcome


class PastRun(BaseModel):
    """An earlier run, with the fields that are needed to compare two versions of an agent.

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

    All have the same agent as the failed run. If `same_task` is true, they also have the same task, otherwise the same
    version. `of_trial` is true if the failed run belongs to a trial of an experiment: a version is then a variant.
    """

    model_config = ConfigDict(frozen=True)

    same_task: bool
    of_trial: bool = False
    runs: tuple[PassingRun, ...] = ()
