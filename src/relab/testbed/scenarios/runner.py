"""Run a scenario: check the steady state, perform the method, check again, and in any case perform the rollbacks.

The journal (the record of the run) has the fields of chaostoolkit's journal. This runner is stricter than chaostoolkit
in two points: an action that is rejected (a status of 400 or above) or gets no answer aborts the method, and rollbacks
always run.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from threading import Event
from typing import Any, Final

from relab.core.errors import RelabError
from relab.testbed.scenarios.errors import ScenarioError
from relab.testbed.scenarios.models import Activity, Experiment
from relab.testbed.scenarios.providers import ActivityFailedError, perform, refusal
from relab.testbed.scenarios.reading import Scenario
from relab.testbed.scenarios.tolerances import why_not_within
from relab.testbed.scenarios.variables import Variables

JOURNAL_VERSION: Final = "1.44.0"
"""The version of chaostoolkit-lib whose journal format this is."""
_BEFORE_METHOD: Final = frozenset(("default", "before-method-only", "continuously"))
_AFTER: Final = frozenset(("default", "after-method-only", "continuously"))
_DURING: Final = frozenset(("during-method-only", "continuously"))
_POLL_INTERVAL_S: Final = 1.0

Journal = dict[str, Any]


class Section(StrEnum):
    """A section of a scenario's run; progress messages contain its value.

    The method is the list of the scenario's steps. The sections `BEFORE`, `DURING` and `AFTER` check before, during and
    after the method whether the service is in its steady state.
    """

    BEFORE = "steady state before"
    DURING = "steady state"
    METHOD = "method"
    AFTER = "steady state after"
    ROLLBACKS = "rollbacks"


ReportStep = Callable[[Section, str], None]


class _InterruptedError(Exception):
    """The caller stopped the run."""


class _AbortedError(Exception):
    """An action in a scenario's method (list of steps) failed or was rejected, so the run skips the other steps."""


@dataclass
class Run:
    """One run of a scenario.

    Args:
        scenario: the scenario to run.
        variables: the values of the scenario's variables in this run.
        stop: an event that any thread may set to end the steps early; the rollbacks still run.
        report: is called with a message about each step, from the thread that performs it.

    Attributes:
        journal: the journal (the record) of the run so far.
        problems: messages about what went wrong in the run: why steps were skipped, and which rollbacks failed.
    """

    scenario: Scenario
    variables: Variables
    stop: Event
    report: ReportStep
    journal: Journal = field(init=False)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = {
            "chaoslib-version": JOURNAL_VERSION,
            "platform": platform.platform(),
            "node": platform.node(),
            "experiment": self.scenario.document,
            "start": _now().isoformat(),
            "status": None,
            "deviated": False,
            "steady_states": {"before": None, "after": None, "during": []},
            "run": [],
            "rollbacks": [],
        }

    def run(self) -> Journal:
        """Run the scenario to its end and return the journal (the record of the run).

        - If the service is not in its steady state at the beginning, the steps are skipped.
        - If an action fails or is rejected, or a pause is invalid, the remaining steps are skipped.
        - If `stop` is set, the remaining steps are skipped, too.
        - The rollbacks always run. An unforeseen exception is raised after the rollbacks.

        If steps were skipped, the journal's `status` is not `completed`, and the attribute `problems` has the reason.
        """
        journal, began = self.journal, _now()
        # The status if an unforeseen exception is raised.
        journal["status"] = "aborted"
        try:
            journal["status"] = self._forward()
        except _InterruptedError:
            journal["status"] = "interrupted"
            self.problems.append("The run was interrupted.")
        except (_AbortedError, RelabError) as error:
            self.problems.append(str(error))
        finally:
            self._roll_back()
            ended = _now()
            journal["end"] = ended.isoformat()
            journal["duration"] = (ended - began).total_seconds()
        return journal

    @property
    def _experiment(self) -> Experiment:
        return self.scenario.experiment

    def _forward(self) -> str:
        strategy, states = self._experiment.runtime.hypothesis.strategy, self.journal["steady_states"]
        has_probes = self._experiment.hypothesis is not None and bool(self._experiment.hypothesis.probes)
        if has_probes and strategy in _BEFORE_METHOD:
            self._check_stop()
            states["before"] = state = self._steady_state(Section.BEFORE)
            if not state["steady_state_met"]:
                self.problems.append("The service was not in its steady state before anything was done.")
                return "failed"
        with _Watch(self, is_on=has_probes and strategy in _DURING):
            self._method()
        if has_probes and strategy in _AFTER:
            self._check_stop()
            states["after"] = state = self._steady_state(Section.AFTER)
            if not state["steady_state_met"]:
                self.journal["deviated"] = True
                has_answers = all(probe["status"] == "succeeded" for probe in state["probes"])
                return "completed" if has_answers else "failed"
        return "completed"

    def _method(self) -> None:
        steps, rows = self._experiment.method, self.journal["run"]
        with ThreadPoolExecutor(max(1, sum(self._experiment.activity(step).background for step in steps))) as pool:
            started: list[Future[None]] = []
            for number, step in enumerate(steps, 1):
                activity = self._experiment.activity(step)
                message = f"{number} of {len(steps)}: {activity.name}"
                if activity.background:
                    started.append(pool.submit(self._do, activity, message, rows))
                else:
                    self._do(activity, message, rows)
            for each in started:
                each.result()

    def _do(self, activity: Activity, message: str, rows: list[dict[str, Any]]) -> None:
        before_s, after_s = self._pauses(activity)
        self._pause(before_s, f"{message} (in {before_s:g} s)")
        refused = self._perform(activity, rows)
        said = f": {refused}" if refused else ""
        self.report(Section.METHOD, f"{message}{said}")
        if activity.type == "action" and refused:
            raise _AbortedError(f"The action {activity.name!r} was not done: {refused}")
        self._pause(after_s, f"waiting {after_s:g} s")

    def _perform(self, activity: Activity, rows: list[dict[str, Any]]) -> str | None:
        """Perform an activity and add its entry to `rows`; return why it failed or was rejected, else None or ""."""
        row = self.execute(activity)
        rows.append(row)
        return refusal(row["output"]) if row["status"] == "succeeded" else row["exception"][-1]

    def _pauses(self, activity: Activity) -> tuple[float, float]:
        """Return the pauses before and after an activity, in seconds.

        Raises:
            ScenarioError: a pause is not a valid number of seconds.
        """
        pauses, seconds = activity.pauses, self.variables.seconds
        return seconds(pauses.before, "pauses.before"), seconds(pauses.after, "pauses.after")

    def _pause(self, seconds: float, message: str) -> None:
        if seconds > 0:
            self.report(Section.METHOD, message)
            self.stop.wait(seconds)
        self._check_stop()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise _InterruptedError

    def _steady_state(self, section: Section) -> dict[str, Any]:
        state, why = self.look()
        self.report(section, f"no: {why}" if why else "yes")
        return state

    def look(self) -> tuple[dict[str, Any], str | None]:
        """Check once whether the service is in its steady state; stop at the first probe that fails.

        The pauses of the probes are kept, until the caller stops the run. A probe fails if it has no output, or if its
        output is outside its tolerance.

        Returns:
            `(entry, reason)`.
            `entry` is the check's entry for the journal (the record of the run): `steady_state_met` is the result of the
            check, and `probes` has the entries of the performed probes.
            `reason` names the failed probe and explains the failure; None if the service is in its steady state.

        Raises:
            ScenarioError: a pause of a probe is not a valid number of seconds.
        """
        assert self._experiment.hypothesis is not None
        rows: list[dict[str, Any]] = []
        for step in self._experiment.hypothesis.probes:
            activity = self._experiment.activity(step)
            before_s, after_s = self._pauses(activity)
            self.stop.wait(before_s)
            row = self.execute(activity)
            self.stop.wait(after_s)
            rows.append(row)
            why = self._why_not(activity, row)
            row["tolerance_met"] = why is None
            if why is not None:
                return {"steady_state_met": False, "probes": rows}, f"{activity.name}: {why}"
        return {"steady_state_met": True, "probes": rows}, None

    def _why_not(self, activity: Activity, row: dict[str, Any]) -> str | None:
        if row["status"] != "succeeded":
            return str(row["exception"][-1])
        try:
            return why_not_within(activity.tolerance, row["output"], self.variables)
        except ValueError as error:
            return str(error)

    def execute(self, activity: Activity) -> dict[str, Any]:
        """Perform an activity and return its entry in the journal; the entry also records a failure of the activity."""
        began = _now()
        row: dict[str, Any] = {
            "activity": activity.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "output": None,
            "start": began.isoformat(),
            "status": "succeeded",
        }
        try:
            row["output"] = perform(activity, self.variables)
        except (ActivityFailedError, ScenarioError) as error:
            row["status"], row["exception"] = "failed", [str(error)]
        ended = _now()
        return {**row, "end": ended.isoformat(), "duration": (ended - began).total_seconds()}

    def _roll_back(self) -> None:
        rows, steps = self.journal["rollbacks"], self._experiment.rollbacks
        for number, step in enumerate(steps, 1):
            activity = self._experiment.activity(step)
            message = f"{number} of {len(steps)}: {activity.name}"
            before_s, after_s = self._pauses_of_rollback(activity)
            self._pause_rollbacks(before_s, f"{message} (in {before_s:g} s)")
            refused = self._perform(activity, rows)
            self.report(Section.ROLLBACKS, f"{message}{f': {refused}' if refused else ''}")
            if refused:
                self.problems.append(f"The rollback {activity.name!r} was not done: {refused}")
            self._pause_rollbacks(after_s, f"waiting {after_s:g} s")

    def _pauses_of_rollback(self, activity: Activity) -> tuple[float, float]:
        """Return the pauses before and after a rollback, in seconds; invalid pauses are a problem of the run, and 0."""
        try:
            return self._pauses(activity)
        except ScenarioError as error:
            self.problems.append(f"The rollback {activity.name!r} was done without its pauses: {error}")
            return 0.0, 0.0

    def _pause_rollbacks(self, seconds: float, message: str) -> None:
        if seconds > 0:
            self.report(Section.ROLLBACKS, message)
            # Not ended by `stop`: the next rollback may need what this one has begun.
            time.sleep(seconds)


class _Watch:
    """Checks repeatedly whether the service is in its steady state, while the steps of a scenario run.

    Every result is added to the journal. Only a result that differs from the previous one is reported. Use the object
    as a context manager.

    Args:
        run: the run of the scenario.
        is_on: whether to check; False for a scenario that checks only before and after the steps.
    """

    def __init__(self, run: Run, *, is_on: bool) -> None:
        self._run = run
        self._is_on = is_on
        self._done = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="steady-state")
        self._looking: Future[None] | None = None

    def __enter__(self) -> None:
        if self._is_on:
            self._looking = self._pool.submit(self._look)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._pool.shutdown(wait=True)
        if self._looking is not None:
            self._looking.result()

    def _look(self) -> None:
        last: bool | None = None
        states: list[dict[str, Any]] = self._run.journal["steady_states"]["during"]
        while not self._done.is_set() and not self._run.stop.is_set():
            state, why = self._run.look()
            states.append(state)
            if state["steady_state_met"] is not last:
                last = state["steady_state_met"]
                self._run.report(Section.DURING, f"no: {why}" if why else "yes")
            self._done.wait(_POLL_INTERVAL_S)


def share_met(states: Sequence[dict[str, Any]]) -> float | None:
    """Return the share of checks, 0 to 1, that found the service in its steady state; None without checks.

    Args:
        states: the results of the checks, from the journal (the record of a run).
    """
    return sum(bool(state["steady_state_met"]) for state in states) / len(states) if states else None


def _now() -> datetime:
    return datetime.now(UTC)
