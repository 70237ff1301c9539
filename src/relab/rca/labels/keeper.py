"""Store, list and use labels (what people state about the first mistake of a run)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from relab.core.clock import Clock
from relab.core.cursor import NUMBER_AND_ID, decode_cursor, encode_cursor
from relab.core.errors import NotFoundError
from relab.core.yaml_source import nearest
from relab.rca.errors import LabelPlaceError, NoLabelError
from relab.rca.labels import repository
from relab.rca.labels.models import LabelledRun, LabelPage, LabelScores, NewLabel, RunLabel
from relab.rca.models import Report
from relab.storage import Database, UnitOfWork
from relab.telemetry.models import AgentRun
from relab.telemetry.service import TelemetryService

_PAGE: Final = 200


class LabelKeeper:
    """Stores and reads the labels that people give to runs: statements about the first mistake of a run.

    Args:
        report_on: analyses a run now and returns the report, without storing it.
    """

    def __init__(
        self, database: Database, clock: Clock, telemetry: TelemetryService, report_on: Callable[[AgentRun], Report]
    ) -> None:
        self._database = database
        self._clock = clock
        self._telemetry = telemetry
        self._report_on = report_on

    def save(self, agent_run_id: str, label: NewLabel, *, by: str) -> RunLabel:
        """Store the label of a run. It replaces an older label of the run. `by` is the person who gives the label.

        Raises:
            AgentRunNotFoundError: the run does not exist.
            LabelPlaceError: the run does not have the step or the agent that the label names.
        """
        run, content_hash = self._telemetry.load(agent_run_id)
        _check_place(run, label)
        stored = RunLabel(
            run_id=agent_run_id,
            content_hash=content_hash,
            labelled_by=by,
            labelled_at=self._clock.now_us(),
            **label.model_dump(),
        )
        with self._database.write() as unit:
            repository.save(unit.session, stored)
        return stored

    def get(self, agent_run_id: str) -> RunLabel:
        """Return the label of a run.

        Raises:
            NoLabelError: the run has no label.
        """
        with self._database.read() as session:
            found = repository.get(session, agent_run_id)
        if found is None:
            raise NoLabelError(agent_run_id)
        return found

    def remove(self, agent_run_id: str) -> None:
        """Delete the label of a run.

        Raises:
            NoLabelError: the run has no label.
        """
        with self._database.write() as unit:
            if not repository.remove(unit.session, agent_run_id):
                raise NoLabelError(agent_run_id)

    def page(self, *, cursor: str | None = None, limit: int = 50) -> LabelPage:
        """Return a page of labels, the newest first.

        `cursor` is the `next_cursor` of the previous page; None for the first page.

        Raises:
            InvalidCursorError: the cursor is not from a previous page.
        """
        before = None if cursor is None else decode_cursor(cursor, NUMBER_AND_ID)
        with self._database.read() as session:
            found = repository.list_labels(session, before, limit + 1)
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return LabelPage(
            items=items, next_cursor=None if last is None else encode_cursor((last.labelled_at, last.run_id))
        )

    def all(self) -> Iterator[RunLabel]:
        """Yield all labels, the newest first."""
        cursor: str | None = None
        while True:
            page = self.page(cursor=cursor, limit=_PAGE)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def labelled_runs(self) -> Iterator[LabelledRun]:
        """Yield all labelled runs, the one with the newest label first. Deleted runs are left out."""
        for label in self.all():
            try:
                run, _ = self._telemetry.load(label.run_id)
            except NotFoundError:
                continue
            yield LabelledRun(label, run)

    def measure(self) -> LabelScores:
        """Analyse all labelled runs now, and return how often the reports agree with the labels.

        No report is stored.
        """
        from relab.rca.labels.measuring import measure  # noqa: PLC0415 needed by this command alone

        return measure((item, self._report_on(item.run)) for item in self.labelled_runs())

    def delete_for_runs(self, unit: UnitOfWork, agent_run_ids: Collection[str], deleted_at: int) -> None:
        """Delete the labels of deleted runs, in the transaction `unit`.

        Labels that were given after `deleted_at` (microseconds since 1970) are kept, because new runs can have the same
        ids.
        """
        repository.delete_for_runs(unit.session, agent_run_ids, deleted_at)


def _check_place(run: AgentRun, label: NewLabel) -> None:
    """Check that a run has the step and the agent in a label.

    Raises:
        LabelPlaceError: the run does not have the step or the agent.
    """
    steps = [step.step_id for step in run.steps]
    if label.step_id is not None and label.step_id not in steps:
        raise LabelPlaceError(f"The run {run.run_id!r} has no step {label.step_id!r}{nearest(label.step_id, steps)}.")
    agents = sorted(
        {run.agent_name, *(step.agent_name for step in run.steps if step.agent_name), *(a.name for a in run.agents)}
    )
    if label.agent_name is not None and label.agent_name not in agents:
        known = ", ".join(map(repr, agents[:10]))
        raise LabelPlaceError(f"The run {run.run_id!r} has no agent {label.agent_name!r}; it has {known}.")
