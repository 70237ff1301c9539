"""Run a search: measure candidates in short rollouts, confirm the best ones in full rollouts, and write the report.

A stopped search can be continued. It then proposes the same candidates again; if the database has a rollout of a
candidate with a verdict, that rollout is used and not repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from relab.core.ids import new_id
from relab.rollouts.errors import ChangesForbiddenError, FlagsNotAppliedError, FlagsRejectedError
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.rollouts.search.candidates import (
    Confirmation,
    ScreenedCandidate,
    SearchResult,
    confirming_plan,
    screened,
    screening_plan,
    to_confirm,
)
from relab.rollouts.search.proposals import grid, propose
from relab.rollouts.search.report import check_folder, read_result, search_text, write_search
from relab.rollouts.search.spec import SearchSpec, Values, read_search
from relab.rollouts.service import RolloutService
from relab.stats.verdicts import Verdict

__all__ = ["RolloutSearch", "SearchResult", "SearchSpec", "new_search", "read_result", "read_search", "search_text"]

_PAGE: Final = 200


def new_search(spec: SearchSpec) -> SearchResult:
    """Return a search with a new id, without candidates."""
    return SearchResult(search_id=new_id(), spec=spec)


@dataclass(frozen=True, slots=True)
class RolloutSearch:
    """Searches for the best flags: measures candidates in short rollouts, and confirms the best in full rollouts.

    Attributes:
        rollouts: executes the rollouts.
        by: the person who starts the search.
        stop: ends the search early when set; the flags are restored.
        on_progress: is called with the progress of each rollout.
        root: the base folder of relative report paths.
    """

    rollouts: RolloutService
    by: str
    stop: Event
    on_progress: OnRolloutProgress
    root: Path

    def check(self, search: SearchResult) -> SearchResult:
        """Check by a dry run of the first candidate that the target can be used; change and measure nothing.

        Return a copy of `search` with the candidates that are known before a measurement, marked as not measured. These
        are all candidates of a grid; with any other method, only the first candidate is known.

        Raises:
            RelabError: the target cannot be used, or rejects the plan.
        """
        spec = search.spec
        known = _known_candidates(spec)
        plan = screening_plan(spec, known[0], 1, folder_of(search))
        self.rollouts.run(
            plan, by=self.by, stop=self.stop, on_progress=self.on_progress, root=self.root, is_dry_run=True
        )
        drafts = tuple(
            ScreenedCandidate(number=number, values=values, rollout_id=None, problem="not measured")
            for number, values in enumerate(known, 1)
        )
        return search.model_copy(update={"candidates": drafts, "message": "The target is healthy."})

    def run(self, search: SearchResult) -> SearchResult:
        """Run a search for the best flags to its end, or until it is stopped, and return its result.

        The report is written after each rollout. If rollouts of this search are already stored, the search is
        continued: rollouts with a verdict are not repeated.

        Raises:
            ReportFolderError: the report cannot be written; the search can be continued.
            RelabError: a rollout failed; the flags are restored, and the search can be continued.
        """
        spec, folder = search.spec, folder_of(search)
        check_folder(self.root / folder)
        stored = dict(self._stored(folder))
        candidates: list[ScreenedCandidate] = []
        confirmations: list[Confirmation] = []

        def result(message: str, **values: object) -> SearchResult:
            found = search.model_copy(
                update={
                    "candidates": tuple(candidates),
                    "confirmations": tuple(confirmations),
                    "message": message,
                    **values,
                }
            )
            write_search(found, self.root / folder)
            return found

        result("The search has begun.")
        while (candidate := self._next(spec, candidates, stored, folder)) is not None:
            candidates.append(candidate)
            result("Candidates are being screened.")
        if self.stop.is_set():
            return result("The search was stopped; `lab rollout search --resume` continues it.")
        estimates = [None if one.problem else one.estimate_pct for one in candidates]
        places = to_confirm(estimates, greatest_pct=spec.plan.thresholds.edge_delta_p95_max, most=spec.confirmations)
        if not places:
            return result("No candidate was better in its screening, so no candidate is confirmed.", finished=True)
        for number, place in enumerate(places, 1):
            candidate = candidates[place]
            plan = confirming_plan(spec, candidate, number, folder)
            record = self._rollout(stored, plan, f"confirming {candidate.label}")
            if record is None:
                return result("The search was stopped; `lab rollout search --resume` continues it.")
            confirmations.append(_confirmation(candidate, record))
            if confirmations[-1].verdict is Verdict.PASS:
                break
            result("Candidates are being confirmed.")
        last = confirmations[-1]
        if last.applied:
            label = candidates[last.candidate - 1].label
            return result(f"{label} passed its confirmation and is in force.", chosen=last.candidate, finished=True)
        return result("No candidate that was confirmed is in force.", finished=True)

    def _next(
        self, spec: SearchSpec, candidates: list[ScreenedCandidate], stored: dict[str, RolloutRecord], folder: str
    ) -> ScreenedCandidate | None:
        """Screen the next candidate (measure it in a short rollout), and return it with its result.

        If the target rejects the candidate's values, or changes them, such as a limit to its own maximum, the candidate is
        returned without a measurement. Return None if there is no further candidate, if the time budget is used up, or if
        the search was stopped.

        Args:
            spec: the search file.
            candidates: the candidates so far, in order.
            stored: the search's rollouts that have a verdict, by the path of their summary; they are not repeated.
            folder: the folder of the search's reports.
        """
        budget_s = spec.screening.time_budget
        if self.stop.is_set() or (budget_s and sum(one.seconds for one in candidates) >= budget_s):
            return None
        values = propose(
            spec.parameters,
            [one.trial() for one in candidates],
            method=spec.method,
            candidates=spec.candidates,
            seed=spec.seed,
        )
        if values is None:
            return None
        number = len(candidates) + 1
        plan = screening_plan(spec, values, number, folder)
        draft = ScreenedCandidate(number=number, values=values, rollout_id=None)
        try:
            record = self._rollout(stored, plan, f"candidate {number}: {draft.label}")
        except ChangesForbiddenError:
            raise
        except FlagsRejectedError as error:
            return draft.model_copy(update={"problem": error.message})
        except FlagsNotAppliedError as error:
            # The same error means that processes of the target differ, or that the restoration was not applied.
            if len(error.values) > 1 or not all(found.restored for found in self.rollouts.recover()):
                raise
            return draft.model_copy(update={"problem": error.message})
        return None if record is None else screened(number, values, record)

    def _rollout(self, stored: dict[str, RolloutRecord], plan: Plan, what: str) -> RolloutRecord | None:
        """Return the stored rollout of a plan; if there is none, execute the plan. None if the execution was stopped.

        `stored` has the rollouts of the search that have a verdict, by the path of their summary. `what` names the
        rollout in messages of progress, such as `candidate 3`.
        """
        if (found := stored.get(plan.report.output_path)) is not None:
            return found

        def report(progress: RolloutProgress) -> None:
            self.on_progress(progress.model_copy(update={"message": f"{what}: {progress.message}"}))

        record = self.rollouts.run(plan, by=self.by, stop=self.stop, on_progress=report, root=self.root)
        return record if record.status is RolloutStatus.DONE else None

    def _stored(self, folder: str) -> Iterator[tuple[str, RolloutRecord]]:
        """Yield `(path of the summary, record)` for each rollout that belongs to a search, has ended and has a verdict.

        The rollout with the highest id comes first. `folder` is the folder of the search; the summaries of its rollouts
        are below it.
        """
        # All rollouts are read: if the clock was set back, their ids can be lower than the id of the search.
        before: str | None = None
        while True:
            page = self.rollouts.list_rollouts(before=before, limit=_PAGE)
            for record in page.items:
                path = record.plan.report.output_path
                if (
                    path.startswith(f"{folder}/")
                    and record.status is RolloutStatus.DONE
                    and record.judgement is not None
                ):
                    yield path, record
            if page.next_before is None:
                return
            before = page.next_before


def folder_of(search: SearchResult) -> str:
    """Return the path of the folder for the reports of a search.

    The folder `search-ID` is in the folder of the plan's `report.output_path`.
    """
    return str(Path(search.spec.plan.report.output_path).parent / f"search-{search.search_id}")


def _known_candidates(spec: SearchSpec) -> list[Values]:
    """Return the candidates that are known before any measurement: all of a grid; with another method, the first."""
    if spec.method == "grid":
        return grid(spec.parameters)
    values = propose(spec.parameters, [], method=spec.method, candidates=spec.candidates, seed=spec.seed)
    assert values is not None
    return [values]


def _confirmation(candidate: ScreenedCandidate, record: RolloutRecord) -> Confirmation:
    found = record.judgement
    return Confirmation(
        candidate=candidate.number,
        rollout_id=record.rollout_id,
        verdict=None if found is None else found.verdict,
        reason="" if found is None else found.reason,
        applied=record.application is not None and record.application.applied,
    )
