"""Types that the modules of experiments share: the options, progress and summary of runs, and results of trials."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from relab.experiments.trial_models import (
    REQUIRED_OF_A_ROW as REQUIRED_OF_A_ROW,  # noqa: PLC0414 part of this module
)
from relab.experiments.trial_models import ErrorType as ErrorType  # noqa: PLC0414 part of this module
from relab.experiments.trial_models import TrialIds as TrialIds  # noqa: PLC0414 part of this module
from relab.experiments.trial_models import TrialOutcome as TrialOutcome  # noqa: PLC0414 part of this module
from relab.experiments.trial_models import TrialRow as TrialRow  # noqa: PLC0414 part of this module

DEFAULT_FIRST_ERRORS: Final = 10
"""Even a harness of which 50 % of the trials end in one error reaches this ceiling by chance in 0.1 % of runs only."""
LOCAL_EXECUTOR: Final = "local"
"""The name of the default executor: threads of this process."""
RAY_EXECUTOR: Final = "ray"
"""The name of the executor that runs trials on the nodes of a Ray cluster."""

MAX_PROBLEM_KINDS: Final = 20
"""The largest number of kinds of problems in a run's summary; the rows contain all problems."""


class Keep(StrEnum):
    """Which workspaces are kept after the run: those of all trials, of failed trials, or of no trial."""

    ALL = "all"
    FAILED = "failed"
    NONE = "none"


class Command(StrEnum):
    """The commands that run trials. Each has its own rule for the isolation (sandbox and network) of the trials."""

    RUN = "run"
    RUN_DEV = "run-dev"
    RUN_EXPERIMENT = "run-experiment"


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial, as an executor returns it.

    Attributes:
        row: the trial's row in the results.
        agent_run: the agent run to store in telemetry, as JSON; None if there is no agent run, for example because the
            trial was not run, or because its result is from the result cache.
        entry: the trial's entry in the journal, as JSON.
    """

    row: TrialRow
    agent_run: dict[str, Any] | None
    entry: dict[str, Any]


@dataclass(frozen=True)
class StopSwitch:
    """Stops a run. Once `finish` is set, no further trial starts; once `now` is set, running trials are ended, too."""

    finish: threading.Event = field(default_factory=threading.Event)
    now: threading.Event = field(default_factory=threading.Event)

    def press(self) -> None:
        """Stop the run. The first call lets the running trials end; the second call ends them."""
        if self.finish.is_set():
            self.now.set()
        self.finish.set()


@dataclass
class TrialProblem:
    """A problem that occurred in one or more trials.

    Attributes:
        kind: for a trial with the outcome `error`, its error type. Otherwise `harness_exit_nonzero` (the harness wrote
            its output, but its exit code is not 0), `hook_events_invalid` (the file of events has invalid lines) or
            `result_cache_entry_rejected` (a result in the cache could not be used).
        message: the message of the first trial with this problem.
        trial_dir: the folder of that trial.
        trials: the number of trials with this problem.
    """

    kind: str
    message: str
    trial_dir: str
    trials: int = 0


@dataclass
class RunProgress:
    """The progress of a run. In a continued run, the trials that ended before it was continued count as well.

    Attributes:
        total: the number of planned trials.
        done: the number of trials with a result.
        outcomes: `{variant id: {outcome: trials}}`.
        problems: `{kind of problem: the problem, with the number of trials that had it}`.
        cached: the number of trials whose result is from the result cache.
    """

    total: int
    done: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    problems: dict[str, TrialProblem] = field(default_factory=dict)
    cached: int = 0

    def note(self, entry: Mapping[str, Any]) -> None:
        """Count a finished trial and its problems; `entry` is the trial's entry in the journal, as JSON."""
        row = entry["row"]
        self.done += 1
        self.cached += row.get("cached_from") is not None
        if "cache_rejected" in entry:
            self._problem("result_cache_entry_rejected", entry["cache_rejected"], row)
        self.outcomes.setdefault(row["variant_id"], Counter())[row["outcome"]] += 1
        if row["outcome"] == TrialOutcome.ERROR:
            self._problem(row["error_type"] or "error", row["error_message"] or "", row)
        elif row["exit_code"] and row["outcome"] != TrialOutcome.MISSING:
            message = f"the harness ended with exit code {row['exit_code']} after it had written its output; the outcome {row['outcome']} counts"
            self._problem("harness_exit_nonzero", message, row)
        if row.get("hook_events_invalid"):
            self._problem("hook_events_invalid", row["hook_event_problems"][0], row)

    def _problem(self, kind: str, message: str, row: Mapping[str, Any]) -> None:
        # A harness can report any number of error types; a few are enough to see the problem.
        if kind in self.problems or len(self.problems) < MAX_PROBLEM_KINDS:
            self.problems.setdefault(kind, TrialProblem(kind, message, row["trial_dir"])).trials += 1


@dataclass(frozen=True)
class Ceilings:
    """The ceilings (limits) of a whole run: when one is reached, no further trial starts. None means no limit.

    Attributes:
        max_trials: the most trials that are started; trials with a result from the result cache do not count.
        max_cost_usd: the greatest cost of all attempts of all trials, in USD; a cost that is not reported is estimated.
        max_seconds: the longest total time in which processes work on the run, in seconds.
        max_first_errors: if the first trials of this process all end in the same error, the limit is reached after
            this number of trials. Once a trial ends in another way, the limit no longer applies to the process.
    """

    max_trials: int | None = None
    max_cost_usd: float | None = None
    max_seconds: float | None = None
    max_first_errors: int | None = DEFAULT_FIRST_ERRORS

    def raised(self, asked: Mapping[str, float]) -> Ceilings:
        """Return a copy of the ceilings (limits of a run), some of them with new values.

        `asked` is `{name of a ceiling, such as "max_trials": new value}`; 0 removes the ceiling. The others stay.
        """
        values: dict[str, Any] = {name: value or None for name, value in asked.items()}
        return replace(self, **values)

    def to_json(self) -> dict[str, float | None]:
        """Return the ceilings (limits of a run) as a JSON object, `{name: limit}`; null means no limit."""
        return asdict(self)


@dataclass(frozen=True)
class RunOptions:
    """The options a run is started with.

    Attributes:
        command: the command that starts the run.
        container: whether trials must run in a container (`--container`).
        overrides: the file of values for knobs (fields that overrides may change); None for no overrides.
        setup: a shell command that prepares the workspace once, before all trials; only for the command `run-dev`.
            None: no command.
        keep: which workspaces are kept after the run.
        executor: the name of the executor that runs the trials.
        address: the address of the executor's cluster; None for the executor's default address.
        ceilings: limits of the whole run, as `{name of a field of Ceilings: value}`. They replace those of the
            experiment file, and 0 removes a limit.
        result_cache: whether to use the result cache; None to use it if the experiment file turns it on.
        member: the id of the set of experiments that the run belongs to, and the run's position in it, from 0; None for
            a run that belongs to no set.
    """

    command: Command = Command.RUN
    container: bool = False
    overrides: Path | None = None
    setup: str | None = None
    keep: Keep = Keep.ALL
    executor: str = LOCAL_EXECUTOR
    address: str | None = None
    ceilings: Mapping[str, float] = field(default_factory=dict)
    result_cache: bool | None = None
    member: tuple[str, int] | None = None


@dataclass(frozen=True)
class ContinueOptions:
    """The options with which a run is continued.

    Attributes:
        executor: the name of the executor that runs the trials.
        address: the address of the executor's cluster; None for the executor's default address.
        paused: the ids of the paused trials to resume; empty for all paused trials; None to run all trials without a
            result.
        allow_drift: whether the run may continue with project files that were changed since its start. It applies if
            the snapshot from the start is missing. The run records the change.
        ceilings: limits of the whole run, as `{name of a field of Ceilings: value}`. They replace those of the run's
            last session (process), and 0 removes a limit.
        retry_errors: whether trials that ended in an error run again, too.
    """

    executor: str = LOCAL_EXECUTOR
    address: str | None = None
    paused: Sequence[str] | None = None
    allow_drift: bool = False
    ceilings: Mapping[str, float] = field(default_factory=dict)
    retry_errors: bool = False


CONTINUE_ALL: Final = ContinueOptions()
"""Continue all trials without a result, as the run was configured."""


@dataclass(frozen=True)
class ForkOptions:
    """The options of forks, which are new trials that begin at a point of earlier trials.

    Attributes:
        selector: the point of the earlier trial: `checkpoint:<name>`, `step:<n>` or `event_seq:<n>`.
        trials: the ids of the earlier trials to fork; empty if `variant` is given.
        variant: the id of a variant, to fork all its trials that reached the point; None if `trials` are given.
        bindings: the changes of bindings (values that the harness gets), each as `name=value` with a JSON value.
        strict: whether to raise an error if a trial has no checkpoint, or if the harness does not have the integration
            level `sdk_full` (the highest one, with checkpoints).
        control: whether to fork each trial a second time without changes, for the comparison.
        keep: which workspaces are kept after the run.
        executor: the name of the executor that runs the trials.
        address: the address of the executor's cluster; None for the executor's default address.
        allow_drift: whether to accept checkpoints that were changed after the end of their run; the run of the forks
            then records the change.
    """

    selector: str
    trials: Sequence[str] = ()
    variant: str | None = None
    bindings: Sequence[str] = ()
    strict: bool = False
    control: bool = False
    keep: Keep = Keep.ALL
    executor: str = LOCAL_EXECUTOR
    address: str | None = None
    allow_drift: bool = False


@dataclass(frozen=True)
class ExperimentRunSummary:
    """The summary of a run that ended or was interrupted.

    Attributes:
        run_id, run_dir: the id and the folder of the run.
        total: the number of planned trials.
        done: the number of trials with a result.
        finished: whether no trial of the plan is left to run.
        outcomes: `{variant id: {outcome: trials}}`.
        agent_runs: the number of agent runs that telemetry has stored.
        agent_runs_failed: the number of agent runs that telemetry could not store.
        agent_run_error: why the first agent run could not be stored; None if telemetry has stored all of them.
        warnings: sentences for the user.
        problems: one item for each kind of problem that trials had.
        paused: the ids of the trials that are paused.
        decisions: the decisions of the stopping rule, one per decided variant, as JSON.
        not_needed: the number of trials that are not run because the stopping rule has decided about their variants.
        ceiling: a sentence about the ceiling (budget limit) that ended the run; None if no ceiling ended it.
        retried: the number of trials whose result was withdrawn so that they run again.
        cached: the number of trials whose result is from the result cache.
        end_warnings: sentences for the user about the end of the run, such as that it could not be signed.
    """

    run_id: str
    run_dir: Path
    total: int
    done: int
    finished: bool
    outcomes: Mapping[str, Mapping[str, int]]
    agent_runs: int
    agent_runs_failed: int
    agent_run_error: str | None
    warnings: Sequence[str] = ()
    problems: Sequence[TrialProblem] = ()
    paused: Sequence[str] = ()
    decisions: Sequence[Mapping[str, Any]] = ()
    not_needed: int = 0
    ceiling: str | None = None
    retried: int = 0
    cached: int = 0
    end_warnings: Sequence[str] = ()

    @property
    def variants_without_result(self) -> list[str]:
        """The ids of the variants with finished trials, but without a trial that ended in success or failure."""
        results = (TrialOutcome.SUCCESS, TrialOutcome.FAILURE)
        return [name for name, counts in self.outcomes.items() if not any(counts.get(result) for result in results)]


OnResult = Callable[[TrialResult, RunProgress], None]
"""Is called for each result, with the progress of the run; only one thread calls it at a time."""
