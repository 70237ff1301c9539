"""Search new runs for behaviours, and notify people of runs that show one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relab.core.clock import Clock
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.rca.behaviour_models import NOTICE_JOB, SEARCH_JOB
from relab.rca.behaviours.notifying import notice_of
from relab.rca.behaviours.scanning import BehaviourScanner
from relab.storage import Database, UnitOfWork
from relab.telemetry.models import AgentRun
from relab.telemetry.service import TelemetryService

SEARCHED_RUNS: Final = 200
"""The maximum number of runs that one job searches."""


class BehaviourArrivals:
    """Searches new runs for behaviours (patterns that rules describe), and enqueues notifications about them.

    Runs that get an analysis are left out, because the analysis searches for behaviours itself.

    Args:
        scanner: searches stored runs by the rules of this installation.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        queue: JobQueue,
        telemetry: TelemetryService,
        scanner: BehaviourScanner,
    ) -> None:
        self._database = database
        self._clock = clock
        self._queue = queue
        self._searches = telemetry.awaiting.searches
        self._scanner = scanner

    def queue_search(self, *, quiet_s: float, is_on: bool) -> None:
        """Enqueue a background job that searches new runs for behaviours.

        Nothing is enqueued if no runs wait for a search, or if such a job is already waiting or running. The job
        applies the rules that have a condition. Rules that have a sentence instead need a language model, and this job
        asks none.

        Args:
            quiet_s: only runs that did not change for this number of seconds are searched.
            is_on: whether new runs are searched. If false, or if no rule has a condition, the list of the runs
                that wait for a search is emptied, and new runs are no longer added to it.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the next call does the work.
        """
        self._searches.switch(is_on=is_on and any(rule.when for rule in self._scanner.book.rules()))
        if self._searches.due(quiet_s, 1) and not self._queue.count_unfinished(SEARCH_JOB, Lane.BACKGROUND):
            with self._database.write(durable=False) as unit:
                self._queue.enqueue(unit, SEARCH_JOB, {"quiet_s": quiet_s})

    def search(self, quiet_s: float) -> int:
        """Search up to `SEARCHED_RUNS` new runs, newest first, for behaviours (patterns that rules describe).

        Store the behaviours that the runs show, enqueue the notifications about them, and return the number of searched
        runs. Runs that changed within the last `quiet_s` seconds are left out.
        """
        due = self._searches.due(quiet_s, SEARCHED_RUNS)
        for run, scanned in self._scanner.scan(self._scanner.book.rules(), due):
            if scanned.shown:
                self._scanner.mark(scanned)
                with self._database.write(durable=False) as unit:
                    self.notify(unit, run, {each.name: each.step_id for each in scanned.shown})
        self._searches.done(due)
        return len(due)

    def notify(self, unit: UnitOfWork, run: AgentRun, shown: Mapping[str, str | None]) -> None:
        """Enqueue notifications about the behaviours that a run shows, for the rules that ask for notifications.

        Each rule causes at most one notification per time window, about the first run in the window. No notification is
        enqueued about runs that ended more than a day ago.

        Args:
            unit: the transaction.
            run: the run.
            shown: `{behaviour: id of the step that shows it}`; the id is None if no step shows it.
        """
        names = {step.step_id: step.name for step in run.steps}
        for rule in self._scanner.book.rules():
            if rule.notify is None or rule.name not in shown:
                continue
            step_name = names.get(shown[rule.name] or "")
            notice = notice_of(unit.session, rule, run, step_name=step_name, now_us=self._clock.now_us())
            if notice is not None:
                self._queue.enqueue(unit, NOTICE_JOB, notice)
