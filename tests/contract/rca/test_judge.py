"""Analyses with a judge: requests, settings, reuse of stored analyses and answers, batches, and deletion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from relab.bootstrap import Services
from relab.llm import BudgetLimits
from relab.rca.errors import NoJudgeError
from relab.rca.judge.judge import Judge
from relab.rca.judge.session import JudgeLimits
from relab.rca.models import JudgeMethod, RcaRun
from relab.rca.service import RcaService, RuleBook
from relab.rca.tables import RcaJudgeAnswerRow
from relab.telemetry.ingest.reading import check_agent_run
from support.rca.judges import StepJudge
from support.telemetry.runs import failed_run, step


@dataclass
class Judged:
    """An installation with a scripted judge that names the step `s1`."""

    services: Services
    rca: RcaService
    gateway: StepJudge

    def post(self, run_id: str) -> str:
        steps = [step(f"s{n}", n, output_summary=f"what turn {n} said") for n in range(3)]
        self.services.telemetry.ingest(check_agent_run(failed_run(run_id, steps=steps)))
        return run_id

    def analysed(self, run_id: str, judge: JudgeMethod | None = None, *, force: bool = False) -> RcaRun:
        receipt = self.rca.request(run_id, judge=judge, force=force)
        self.rca.analyze(receipt.rca_run_id)
        return self.rca.get(receipt.rca_run_id)

    def answers(self) -> int:
        with self.services.database.read() as session:
            return session.execute(select(func.count()).select_from(RcaJudgeAnswerRow)).scalar_one()


@pytest.fixture
def installed(services: Services, tmp_path: Path) -> Callable[..., Judged]:
    def install(by_default: JudgeMethod = JudgeMethod.OFF) -> Judged:
        gateway = StepJudge(1)
        judge = Judge(gateway, model="scripted", limits=JudgeLimits(BudgetLimits(), 60.0, 60_000))
        rca = RcaService(
            services.database,
            services.clock,
            services.queue,
            services.progress,
            services.telemetry,
            rules=RuleBook(tmp_path / "no-rules.yaml"),
            judge=judge.judge,
            judge_by_default=by_default,
        )
        return Judged(services, rca, gateway)

    return install


def test_judge_is_called_only_if_requested(installed: Callable[..., Judged]) -> None:
    here = installed()
    without = here.analysed(here.post("r"))
    assert (without.judge, without.report and without.report.judge) == (JudgeMethod.OFF, None)
    assert here.gateway.prompts == []

    judged = here.analysed("r", JudgeMethod.ALL_AT_ONCE)

    assert judged.rca_run_id != without.rca_run_id
    assert judged.judge is JudgeMethod.ALL_AT_ONCE
    assert judged.report is not None
    assert judged.report.judge is not None
    assert [found.step_id for found in judged.report.judge.steps] == ["s1"]
    assert len(here.gateway.prompts) == 1


def test_analysis_is_reused_for_requests_with_its_judge_or_without_one(installed: Callable[..., Judged]) -> None:
    here = installed()
    judged = here.analysed(here.post("r"), JudgeMethod.ALL_AT_ONCE)

    assert here.rca.request("r").rca_run_id == judged.rca_run_id
    assert here.rca.request("r", judge=JudgeMethod.ALL_AT_ONCE).rca_run_id == judged.rca_run_id
    assert here.rca.request("r", judge=JudgeMethod.RERANK).created


def test_settings_choose_the_judge_of_requests_that_name_none(installed: Callable[..., Judged]) -> None:
    here = installed(JudgeMethod.BINARY_SEARCH)

    assert here.analysed(here.post("r")).judge is JudgeMethod.BINARY_SEARCH
    assert here.analysed(here.post("s"), JudgeMethod.OFF).judge is JudgeMethod.OFF


def test_batch_never_calls_the_judge(installed: Callable[..., Judged]) -> None:
    here = installed(JudgeMethod.ALL_AT_ONCE)
    run_id = here.post("r")
    [receipt] = here.rca.request_batch({run_id: here.services.telemetry.get_content(run_id)}).values()
    here.rca.analyze(receipt.rca_run_id)

    assert here.rca.get(receipt.rca_run_id).judge is JudgeMethod.OFF
    assert here.gateway.prompts == []


def test_pending_batch_analysis_gets_the_requested_judge(installed: Callable[..., Judged]) -> None:
    here = installed()
    run_id = here.post("r")
    [receipt] = here.rca.request_batch({run_id: here.services.telemetry.get_content(run_id)}).values()

    again = here.rca.request(run_id, judge=JudgeMethod.ALL_AT_ONCE)

    assert again.rca_run_id == receipt.rca_run_id
    assert here.rca.get(again.rca_run_id).judge is JudgeMethod.ALL_AT_ONCE


def test_answers_are_stored_and_deleted_with_their_run(installed: Callable[..., Judged]) -> None:
    here = installed()
    here.analysed(here.post("r"), JudgeMethod.ALL_AT_ONCE)
    here.analysed(here.post("kept"), JudgeMethod.ALL_AT_ONCE)
    again = here.analysed("r", JudgeMethod.ALL_AT_ONCE, force=True)

    assert again.report is not None
    assert again.report.judge is not None
    assert (again.report.judge.calls, again.report.judge.cached_answers) == (0, 1)
    assert here.answers() == 2

    here.rca.delete_for_runs(["r"], here.services.clock.now_us())

    assert here.answers() == 1


def test_judge_without_a_model_is_a_named_error(services: Services) -> None:
    services.telemetry.ingest(check_agent_run(failed_run("r")))

    with pytest.raises(NoJudgeError, match="No language model is configured"):
        services.rca.request("r", judge=JudgeMethod.RERANK)
    assert services.rca.list_for_run("r") == []
    assert services.rca.request("r", judge=JudgeMethod.OFF).created


def test_report_of_a_worker_without_a_model_says_that_the_judge_was_not_asked(
    installed: Callable[..., Judged], services: Services
) -> None:
    here = installed()
    receipt = here.rca.request(here.post("r"), judge=JudgeMethod.ALL_AT_ONCE)

    services.rca.analyze(receipt.rca_run_id)

    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    assert report.judge is not None
    assert (report.judge.method, report.judge.calls, report.judge.steps) == (JudgeMethod.ALL_AT_ONCE, 0, ())
    assert "no language model is configured in the process that ran the analysis" in report.judge.sentence()
