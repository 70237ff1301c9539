"""Search stored runs for behaviours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from relab.core.errors import NotFoundError
from relab.rca.behaviours.labels import BehaviourLabels, BehaviourScore, SearchedRun, score
from relab.rca.behaviours.rule_file import RuleBook, read_rules
from relab.rca.behaviours.sentences import BehaviourFinder
from relab.rca.judge_models import SentenceJudgement
from relab.rca.models import Report
from relab.telemetry.models import AgentRun, RunFilter
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.rca.behaviours.rules import BehaviourRule, RuleSet

_PAGE = 200


class ShownBehaviour(NamedTuple):
    """A behaviour (a pattern that a rule describes) of a run, and the places that show it.

    Each place is a line of the form `kind [id], field: text`. `step_id` is the step of the first place; None if this
    place belongs to no step. `by_model` is true if a language model found the behaviour.
    """

    name: str
    places: tuple[str, ...]
    step_id: str | None = None
    by_model: bool = False


class ScannedRun(NamedTuple):
    """The result of a search for behaviours in one run, with the hash of the searched content.

    Some rules describe their behaviour (a pattern in runs) by a sentence, which a language model judges. `judgement`
    names the behaviours that the model judged and those that it did not judge, and has the model's cost; None if no
    rule has a sentence.
    """

    run_id: str
    content_hash: str
    shown: tuple[ShownBehaviour, ...]
    judgement: SentenceJudgement | None = None

    @property
    def not_judged(self) -> Mapping[str, str]:
        """`{behaviour: reason}` of the behaviours (patterns) that a language model had to judge and did not judge."""
        return {} if self.judgement is None else self.judgement.not_judged


class BehaviourScanner:
    """Searches stored runs for behaviours: patterns that the rules of this installation describe.

    Args:
        telemetry: reads the stored runs.
        book: has the rules.
        finder: finds the behaviours of one run.
        labels: the labels of people, which state whether a run shows a behaviour.
    """

    def __init__(
        self, telemetry: TelemetryService, book: RuleBook, finder: BehaviourFinder, labels: BehaviourLabels
    ) -> None:
        self._telemetry = telemetry
        self.labels = labels
        self._finder = finder
        self.book = book

    def read(self, path: Path) -> RuleSet:
        """Read and check a file of rules.

        Raises:
            RuleFileError: the file cannot be read or is wrong.
        """
        return read_rules(path)

    def count(self) -> dict[str, int]:
        """Return `{behaviour: number of runs that show it}`; a behaviour that no run shows has the number 0.

        Behaviours whose rule no longer exists are counted together as "other".
        """
        known = {rule.name for rule in self.book.rules()}
        counts = dict.fromkeys(sorted(known), 0)
        for name, number in self._telemetry.marks.count_behaviours().items():
            # The label of a metric has the names of the rules in use and no others, so that its values stay few.
            key = name if name in known else "other"
            counts[key] = counts.get(key, 0) + number
        return counts

    def matching(self, run_filter: RunFilter) -> Iterator[str]:
        """Yield the ids of the runs that match the filter, newest first."""
        cursor: str | None = None
        while True:
            page = self._telemetry.list_runs(run_filter, cursor=cursor, limit=_PAGE)
            yield from (run.run_id for run in page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def add_to(self, report: Report, run: AgentRun, *, asks_model: bool) -> Report:
        """Return a copy of the report of a run, extended by the behaviours that the run shows.

        If `asks_model` is true, a language model judges whether the run shows the behaviours whose rule has a sentence.
        Otherwise, or if no model is configured, these behaviours are not judged.
        """
        from relab.rca.behaviours.reporting import with_behaviours  # noqa: PLC0415 loads the analysis

        seen, judgement = self._finder.find(self.book.rules(), run, asks_model=asks_model)
        rates = {each.rule.name: self.labels.hit_rate(each.rule.name, except_run=run.run_id) for each in seen}
        return with_behaviours(report, run, seen, judgement, rates)

    def scores(self, rules: Sequence[BehaviourRule], scanned: Iterable[ScannedRun]) -> list[BehaviourScore]:
        """Return how often the results of a search agree with people's labels.

        Only rules with labels of searched runs have a score.
        """
        runs = {
            each.run_id: SearchedRun(each.content_hash, {shown.name for shown in each.shown}, each.not_judged)
            for each in scanned
        }
        scored = [score(rule.name, self.labels.of(rule.name), runs) for rule in rules]
        return [each for each in scored if each.labelled or each.changed or each.not_judged]

    def scan(
        self, rules: Sequence[BehaviourRule], run_ids: Iterable[str], *, asks_model: bool = False
    ) -> Iterator[tuple[AgentRun, ScannedRun]]:
        """Search each run for the behaviours of `rules`; yield `(run, result)` in the order of `run_ids`.

        Deleted runs are left out. If `asks_model` is true, a language model judges whether the run shows the behaviours
        whose rule has a sentence; otherwise these behaviours count as not judged.

        Raises:
            NoJudgeError: `asks_model` is true, and no language model is configured.
        """
        from relab.rca.behaviours.matching import lines_of  # noqa: PLC0415 loads the analysis

        if asks_model:
            self._finder.check_model()
        for run_id in run_ids:
            try:
                run, content_hash = self._telemetry.load(run_id)
            except NotFoundError:
                continue
            seen, judgement = self._finder.find(rules, run, asks_model=asks_model)
            shown = tuple(
                ShownBehaviour(each.rule.name, tuple(lines_of(each)), each.step_id, each.opinion is not None)
                for each in seen
            )
            yield run, ScannedRun(run.run_id, content_hash, shown, judgement)

    def mark(self, scanned: ScannedRun) -> None:
        """Store the behaviours (patterns) that a run shows, so that lists of runs can be filtered by behaviour.

        Some behaviours need the judgement of a language model. If a behaviour was not judged this time, its stored
        result from an earlier search is kept, unless the run's content has changed since then.
        Nothing is stored if the run was deleted or changed after this search.
        """
        names = [each.name for each in scanned.shown]
        self._telemetry.marks.set_behaviours(scanned.run_id, scanned.content_hash, names, kept=scanned.not_judged)
