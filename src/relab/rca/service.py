"""Use cases of root cause analysis: request, run, read and delete analyses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.core.errors import NotFoundError
from relab.core.ids import new_id
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.progress.service import ProgressLog
from relab.rca import repository
from relab.rca.behaviour_models import NOTICE_JOB, SEARCH_JOB
from relab.rca.behaviours import RuleBook, read_rules
from relab.rca.clusters import ClusterPage, FailureCluster, failure_row
from relab.rca.clusters import repository as failures
from relab.rca.errors import RcaRunNotFoundError, RuleFileError, VanishedRunError
from relab.rca.judge_method import JudgeMethod
from relab.rca.judge_models import add_costs
from relab.rca.labels import LabelledRun, LabelPage, LabelScore, LabelScores, NewLabel, RunLabel
from relab.rca.models import RcaReceipt, RcaRun, RcaStatus, RcaSummary, Report
from relab.rca.notes import NoteQuote, RunNote
from relab.storage import Database, UnitOfWork
from relab.storage.bulk import chunks
from relab.storage.errors import ConstraintError
from relab.telemetry.models import AgentRun, RunContent
from relab.telemetry.service import BEHAVIOURS_JOB, LABEL_JOB, TelemetryService

if TYPE_CHECKING:
    from relab.rca.behaviours.labels import BehaviourScore as BehaviourScore  # noqa: PLC0414 re-exported for annotations
    from relab.rca.behaviours.rules import BehaviourRule as BehaviourRule  # noqa: PLC0414 re-exported for annotations
    from relab.rca.behaviours.scanning import ScannedRun as ScannedRun  # noqa: PLC0414 re-exported for annotations
    from relab.rca.judge.stage import Judging, SentenceJudging

__all__ = [
    "NOTICE_JOB",
    "SEARCH_JOB",
    "ClusterPage",
    "FailureCluster",
    "LabelPage",
    "LabelScore",
    "LabelScores",
    "LabelledRun",
    "NewLabel",
    "NoteQuote",
    "RcaReceipt",
    "RcaService",
    "RuleBook",
    "RuleFileError",
    "RunLabel",
    "RunNote",
    "add_costs",
    "check_sentence",
    "read_rules",
]

ANALYZE_JOB = "rca.analyze"

Wording = Callable[[Report], Report]
"""Rewrites the summary of a report; the returned report must have the same meaning."""


def check_sentence(text: str, pieces: Collection[str]) -> tuple[str, str | None]:
    """Return `(sentence, reason)`: a language model's sentence, normalised for display, and why it must not be shown.

    The reason is a `DropReason`; None if the texts `pieces` support the sentence (`check_text` has the rules).
    """
    from relab.rca.report import check_text, normal_text

    shown = normal_text(text)
    problem = check_text(shown, pieces)
    return shown, None if problem is None else problem[0].value


class RcaService:
    """Requests, runs and reads root cause analyses of agent runs; workers execute them as jobs.

    Args:
        word: rewrites the summary of a report with a language model; None to keep the deterministic summary.
        judge: asks a language model which step went wrong first; None without a model.
        sentences: asks a language model in analyses with a judge for behaviours described by a sentence; else None.
        judge_by_default: the method of the judge (a language model) if a request names none; `off` for no judge.
        rules: the rules of this installation that describe behaviours (patterns in runs).

    Attributes:
        notes: makes notes for people from reports.
        clusters: reads clusters of failed runs that share a cause.
        labels: stores people's labels of the first mistakes of runs.
        behaviours: searches stored runs for behaviours.
        arrivals: searches new runs for behaviours, and notifies people.
        ranking: trains the models that rank the steps of runs.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        queue: JobQueue,
        progress: ProgressLog,
        telemetry: TelemetryService,
        *,
        rules: RuleBook,
        word: Wording | None = None,
        judge: Judging | None = None,
        sentences: SentenceJudging | None = None,
        judge_by_default: JudgeMethod = JudgeMethod.OFF,
    ) -> None:
        # The server imports this module for its models, and most of the time analyses nothing.
        from relab.rca.behaviours.arrivals import BehaviourArrivals
        from relab.rca.behaviours.labels import BehaviourLabels
        from relab.rca.behaviours.scanning import BehaviourScanner
        from relab.rca.behaviours.sentences import BehaviourFinder
        from relab.rca.clusters.reader import ClusterReader
        from relab.rca.judge.stage import JudgeStage
        from relab.rca.labels.keeper import LabelKeeper
        from relab.rca.labels.ranking_models import RankingModelKeeper
        from relab.rca.notes.reader import NoteReader

        self._database = database
        self._clock = clock
        self._queue = queue
        self._progress = progress
        self._telemetry = telemetry
        self._word = word
        self._judging = JudgeStage(database, clock, judge, judge_by_default)
        self.labels = LabelKeeper(database, clock, telemetry, self.report_on)
        finder, said = BehaviourFinder(database, clock, sentences), BehaviourLabels(database, clock, telemetry)
        self.behaviours = BehaviourScanner(telemetry, rules, finder, said)
        self.arrivals = BehaviourArrivals(database, clock, queue, telemetry, self.behaviours)
        self.ranking = RankingModelKeeper(database, clock, self.labels)
        self.clusters = ClusterReader(database)
        self.notes = NoteReader(self.get, telemetry, self.clusters)

    def request(self, agent_run_id: str, *, force: bool = False, judge: JudgeMethod | None = None) -> RcaReceipt:
        """Enqueue an analysis of the run's current content, or return the existing analysis of this content.

        A new one is enqueued if `force` is true, or if the existing analysis failed, lacks the requested judge method,
        or lacks the configured summary by a language model. If `judge` is None, the settings decide the method.

        Raises:
            AgentRunNotFoundError: the run does not exist.
            NoJudgeError: a judge is requested, and no language model is configured.
        """
        method = self._judging.choose(judge)
        content = self._telemetry.get_content(agent_run_id)
        while True:
            try:
                with self._database.write() as unit:
                    return self._request_within(unit, agent_run_id, content, force=force, judge=method)
            except ConstraintError:
                # Another process inserted the current analysis between our query and our insert.
                continue

    def analyze_arrivals(self, *, quiet_s: float, max_waiting: int) -> int:
        """Enqueue analyses of runs that await one (`RunRecord.is_suspect`), newest first; return how many are new.

        Args:
            quiet_s: runs that changed within this number of seconds are skipped; their traces may be incomplete.
            max_waiting: the maximum number of queued or running analyses in the lane `background`.

        Raises:
            DatabaseUnavailableError: the database is unavailable; a later call does the work.
        """
        room = max_waiting - self._queue.count_unfinished(ANALYZE_JOB, Lane.BACKGROUND)
        contents = self._telemetry.awaiting.list(quiet_s, room) if room > 0 else {}
        if not contents:
            return 0
        try:
            # The commit need not wait for the disk: a power failure would lose the requests and the end of the waiting.
            with self._database.write(durable=False) as unit:
                receipts = [
                    self._request_within(unit, run_id, content, on_arrival=True) for run_id, content in contents.items()
                ]
                self._telemetry.awaiting.clear(unit, contents)
        except ConstraintError:
            # A person requested one of these analyses meanwhile; the next call finds it.
            return 0
        return sum(receipt.created for receipt in receipts)

    def request_batch(self, contents: Mapping[str, RunContent], *, force: bool = False) -> dict[str, RcaReceipt]:
        """Enqueue analyses of many runs, `{run id: content}`, in the lane `background`; return `{run id: receipt}`.

        No language model is used. Unless `force` is true, an existing analysis of a content is not repeated: its receipt
        is returned.
        """
        while True:
            try:
                with self._database.write() as unit:
                    return {
                        run_id: self._request_within(unit, run_id, content, force=force, on_arrival=True)
                        for run_id, content in contents.items()
                    }
            except ConstraintError:
                # Another process inserted one of the analyses between our query and our insert.
                continue

    def summaries(self, rca_run_ids: Collection[str]) -> dict[str, RcaSummary]:
        """Return `{analysis id: summary}` of the analyses in `rca_run_ids` that exist."""
        with self._database.read() as session:
            return repository.summaries(session, rca_run_ids)

    def get(self, rca_run_id: str) -> RcaRun:
        """Return an analysis, with its report if it is done.

        Raises:
            RcaRunNotFoundError: no analysis has this id.
        """
        with self._database.read() as session:
            found = repository.get(session, rca_run_id)
        if found is None:
            raise RcaRunNotFoundError(f"There is no analysis {rca_run_id!r}.")
        return found

    def list_for_run(self, agent_run_id: str, *, limit: int = 50) -> list[RcaRun]:
        """Return at most `limit` analyses of a run, newest first, without their reports."""
        with self._database.read() as session:
            return repository.list_for_run(session, agent_run_id, limit)

    def analyze(self, rca_run_id: str) -> None:
        """Run the analysis and store its report; do nothing if the analysis is already done.

        Raises:
            RcaRunNotFoundError: the analysis does not exist or was deleted.
            VanishedRunError: the run was deleted after the request, so a retry cannot help.
        """
        from relab.rca.analyzer import build_report, classify, collect_evidence
        from relab.rca.passing import with_comparison

        rca_run = self.get(rca_run_id)
        if rca_run.status is RcaStatus.DONE:
            return
        with self._database.write(durable=False) as unit:
            repository.change(
                unit.session,
                rca_run_id,
                status=RcaStatus.RUNNING,
                started_at=self._clock.now_us(),
                error=None,
            )
            self._publish(unit, rca_run_id, "Starting RCA", 5)
        try:
            run, content_hash = self._telemetry.load(rca_run.run_id)
        except NotFoundError as error:
            raise VanishedRunError(f"The run {rca_run.run_id!r} was deleted before it was analysed.") from error
        self._stage(rca_run_id, "Collecting evidence", 30)
        collected = collect_evidence(run, self._telemetry.history(run), self._telemetry.log_lines(run.run_id))
        self._stage(rca_run_id, "Classifying failure", 55)
        classified = classify(collected, self.ranking.models())
        self._stage(rca_run_id, "Generating report", 85)
        report = build_report(classified)
        if collected.view.failed:
            report = with_comparison(report, collected.view, self._telemetry.passing.like(run))
        report = self.behaviours.add_to(report, run, asks_model=rca_run.judge is not JudgeMethod.OFF)
        if self._word is not None and not rca_run.on_arrival:
            # A model costs money and receives data of the run, so it is asked only if a person requested the analysis.
            report = self._word(report)
        report = self._judging.apply(report, run, rca_run.judge)
        self._finish(rca_run, run, content_hash, report, failed=collected.view.failed)

    def report_on(self, run: AgentRun) -> Report:
        """Analyse a stored run now, without a language model, and return the report; nothing is stored."""
        from relab.rca.analyzer import analyze

        return analyze(run, self._telemetry.history(run), self._telemetry.log_lines(run.run_id), self.ranking.models())

    def fail(self, rca_run_id: str, error: str) -> None:
        """Mark the analysis as permanently failed, and end its progress stream with the error message `error`.

        If the analysis is done or does not exist, change nothing.
        """
        with self._database.write() as unit:
            changed = repository.change(
                unit.session,
                rca_run_id,
                status=RcaStatus.FAILED,
                error=error,
                current_key=None,
                finished_at=self._clock.now_us(),
            )
            if changed:
                self._progress.publish_within(
                    unit, rca_run_id, status="failed", step="RCA failed", pct=100, message=error
                )

    def delete_for_runs(self, agent_run_ids: Collection[str], created_before: int) -> None:
        """Delete the analyses and labels of deleted runs, with their progress events and the judge's stored answers.

        Data created after `created_before` (microseconds since 1970) is kept, because new runs can have the same ids.
        """
        with self._database.write() as unit:
            ids = repository.delete_for_runs(unit.session, agent_run_ids, created_before)
            failures.delete_of(unit.session, ids)
            self.labels.delete_for_runs(unit, agent_run_ids, created_before)
            self.behaviours.labels.delete_for_runs(unit, agent_run_ids, created_before)
            self._judging.delete_for_runs(unit, agent_run_ids, created_before)
            for topics in chunks(ids):
                self._progress.delete_in(unit, topics)

    def count_by_category(self) -> dict[tuple[str, str], int]:
        """Return `{(status, category): number of analyses}`; the category is "" until an analysis is done."""
        with self._database.read() as session:
            return repository.count_by_category(session)

    def _request_within(
        self,
        unit: UnitOfWork,
        agent_run_id: str,
        content: RunContent,
        *,
        force: bool = False,
        on_arrival: bool = False,
        judge: JudgeMethod = JudgeMethod.OFF,
    ) -> RcaReceipt:
        content_hash = content.content_hash
        current = repository.find_current(unit.session, agent_run_id, content_hash)
        if current is not None:
            # An older analysis belongs to a deleted run with the same id and content; a job deletes it.
            is_valid = not force and current.created_at >= content.received_at
            if is_valid and (on_arrival or self._serves_person(unit, current, judge)):
                return RcaReceipt(rca_run_id=current.rca_run_id, created=False)
            repository.retire_current(unit.session, agent_run_id, content_hash)
        rca_run_id = new_id()
        repository.add(
            unit.session,
            {
                "rca_run_id": rca_run_id,
                "run_id": agent_run_id,
                "content_hash": content_hash,
                "current_key": repository.current_key(agent_run_id, content_hash),
                "status": RcaStatus.QUEUED,
                "created_at": self._clock.now_us(),
                "on_arrival": on_arrival,
                "judge": judge,
            },
        )
        lane = Lane.BACKGROUND if on_arrival else Lane.INTERACTIVE
        self._queue.enqueue(unit, ANALYZE_JOB, {"rca_run_id": rca_run_id}, lane=lane, job_id=rca_run_id)
        return RcaReceipt(rca_run_id=rca_run_id, created=True)

    def _serves_person(self, unit: UnitOfWork, current: repository.CurrentAnalysis, judge: JudgeMethod) -> bool:
        """Return whether the existing analysis `current` answers a person's request with the method `judge`.

        - A person requested `current`: True if `judge` is OFF or the method of `current`.
        - Otherwise, if it is queued: True. Its method becomes `judge`, and it is moved to the lane `interactive`.
        - Otherwise, True if `judge` is OFF, and `current` is running or no language model rewrites summaries.
        """
        if not current.on_arrival:
            return judge in {JudgeMethod.OFF, current.judge}
        if current.status == RcaStatus.QUEUED:
            self._queue.promote(unit, current.rca_run_id, Lane.INTERACTIVE)
            repository.change(unit.session, current.rca_run_id, on_arrival=False, judge=judge)
            return True
        return judge is JudgeMethod.OFF and (self._word is None or current.status == RcaStatus.RUNNING)

    def _finish(self, rca_run: RcaRun, run: AgentRun, content_hash: str, report: Report, *, failed: bool) -> None:
        """Store the report, end the progress stream and enqueue the labels of the run, unless the analysis is done.

        `failed` says whether the run failed: then its failure is stored, otherwise an older stored failure is deleted.
        """
        values: dict[str, Any] = {
            "status": RcaStatus.DONE,
            "report": report.model_dump(mode="json"),
            "category": report.category,
            "content_hash": content_hash,
            "finished_at": self._clock.now_us(),
        }
        if content_hash != rca_run.content_hash:
            # The run changed between request and analysis, so this report does not answer the request.
            values["current_key"] = None
        with self._database.write() as unit:
            if not repository.change(unit.session, rca_run.rca_run_id, **values):
                return
            self._publish(unit, rca_run.rca_run_id, "RCA complete", 100, status="done")
            if self.behaviours.book.rules():
                shown = [found.behaviour for found in report.behaviours]
                kept = list(report.sentences.not_judged) if report.sentences is not None else []
                marks = {"run_id": run.run_id, "content_hash": content_hash, "behaviours": shown, "kept": kept}
                self._queue.enqueue(unit, BEHAVIOURS_JOB, marks)
                # An analysis on arrival asks no model, so only a person's analysis finds what a model must judge.
                news = [found for found in report.behaviours if rca_run.on_arrival or found.by_model]
                self.arrivals.notify(unit, run, {found.behaviour: found.step_id for found in news})
            if not failed:
                failures.remove(unit.session, run.run_id)
            else:
                failures.save(unit.session, failure_row(rca_run.rca_run_id, run, report))
                confidence = report.hypotheses[0].confidence.value if report.hypotheses else None
                label = {"category": report.category, "confidence": confidence}
                self._queue.enqueue(unit, LABEL_JOB, {"run_id": rca_run.run_id, "content_hash": content_hash, **label})

    def _stage(self, rca_run_id: str, step: str, pct: int) -> None:
        self._progress.publish(rca_run_id, status="running", step=step, pct=pct, message=step)

    def _publish(self, unit: UnitOfWork, rca_run_id: str, step: str, pct: int, *, status: str = "running") -> None:
        self._progress.publish_within(unit, rca_run_id, status=status, step=step, pct=pct, message=step)
