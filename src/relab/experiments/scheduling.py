"""Run a plan: submit its trials to an executor in order, and append each result to the journal.

One thread makes all decisions: which trial is next, what a result means for later trials, and what is written. The
executor only runs trials.
"""

from __future__ import annotations

import functools
import queue
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import CancelledError, Future
from typing import Any

from relab.experiments.errors import TrialPaused, TrialStopped
from relab.experiments.executors.protocol import Executor
from relab.experiments.models import Ceilings, ErrorType, OnResult, RunProgress, StopSwitch, TrialResult
from relab.experiments.plan.dataset import TaskIndex
from relab.experiments.plan.trials import Slot, SlotPlan, TrialPlan, trial_at
from relab.experiments.records.file_names import PAUSE_REQUEST
from relab.experiments.records.journal import Journal
from relab.experiments.records.sessions import RunSpending
from relab.experiments.results.stopping import StoppingMonitor
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.rows import skipped_trial


class PlanRunner:
    """Runs the trials that have no result yet, in the order of the plan.

    Args:
        context: the values that all trials share.
        plan: all trials, in order.
        tasks: the index of the data set.
        executor: an open executor.
        journal: an open journal; every result is appended to it before `on_result` is called.
        done: the ids of the trials that have a result; the ids of further trials with a result are added.
        on_result: is called with each result, in the thread that calls `run`.
        only: the ids of the trials that may run; None for all.
        spending: the ceilings (limits of the whole run), and what the run has used of them; None without ceilings.

    Attributes:
        progress: the progress of the run.
        paused: the ids of the trials that were paused during `run`.
        stopping: the monitor of the stopping rule, which ends variants early; None without such a rule.
        ceiling: a sentence about the ceiling that was reached; None if no ceiling was reached.
    """

    def __init__(
        self,
        context: RunContext,
        plan: SlotPlan,
        tasks: TaskIndex,
        executor: Executor,
        journal: Journal,
        done: set[str],
        on_result: OnResult,
        only: AbstractSet[str] | None = None,
        spending: RunSpending | None = None,
    ) -> None:
        self._context = context
        self._plan = plan
        self._spending = spending or RunSpending(Ceilings())
        self._began = time.monotonic()
        self.ceiling: str | None = None
        has_rule = context.config.design.policies.stopping is not None
        self.stopping = (
            StoppingMonitor(context.config, plan.order) if has_rule and isinstance(plan, TrialPlan) else None
        )
        self._tasks = tasks
        self._executor = executor
        self._journal = journal
        self._done = done
        self._only = only
        self.paused: list[str] = []
        self._paused_chains: set[str] = set()
        self._on_result = on_result
        policies = context.config.design.policies
        self._state = policies.state
        self._max_failures = policies.pruning.max_consecutive_failures
        self._slots = self._open_slots(plan)
        self._ended: queue.SimpleQueue[Future[TrialResult]] = queue.SimpleQueue()
        self._running: dict[Future[TrialResult], Slot] = {}
        self._chains: dict[str, deque[Slot]] = {}
        """Chains with a running trial, and the slots that wait for its end."""
        self._last_of_chain: dict[str, str] = {}
        self._failures: Counter[int] = Counter()
        self._pruned: set[int] = set()
        self._variants = {variant.variant_id: number for number, variant in enumerate(context.config.variants)}
        self.progress = RunProgress(len(plan), outcomes={name: Counter() for name in self._variants})

    def count_finished(self, entry: Mapping[str, Any]) -> None:
        """Count a trial that an earlier process of the run finished.

        The progress, the pruning of variants and the stopping rule then include this trial. Call this method for the
        trials in the order in which they ended. `entry` is the trial's line in the journal, as parsed JSON.
        """
        row = entry["row"]
        self._prune(self._variants[row["variant_id"]], success=row["success"])
        if self.stopping is not None:
            self.stopping.note(row)
        self.progress.note(entry)

    @property
    def seconds(self) -> float:
        """The time since this object was created, in seconds."""
        return time.monotonic() - self._began

    @functools.cached_property
    def not_needed(self) -> int:
        """The number of trials that were not run because the stopping rule ended their variant; valid after `run`."""
        if self.stopping is None or not self.stopping.decisions:
            return 0
        return sum(slot.trial_id not in self._done and not self._is_needed(slot) for slot in self._plan)

    @property
    def is_finished(self) -> bool:
        """Whether no trial is left to run; valid after `run`."""
        return self.progress.done + self.not_needed >= self.progress.total

    def status(self, paused: Sequence[str]) -> str:
        """Return the status of the run after `run`: `completed`, `budget_reached`, `paused` or `interrupted`.

        `paused` has the ids of the run's paused trials.
        """
        if self.is_finished:
            return "completed"
        if self.ceiling is not None:
            return "budget_reached"
        return "paused" if paused else "interrupted"

    def run(self, stop: StopSwitch) -> None:
        """Run the trials until none is left to run, `stop` is pressed, a pause is requested or a ceiling is reached.

        After an error no further trial starts. The running trials end and are recorded; then the error is raised. After
        KeyboardInterrupt, the running trials are stopped instead.

        Raises:
            RunDiskFullError: the disk is full.
            RunChangedError: the data set was changed since the run began.
        """
        errors: list[BaseException] = []
        while True:
            try:
                if not errors:
                    self._fill(stop)
                if not self._running:
                    break
                self._settle(self._ended.get(), stop)
            except (TrialStopped, CancelledError):
                continue
            except BaseException as error:  # noqa: BLE001 raised below, after the running trials
                errors.append(error)
                if not isinstance(error, Exception):
                    # Such as KeyboardInterrupt: in this case, do not wait for the running trials either.
                    stop.press()
                    stop.press()
                for waiting in self._chains.values():
                    waiting.clear()
                for future in list(self._running):
                    future.cancel()
        if errors:
            raise errors[0]

    def _open_slots(self, plan: SlotPlan) -> Iterator[Slot]:
        for slot in plan:
            if slot.trial_id not in self._done:
                if self._only is None or slot.trial_id in self._only:
                    yield slot
            elif self._state.carries_state:
                # The next trial in its chain continues from this one.
                self._last_of_chain[self._chain(slot)] = slot.trial_id

    def _fill(self, stop: StopSwitch) -> None:
        """Start the next trials of the plan, until the executor is busy, a trial has ended, or no more may start.

        The slots (positions) of the plan are taken in order. Each trial of a chain continues from the state of the
        trial before. So if a trial of its chain is running, a slot waits for the end of that trial. A waiting slot
        counts as running. If the variant of a slot is pruned (for too many failures), a result is recorded without
        running the trial.
        """
        if not stop.finish.is_set() and (self._context.run_dir / PAUSE_REQUEST).exists():
            stop.finish.set()
        while (
            not stop.finish.is_set()
            and self._ended.empty()
            and len(self._running) + sum(map(len, self._chains.values())) < self._executor.capacity
            and self.ceiling is None
            and (slot := next(self._slots, None)) is not None
        ):
            if self._chain(slot) in self._paused_chains or not self._is_needed(slot):
                continue
            if self._is_over_budget():
                break
            waiting = self._chains.get(self._chain(slot))
            if waiting is None:
                self._start(slot)
            else:
                waiting.append(slot)

    def _start(self, slot: Slot) -> None:
        chain = self._chain(slot)
        config, run_id = self._context.config, self._context.run_id
        trial = trial_at(slot, config, self._tasks, run_id=run_id, previous_id=self._last_of_chain.get(chain))
        if slot.variant in self._pruned:
            message = "its variant was pruned after too many consecutive failures"
            self._record(slot, skipped_trial(config, trial, ErrorType.PRUNED, message))
            return
        future = self._executor.submit(trial)
        self._running[future] = slot
        if self._state.carries_state:
            self._chains.setdefault(chain, deque())
        future.add_done_callback(self._ended.put)

    def _settle(self, future: Future[TrialResult], stop: StopSwitch) -> None:
        slot = self._running.pop(future)
        try:
            result = future.result()
        except TrialPaused:
            self.paused.append(slot.trial_id)
            if self._state.carries_state:
                # The later trials of its chain continue from it, so they wait for its end.
                self._chains.pop(self._chain(slot), None)
                self._paused_chains.add(self._chain(slot))
            return
        self._record(slot, result)
        waiting = self._chains.pop(self._chain(slot), deque())
        while waiting and not stop.finish.is_set() and not self._is_over_budget():
            slot = waiting.popleft()
            if not self._is_needed(slot):
                continue
            self._start(slot)
            if self._chain(slot) in self._chains:
                self._chains[self._chain(slot)] = waiting
                break

    def _is_needed(self, slot: Slot) -> bool:
        return self.stopping is None or self.stopping.needs(slot.variant)

    def _is_over_budget(self) -> bool:
        """Return whether the run has reached a ceiling; if so, store a sentence about it in `ceiling`."""
        if self.ceiling is None:
            started = self.progress.done + len(self._running) + sum(map(len, self._chains.values()))
            self.ceiling = self._spending.reached(started=started, seconds=self.seconds)
        return self.ceiling is not None

    def _record(self, slot: Slot, result: TrialResult) -> None:
        if self.stopping is not None and (decisions := self.stopping.note(result.entry["row"])):
            # The line of the trial that decided holds the reason why no further trials follow.
            result.entry["stopping"] = [decision.to_json() for decision in decisions]
        self._journal.append(result.entry)
        self._done.add(slot.trial_id)
        self._spending.note(result.entry)
        self._spending.note_outcome(result.entry["row"])
        if self._state.carries_state:
            self._last_of_chain[self._chain(slot)] = slot.trial_id
        self._prune(slot.variant, success=result.row.success)
        self.progress.note(result.entry)
        self._on_result(result, self.progress)

    def _chain(self, slot: Slot) -> str:
        """Return the key of the chain of a slot (position in the plan).

        Each trial of a chain continues from the state of the trial before.
        """
        # Indices instead of ids, because the ids of tasks would have to be read from the data set.
        return self._state.chain_id(str(slot.variant), str(slot.task), slot.replication)

    def _prune(self, variant: int, *, success: bool) -> None:
        if self._max_failures is None or variant in self._pruned:
            return
        self._failures[variant] = 0 if success else self._failures[variant] + 1
        if self._failures[variant] >= self._max_failures:
            self._pruned.add(variant)
