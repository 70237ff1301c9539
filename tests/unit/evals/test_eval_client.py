"""The evaluation client: records a server's responses, and counts acceptances, crashes and alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from evals.api_client import Outcome, analyse, post_run, run_stage
from evals.datasets import tau_bench
from evals.real_summary import proportion, summarise

PROBLEM = {"content-type": "application/problem+json"}
REPORT: dict[str, Any] = {
    "category": "timeout",
    "insufficient_evidence": False,
    "summary": "The run failed.",
    "evidence_index": [
        {"evidence_id": "ev", "kind": "run", "ref_id": "r", "field": "error_message", "snippet": "late"}
    ],
    "findings": [],
    "hypotheses": [],
    "attribution": None,
}


def outcome(status: str = "failure", dataset: str = "tau-bench-airline", **changes: Any) -> Outcome:
    body = {
        "run_id": "r",
        "agent_name": "a",
        "status": status,
        "error_message": "too late",
        "steps": [],
        "tool_calls": [],
    }
    return Outcome(dataset, body, **changes)


def through(stage: Any, answer: Callable[[httpx.Request], httpx.Response], *outcomes: Outcome) -> Outcome:
    async def run() -> None:
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            await run_stage(client, stage, outcomes, lambda: None)

    asyncio.run(run())
    return outcomes[0]


def problem(status: int, **fields: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _request: httpx.Response(status, headers=PROBLEM, json=fields)


@pytest.mark.parametrize("status", [200, 201])
def test_both_success_statuses_count_as_accepted(status: int) -> None:
    assert through(post_run, lambda _request: httpx.Response(status), outcome()).accepted is True


def test_rejection_keeps_its_reason_and_is_not_a_crash() -> None:
    done = through(post_run, problem(422, title="Invalid", detail="steps.0.name is missing"), outcome())
    assert done.accepted is False
    assert done.reason == "steps.0.name is missing"
    assert done.crash is None
    summary = summarise([done], {})
    assert summary.ok
    assert summary.rejections == {"steps.0.name is missing": 1}


@pytest.mark.parametrize(
    "answer",
    [
        problem(422),
        lambda _request: httpx.Response(422, text="no"),
        lambda _request: httpx.Response(422, headers=PROBLEM, text="{"),
    ],
)
def test_a_rejection_without_reason_fails_the_evaluation(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    summary = summarise([through(post_run, answer, outcome())], {})
    assert summary.failures == ["tau-bench-airline r: rejected without a reason"]


def test_a_server_error_is_a_crash() -> None:
    done = through(post_run, problem(500, detail="boom"), outcome())
    assert done.crash == "POST /agent-runs answered 500: boom"
    assert not summarise([done], {}).ok


def test_a_lost_connection_is_a_crash_of_that_run_only() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if b'"lost"' in request.content:
            raise httpx.ReadError("reset", request=request)
        return httpx.Response(201)

    lost, kept = outcome(), outcome()
    lost.body["run_id"] = "lost"
    through(post_run, answer, lost, kept)
    assert lost.crash == "ReadError: reset"
    assert kept.accepted is True


def test_a_busy_server_is_asked_again() -> None:
    answers = iter(
        [httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(503, headers={"retry-after": "0"})]
    )
    done = through(post_run, lambda _request: next(answers, httpx.Response(201)), outcome())
    assert done.accepted is True


def analysis(*states: dict[str, Any]) -> Callable[[httpx.Request], httpx.Response]:
    pending = iter(states)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            assert request.url.path == "/agent-runs/r/rca-runs"
            return httpx.Response(202, json={"rca_run_id": "x"})
        assert request.url.path == "/agent-runs/rca-runs/x"
        return httpx.Response(200, json={"rca_run_id": "x", **next(pending)})

    return answer


def test_an_analysis_is_awaited_and_its_report_checked() -> None:
    states = ({"status": "queued"}, {"status": "running"}, {"status": "done", "report": REPORT})
    done = through(analyse, analysis(*states), outcome())
    assert done.report == REPORT
    assert done.check.evidence == 1
    assert done.check.verbatim == 1
    assert done.crash is None


def test_a_failed_analysis_is_a_crash() -> None:
    done = through(analyse, analysis({"status": "failed", "error": "KeyError"}), outcome())
    assert done.crash == "the analysis failed: KeyError"


def test_a_refused_analysis_is_a_crash() -> None:
    assert through(analyse, problem(404, detail="no run r"), outcome()).crash == "POST rca-runs answered 404: no run r"


def test_an_altered_quotation_fails_the_evaluation() -> None:
    altered = {**REPORT, "evidence_index": [{**REPORT["evidence_index"][0], "snippet": "Late"}]}
    summary = summarise([through(analyse, analysis({"status": "done", "report": altered}), outcome())], {})
    assert len(summary.failures) == 1
    assert "'Late' does not stand in 'error_message'" in summary.failures[0]


def finding(confidence: str, *, recovered: bool) -> dict[str, Any]:
    return {"confidence": confidence, "recovered": recovered, "evidence_ids": ["ev"]}


@pytest.mark.parametrize(
    ("found", "hits"),
    [
        (finding("high", recovered=False), 1),
        (finding("medium", recovered=False), 1),
        (finding("low", recovered=False), 0),
        (finding("high", recovered=True), 0),
    ],
)
def test_a_strong_unrecovered_finding_is_an_alarm(found: dict[str, Any], hits: int) -> None:
    report = {**REPORT, "findings": [found, found]}
    passed, told_failed, failed = summarise([outcome("success", report=report)], {}).alarms
    assert passed.strong_findings.hits == hits
    assert passed.strong_findings.n == 1
    assert told_failed.strong_findings.n == 0
    assert failed.strong_findings.n == 0


def test_hypotheses_are_alarms_in_the_group_of_their_run() -> None:
    weak = {**REPORT, "hypotheses": [{"confidence": "low"}]}
    strong = {**REPORT, "hypotheses": [{"confidence": "low"}, {"confidence": "medium"}]}
    control = outcome(dataset=tau_bench.CONTROL, report=weak)
    passed, told_failed, failed = summarise([control, outcome(report=strong), outcome(report=weak)], {}).alarms
    assert passed.hypotheses.n == 0
    assert passed.by_construction is True
    assert told_failed.hypotheses.hits == 1
    assert told_failed.strong_hypotheses.hits == 0
    assert told_failed.by_construction is False
    assert failed.hypotheses.hits == 2
    assert failed.strong_hypotheses.hits == 1
    assert failed.hypotheses.n == 2


def test_groups_count_reports_by_category() -> None:
    runs = [outcome(report=REPORT), outcome(report={**REPORT, "insufficient_evidence": True}), outcome("success")]
    failed, passed = summarise(runs, {}).groups
    assert failed.runs == 2
    assert failed.reports == 2
    assert failed.categories["timeout"] == 2
    assert failed.insufficient == 1
    assert passed.runs == 1
    assert passed.reports == 0
    assert passed.findings_per_run is None


def test_the_interval_is_wilsons() -> None:
    none = proportion(0, 84)
    assert none.low == 0
    assert none.high == pytest.approx(0.0437, abs=1e-4)  # z²/(n + z²) with z = 1.96
    assert proportion(0, 0).low is None
