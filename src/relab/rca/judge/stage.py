"""Ask the judge (a language model) during an analysis if this is wanted, and store its answers.

The stored answers about a run are deleted together with the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import delete, insert, select

from relab.core.clock import Clock
from relab.rca.errors import NoJudgeError
from relab.rca.judge.cache import JudgeAnswerCache
from relab.rca.judge_method import JudgeMethod
from relab.rca.judge_models import JudgeVerdict
from relab.rca.models import Report
from relab.rca.tables import RcaJudgeAnswerRow
from relab.storage import Database, UnitOfWork
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.errors import ConstraintError
from relab.telemetry.models import AgentRun

if TYPE_CHECKING:
    from relab.rca.judge.sentences import JudgedSentences

Judging: TypeAlias = Callable[[Report, AgentRun, JudgeMethod, JudgeAnswerCache], Report]
"""Adds the verdict of a language model to a report (`Judge.judge`)."""

SentenceJudging: TypeAlias = "Callable[[Mapping[str, str], AgentRun, JudgeAnswerCache], JudgedSentences]"
"""Returns which behaviours, `{name: sentence}`, a run shows (`SentenceJudge.judge`)."""


_NO_MODEL: Final = (
    "no language model is configured in the process that ran the analysis (`lab serve` or `lab worker`); configure it there, "
    "then analyse the run again with `--force`"
)


class StoredAnswers:
    """Stores and reads the answers of the judge (a language model) about one run; implements `JudgeAnswerCache`."""

    def __init__(self, database: Database, clock: Clock, run_id: str) -> None:
        self._database = database
        self._clock = clock
        self._run_id = run_id

    def get(self, key: str) -> str | None:
        """Return the stored answer, as JSON, to the request with the hash `key`; None if it is not stored."""
        row = RcaJudgeAnswerRow
        statement = select(row.answer).where(row.run_id == self._run_id, row.request == key)
        with self._database.read() as session:
            return session.execute(statement).scalar_one_or_none()

    def put(self, key: str, answer: str) -> None:
        """Store an answer, as JSON, to the request with the hash `key`. An answer that is already stored is kept."""
        values = {"run_id": self._run_id, "request": key, "answer": answer, "answered_at": self._clock.now_us()}
        try:
            with self._database.write(durable=False) as unit:
                unit.session.execute(insert(table_of(RcaJudgeAnswerRow)).values(values))
        except ConstraintError:
            # Another analysis of the run asked the same at the same time.
            return


class JudgeStage:
    """Asks the judge about analysed runs, if a judge is configured.

    Args:
        judge: adds the verdict of a language model to a report; None if no model is configured.
        by_default: the method for requests that name no method; `OFF` asks no model.
    """

    def __init__(
        self, database: Database, clock: Clock, judge: Judging | None, by_default: JudgeMethod = JudgeMethod.OFF
    ) -> None:
        self._database = database
        self._clock = clock
        self._judge = judge
        self._by_default = by_default

    def choose(self, wanted: JudgeMethod | None) -> JudgeMethod:
        """Return the method of the judge; `wanted` is the method that a request names.

        If `wanted` is None, the method is the default of the settings, or `OFF` if no language model is configured.

        Raises:
            NoJudgeError: a method other than `OFF` is wanted, and no language model is configured.
        """
        if self._judge is None and wanted not in {None, JudgeMethod.OFF}:
            raise NoJudgeError
        if wanted is None and self._judge is not None:
            return self._by_default
        return wanted or JudgeMethod.OFF

    def apply(self, report: Report, run: AgentRun, method: JudgeMethod) -> Report:
        """Ask the judge (a language model) about `run`, and return a copy of `report` with its verdict.

        If `method` is `OFF`, no request is sent, and the report is returned unchanged. If no judge is configured in
        this process, no request is sent either, and the verdict says so.
        """
        if method is JudgeMethod.OFF:
            return report
        if self._judge is None:
            # Another process, which has a model, accepted the request.
            evidence = {item.evidence_id: item for item in report.evidence_index}
            return report.with_changes(evidence, judge=JudgeVerdict(method=method, fallback=_NO_MODEL))
        return self._judge(report, run, method, StoredAnswers(self._database, self._clock, run.run_id))

    def delete_for_runs(self, unit: UnitOfWork, run_ids: Collection[str], before_us: int) -> None:
        """Delete the stored answers of the judge (a language model) about the runs, in the transaction `unit`.

        Answers that were stored after `before_us` (microseconds since 1970) are kept.
        """
        row = RcaJudgeAnswerRow
        for ids in chunks(run_ids):
            unit.session.execute(delete(table_of(row)).where(row.run_id.in_(ids), row.answered_at <= before_us))
