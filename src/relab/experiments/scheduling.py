"""Run a plan: threads take the trials in order, and every result is appended to the journal, until done or stopped."""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from relab.experiments.config.models import StatePolicy
from relab.experiments.models import ErrorType, OnResult, RunProgress, StopSwitch
from relab.experiments.plan.trials import Slot, TrialPlan
from relab.experiments.records.journal import Journal
from relab.experiments.trial.rows import RunContext, Stopped
from relab.experiments.trial.runner import TrialRunner
from relab.experiments.trial.trial_folder import TrialFolder, trial_folder


class PlanRunner:
    """Runs every trial of a plan that has no result yet.

    Args:
        context: the values that all trials share.
        plan: all trials, in order.
        journal: an open journal; every result is appended to it before `on_result` is called.
        done: ids of the trials that have a result.
        on_result: called with each result, by one thread at a time.
    """

    def __init__(
        self, context: RunContext, plan: TrialPlan, journal: Journal, done: set[str], on_result: OnResult
    ) -> None:
        self._context = context
        self._plan = plan
        self._journal = journal
        self._done = done
        self._on_result = on_result
        self._trials = TrialRunner(context, self._previous)
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._taking = threading.Lock()
        self._chains: dict[Hashable, deque[int]] = {}
        self._failures: Counter[int] = Counter()
        self._pruned: set[int] = set()
        self._last_of_chain: dict[Hashable, str] = {}
        self._variants = {variant.variant_id: number for number, variant in enumerate(context.config.variants)}
        self.progress = RunProgress(len(plan), outcomes={name: Counter() for name in self._variants})

    def take_up(self, row: Mapping[str, Any]) -> None:
        """Count a trial that an earlier process of the run finished; call it in the order in which the trials ended."""
        self._prune(self._variants[row["variant_id"]], success=row["success"])
        self.progress.note(row)

    def run(self, stop: StopSwitch) -> None:
        """Run until all trials have a result or `stop` is pressed.

        Raises:
            DiskFullError: the disk is full; the trials that ended are in the journal.
        """
        slots: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        errors: list[BaseException] = []
        count = min(self._context.config.design.max_concurrency, max(len(self._plan) - len(self._done), 1))
        room = threading.Semaphore(2 * count)
        threads = [
            threading.Thread(target=self._work, args=(slots, room, stop, errors), name=f"trial-{number}")
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for slot in self._open_slots():
            # The queue is bounded, because a plan may have a hundred thousand slots.
            while not room.acquire(timeout=0.2):
                if stop.finish.is_set() or errors:
                    break
            if stop.finish.is_set() or errors:
                break
            slots.put(slot)
        for _ in threads:
            slots.put(None)
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _open_slots(self) -> Iterator[Slot]:
        for slot in self._plan:
            if slot.trial_id in self._done:
                # The next trial in its chain continues from this one.
                self._last_of_chain[self._chain(slot)] = slot.trial_id
            else:
                yield slot

    def _work(
        self,
        slots: queue.SimpleQueue[Slot | None],
        room: threading.Semaphore,
        stop: StopSwitch,
        errors: list[BaseException],
    ) -> None:
        while (slot := self._take(slots)) is not None:
            room.release()
            try:
                with self._turn(slot):
                    if not stop.finish.is_set() and not errors:
                        self._one(slot, stop)
            except Stopped:
                continue
            except BaseException as error:  # noqa: BLE001 the run ends with it, in the thread that waits
                errors.append(error)

    def _take(self, slots: queue.SimpleQueue[Slot | None]) -> Slot | None:
        """Take the next trial and append it to its chain under one lock, so that each chain keeps the order of the plan."""
        with self._taking:
            slot = slots.get()
            if slot is not None and self._is_chained:
                with self._lock:
                    self._chains.setdefault(self._chain(slot), deque()).append(slot.number)
            return slot

    @contextmanager
    def _turn(self, slot: Slot) -> Iterator[None]:
        """Wait until the earlier trials in the slot's chain have ended; hold the chain's turn inside the block."""
        if not self._is_chained:
            yield
            return
        waiting = self._chains[self._chain(slot)]
        with self._ended:
            self._ended.wait_for(lambda: waiting[0] == slot.number)
        try:
            yield
        finally:
            with self._ended:
                waiting.popleft()
                self._ended.notify_all()

    def _one(self, slot: Slot, stop: StopSwitch) -> None:
        if slot.variant in self._pruned:
            message = "its variant was given up after too many failures in a row"
            result = self._trials.skipped(slot, ErrorType.PRUNED, message)
        else:
            result = self._trials.run(slot, stop.now)
        with self._lock:
            self._journal.append(result.entry)
            self._last_of_chain[self._chain(slot)] = slot.trial_id
            self._prune(slot.variant, success=result.row.success)
            self.progress.note(result.entry["row"])
            self._on_result(result, self.progress)

    @property
    def _is_chained(self) -> bool:
        return self._context.config.design.policies.state is not StatePolicy.ISOLATE_PER_TRIAL

    def _chain(self, slot: Slot) -> Hashable:
        """Return the key of the slot's chain; trials of one chain continue from each other's workspace and state."""
        policy = self._context.config.design.policies.state
        if policy is StatePolicy.PERSIST_PER_TASK:
            return slot.variant, slot.task
        return slot.variant

    def _previous(self, slot: Slot) -> TrialFolder | None:
        if not self._is_chained:
            return None
        trial_id = self._last_of_chain.get(self._chain(slot))
        return trial_folder(self._context.run_dir, trial_id) if trial_id is not None else None

    def _prune(self, variant: int, *, success: bool) -> None:
        most = self._context.config.design.policies.pruning.max_consecutive_failures
        if most is None or variant in self._pruned:
            return
        self._failures[variant] = 0 if success else self._failures[variant] + 1
        if self._failures[variant] >= most:
            self._pruned.add(variant)
