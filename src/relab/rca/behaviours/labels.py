"""Labels of behaviours: people state whether a run shows a behaviour.

The labels measure how often searches by rules, or by a language model, are right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from sqlalchemy import ColumnElement, delete, select

from relab.core.clock import Clock
from relab.core.errors import InvalidInputError
from relab.rca.behaviour_models import BEHAVIOUR_PATTERN, RunBehaviourLabel
from relab.rca.errors import NoLabelError
from relab.rca.models import HitRate
from relab.rca.tables import RcaBehaviourLabelRow
from relab.stats.intervals import wilson
from relab.storage import Database, UnitOfWork
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.upsert import insert_into
from relab.telemetry.service import TelemetryService

_COLUMNS: Final[tuple[Any, ...]] = tuple(
    table_of(RcaBehaviourLabelRow).c[name] for name in RunBehaviourLabel.model_fields
)


class LabelledShare(BaseModel):
    """A share of labelled runs, `hits` of `n`, with its 95 % confidence interval (Wilson).

    `rate` is the share, from 0 to 1; `low` and `high` are the bounds of the interval. All three are null if `n` is 0.
    """

    hits: int
    n: int
    rate: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, hits: int, n: int) -> LabelledShare:
        """Return the share of `hits` in `n` labelled runs, with its confidence interval."""
        interval = wilson(hits, n) if n else None
        return cls(
            hits=hits,
            n=n,
            rate=hits / n if n else None,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
        )

    def words(self) -> str:
        """Return the share of labelled runs as text, such as `75% (15 of 20, 53% to 89%)`; `-` without labelled runs.

        The brackets have the counts and the confidence interval.
        """
        if self.rate is None or self.low is None or self.high is None:
            return "-"
        return f"{self.rate:.0%} ({self.hits} of {self.n}, {self.low:.0%} to {self.high:.0%})"


class BehaviourScore(BaseModel):
    """How often the results of a search agree with the labels of a behaviour (a pattern in runs).

    Attributes:
        behaviour: the name of the behaviour.
        labelled: the number of labelled runs that are compared with the results.
        changed: the number of labelled runs that are not compared, because they changed after they were labelled.
        not_judged: the number of labelled runs that are not compared, because the search could not judge the behaviour.
        precision: of the runs in which the behaviour was found, the share that is labelled as showing it.
        recall: of the runs that are labelled as showing the behaviour, the share in which it was found.
    """

    behaviour: str
    labelled: int
    changed: int
    not_judged: int
    precision: LabelledShare
    recall: LabelledShare


class SearchedRun(NamedTuple):
    """The result of a search for behaviours (patterns that rules describe) in one run.

    Attributes:
        content_hash: identifies the content of the run that was searched.
        found: the names of the behaviours that were found.
        not_judged: the names of the behaviours that the search could not judge.
    """

    content_hash: str
    found: Collection[str]
    not_judged: Collection[str]


def score(behaviour: str, labels: Iterable[RunBehaviourLabel], runs: Mapping[str, SearchedRun]) -> BehaviourScore:
    """Return how often the results of a search agree with the labels of a behaviour (a pattern in runs).

    Args:
        behaviour: the name of the behaviour.
        labels: the labels of this behaviour; labels of runs that are not in `runs` are ignored.
        runs: `{run id: result of the search}`.
    """
    counts: Counter[str] = Counter()
    for label in labels:
        run = runs.get(label.run_id)
        if run is None:
            continue
        if run.content_hash != label.content_hash:
            counts["changed"] += 1
        elif behaviour in run.not_judged:
            counts["not_judged"] += 1
        else:
            is_found = behaviour in run.found
            counts["labelled"] += 1
            counts["found"] += is_found
            counts["shown"] += label.is_shown
            counts["right"] += is_found and label.is_shown
    return BehaviourScore(
        behaviour=behaviour,
        labelled=counts["labelled"],
        changed=counts["changed"],
        not_judged=counts["not_judged"],
        precision=LabelledShare.of(counts["right"], counts["found"]),
        recall=LabelledShare.of(counts["right"], counts["shown"]),
    )


class BehaviourLabels:
    """Stores and reads labels: statements of people whether a run shows a behaviour.

    A behaviour is a pattern in runs that a rule of the installation describes.
    """

    def __init__(self, database: Database, clock: Clock, telemetry: TelemetryService) -> None:
        self._database = database
        self._clock = clock
        self._telemetry = telemetry

    def save(self, agent_run_id: str, behaviour: str, *, is_shown: bool, by: str) -> RunBehaviourLabel:
        """Store a person's label, which states whether a run shows a behaviour (a rule's pattern); return it.

        An earlier label of this run for this behaviour is replaced.

        Args:
            agent_run_id: the id of the run.
            behaviour: the name of the behaviour.
            is_shown: whether the run shows the behaviour, according to the person.
            by: the name of the person.

        Raises:
            AgentRunNotFoundError: the run does not exist.
            InvalidInputError: `behaviour` is not a valid name of a behaviour.
        """
        if re.fullmatch(BEHAVIOUR_PATTERN, behaviour) is None:
            raise InvalidInputError(f"{behaviour[:80]!r} is not a name of a behaviour ({BEHAVIOUR_PATTERN}).")
        stored = RunBehaviourLabel(
            run_id=agent_run_id,
            behaviour=behaviour,
            content_hash=self._telemetry.get_content(agent_run_id).content_hash,
            is_shown=is_shown,
            labelled_by=by,
            labelled_at=self._clock.now_us(),
        )
        key = ("run_id", "behaviour")
        with self._database.write() as unit:
            added = insert_into(unit.session, table_of(RcaBehaviourLabelRow)).values(**stored.model_dump())
            values = stored.model_dump(exclude=set(key))
            unit.session.execute(added.on_conflict_do_update(index_elements=list(key), set_=values))
        return stored

    def get(self, agent_run_id: str, behaviour: str) -> RunBehaviourLabel:
        """Return the label of a run for a behaviour (a pattern in runs).

        Raises:
            NoLabelError: the run has no such label.
        """
        found = [each for each in self.of_run(agent_run_id) if each.behaviour == behaviour]
        if not found:
            raise NoLabelError(agent_run_id, behaviour=behaviour)
        return found[0]

    def of_run(self, agent_run_id: str) -> list[RunBehaviourLabel]:
        """Return the labels of a run (whether it shows a behaviour), ordered by behaviour.

        The list is empty if the run has no labels or does not exist.
        """
        return self._where(RcaBehaviourLabelRow.run_id == agent_run_id)

    def remove(self, agent_run_id: str, behaviour: str) -> None:
        """Delete the label of a run for a behaviour (a pattern in runs).

        Raises:
            NoLabelError: the run has no such label.
        """
        row = RcaBehaviourLabelRow
        statement = delete(table_of(row)).where(row.run_id == agent_run_id, row.behaviour == behaviour)
        with self._database.write() as unit:
            if unit.session.execute(statement.returning(row.run_id)).one_or_none() is None:
                raise NoLabelError(agent_run_id, behaviour=behaviour)

    def of(self, behaviour: str) -> list[RunBehaviourLabel]:
        """Return the labels about a behaviour (whether runs show this pattern), ordered by run."""
        return self._where(RcaBehaviourLabelRow.behaviour == behaviour)

    def _where(self, condition: ColumnElement[bool]) -> list[RunBehaviourLabel]:
        """Return the labels that fulfil `condition`, ordered by run and behaviour (pattern in runs)."""
        row = RcaBehaviourLabelRow
        statement = select(*_COLUMNS).where(condition).order_by(row.run_id, row.behaviour)
        with self._database.read() as session:
            return [RunBehaviourLabel.model_validate(dict(found)) for found in session.execute(statement).mappings()]

    def hit_rate(self, behaviour: str, *, except_run: str) -> HitRate | None:
        """Return in how many of the labelled runs the search for a behaviour (a pattern) was right.

        Only runs in which the search found the behaviour are counted; the search was right if the label confirms it.
        The run `except_run`, and runs that changed after they were labelled, are left out. Return None if no run
        remains.
        """
        labels = {each.run_id: each for each in self.of(behaviour) if each.run_id != except_run}
        marked = self._telemetry.marks.content_showing(behaviour, labels)
        counted = [labels[run_id] for run_id, content in marked.items() if labels[run_id].content_hash == content]
        if not counted:
            return None
        right = sum(each.is_shown for each in counted)
        interval = wilson(right, len(counted))
        return HitRate(right=right, seen=len(counted), low=interval.low, high=interval.high)

    def delete_for_runs(self, unit: UnitOfWork, agent_run_ids: Collection[str], deleted_at: int) -> None:
        """Delete the labels of deleted runs.

        Args:
            unit: the transaction.
            agent_run_ids: the ids of the deleted runs.
            deleted_at: when the runs were deleted, in microseconds since 1970. Labels that were stored later are kept,
                because they belong to new runs with the same ids.
        """
        row = RcaBehaviourLabelRow
        for ids in chunks(agent_run_ids):
            # Later labels belong to new runs with the same ids.
            unit.session.execute(delete(table_of(row)).where(row.run_id.in_(ids), row.labelled_at <= deleted_at))
