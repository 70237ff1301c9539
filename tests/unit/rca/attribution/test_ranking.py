"""Ranking of problems: which is the root cause, by time, strength, recovery and dependence on others."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import Category, Confidence
from support.telemetry.runs import RunBody, step
from unit.rca.builders import agent_run, call, event, failed, findings

RATE, PERMISSION, TIMEOUT, LOOP, SCHEMA, EMPTY = (
    Category.RATE_LIMITED,
    Category.TOOL_PERMISSION,
    Category.TIMEOUT,
    Category.PLANNER_LOOP,
    Category.TOOL_SCHEMA_MISMATCH,
    Category.RETRIEVAL_EMPTY,
)


def test_first_cause_in_time_outranks_its_consequences() -> None:
    run = agent_run(
        steps=[step("s1"), step("s2", 10, status="failure", retries=4), step("s3", 60, status="failure", error_message="timed out")],
        tool_calls=[failed("c1", 10, step_id="s2", status_code=429)],
        error_type="DeadlineExceeded",
    )  # fmt: skip
    report = analyze(run)
    assert [h.category for h in report.hypotheses] == [RATE, TIMEOUT, LOOP]
    assert report.attribution is not None
    assert report.attribution.call_id == "c1"
    assert "probably only an effect" in report.hypotheses[2].description


@pytest.mark.parametrize("order", [1, -1])
def test_earliest_error_leads_in_any_list_order(order: int) -> None:
    calls = [failed("c1", 1, tool_name="a", status_code=403), failed("c2", 5, tool_name="b", status_code=429)]
    assert analyze(agent_run(tool_calls=calls[::order])).category is PERMISSION


def test_time_of_an_error_is_the_end_of_its_call() -> None:
    slow = failed("c1", 1, tool_name="a", error_message="timed out", latency_ms=60_000)
    quick = failed("c2", 5, tool_name="b", status_code=403, latency_ms=20)
    assert analyze(agent_run(tool_calls=[slow, quick])).category is PERMISSION


def test_unrecovered_comes_before_recovered() -> None:
    calls = [
        failed("c1", 1, tool_name="a", status_code=429),
        call("c2", 2, tool_name="a"),
        failed("c3", 3, tool_name="b", status_code=403),
    ]
    report = analyze(agent_run(tool_calls=calls))
    assert [h.category for h in report.hypotheses] == [PERMISSION, RATE]
    assert [f.recovered for f in report.findings] == [True, False]
    assert "recovered from it" in report.hypotheses[1].description


def test_retried_step_recovers_its_calls() -> None:
    steps = [step("s1", name="look up", status="failure"), step("s2", 9, name="look up")]
    report = analyze(agent_run(steps=steps, tool_calls=[failed("c1", status_code=429)]))
    assert [f.recovered for f in findings(report, RATE)] == [True]


def test_stated_cause_comes_before_a_hint() -> None:
    calls = [
        call("c1", 1, tool_name="a", result_summary="Error: request timed out"),
        failed("c2", 5, tool_name="b", status_code=403),
    ]
    assert [h.category for h in analyze(agent_run(tool_calls=calls)).hypotheses] == [PERMISSION, TIMEOUT]


def test_loop_of_failing_calls_follows_from_their_error() -> None:
    calls = [failed(f"c{n}", n, args_json={"q": 1}, status_code=403, latency_ms=500) for n in range(6)]
    report = analyze(agent_run(tool_calls=calls))
    assert "probably only an effect" in report.hypotheses[1].description
    assert [h.category for h in report.hypotheses] == [PERMISSION, LOOP]
    assert [h.confidence for h in report.hypotheses] == [Confidence.HIGH, Confidence.HIGH]


def test_loop_of_calls_that_fail_without_reason_is_the_cause() -> None:
    calls = [failed(f"c{n}", n, args_json={"q": 1}, error_message="failed") for n in range(5)]
    assert analyze(agent_run(tool_calls=calls)).category is LOOP


def test_loop_of_successful_calls_causes_the_deadline() -> None:
    calls = [call(f"c{n}", n, args_json={"q": 1}, result_summary="3 shoes") for n in range(5)]
    report = analyze(agent_run(tool_calls=calls, error_type="TimeoutError", error_message="Deadline exceeded"))
    assert [h.category for h in report.hypotheses] == [LOOP, TIMEOUT]


def test_empty_retrieval_does_not_explain_a_refusal() -> None:
    calls = [
        call("c1", 1, tool_name="search_docs", result_summary="[]"),
        failed("c2", 5, tool_name="b", status_code=403),
    ]
    assert analyze(agent_run(tool_calls=calls)).category is PERMISSION
    calls[1] = failed("c2", 5, tool_name="b", status_code=422, error_message="field required: id")
    assert analyze(agent_run(tool_calls=calls)).category is EMPTY


def test_step_error_that_repeats_its_call_is_one_problem() -> None:
    steps = [
        step("s0", status="failure", error_message="Agent failed: 429 Too Many Requests"),
        step("s1", 1, status="failure", parent_step_id="s0", error_message="Tool said: 429 Too Many Requests"),
    ]
    report = analyze(agent_run(steps=steps, tool_calls=[failed("c1", 2, status_code=429)]))
    assert [(f.category, f.call_id) for f in report.findings] == [(RATE, "c1")]


def test_step_error_of_another_kind_stays() -> None:
    steps = [step("s1", status="failure", error_message="timed out", latency_ms=9_000)]
    report = analyze(agent_run(steps=steps, tool_calls=[failed("c1", 2, status_code=429)]))
    assert [f.category for f in report.findings] == [RATE, TIMEOUT]


def test_cyclic_parents_end() -> None:
    steps = [
        step("s1", status="failure", error_message="timed out", parent_step_id="s2"),
        step("s2", status="failure", error_message="boom", parent_step_id="s1"),
    ]
    assert analyze(agent_run(steps=steps, error_type="X1")).category is TIMEOUT


def test_guardrail_event_raises_the_corroborated_cause() -> None:
    body = failed("c1", error_message="missing required field: id")
    assert analyze(agent_run(tool_calls=[body])).hypotheses[0].confidence == "medium"
    report = analyze(agent_run(tool_calls=[body], guardrail_events=[event(type="schema_validation", call_id="c1")]))
    assert report.hypotheses[0].confidence == "high"
    assert report.hypotheses[0].evidence_ids == ("ev_tool_c1", "ev_guard_g1")
    assert len(report.findings) == 1


def test_guardrail_event_explains_a_call_without_an_error_text() -> None:
    report = analyze(
        agent_run(tool_calls=[failed("c1")], guardrail_events=[event(type="schema_validation", call_id="c1")])
    )
    assert report.category is SCHEMA
    assert report.attribution is not None
    assert report.attribution.call_id == "c1"


def test_error_of_the_run_corroborates_the_located_one() -> None:
    run = agent_run(tool_calls=[failed("c1", error_message="request timed out")], error_type="TimeoutError")
    report = analyze(run)
    assert len(report.findings) == 1
    assert report.hypotheses[0].confidence == "high"
    assert report.hypotheses[0].evidence_ids == ("ev_tool_c1", "ev_run_run-1")


def test_unexplained_failure_is_located_with_an_unknown_category() -> None:
    report = analyze(agent_run(tool_calls=[failed("c1", error_class="ValueError", error_message="no such day")]))
    assert report.category == Category.UNKNOWN
    assert report.detail == "unclassified_error"
    assert report.hypotheses[0].title == "Unknown Root Cause"
    assert '"no such day"' in report.hypotheses[0].description
    assert report.attribution is not None
    assert report.attribution.call_id == "c1"


def test_same_category_is_one_hypothesis_that_counts_its_problems() -> None:
    calls = [failed(f"c{n}", n, tool_name=f"tool_{n % 2}", args_json={"n": n}, status_code=429) for n in range(4)]
    report = analyze(agent_run(tool_calls=calls))
    assert len(report.hypotheses) == 1
    assert "4 problems of this kind of 2 tools" in report.hypotheses[0].description
    assert len(report.findings) == 4


def test_successful_run_reports_recovered_errors() -> None:
    calls = [failed("c1", 1, status_code=429), call("c2", 2)]
    report = analyze(agent_run("success", tool_calls=calls))
    assert report.category is Category.UNKNOWN
    assert not report.insufficient_evidence
    assert report.hypotheses == ()
    assert report.attribution is None
    assert [f.recovered for f in report.findings] == [True]
    assert report.summary == ("The run succeeded; 1 problem was recovered from: rate_limited of order_lookup.")
    assert [(item.type, item.priority) for item in report.action_items] == [("monitoring", "low")]


@pytest.mark.parametrize(("status", "words"), [("running", "still running"), ("cancelled", "was cancelled")])
def test_unfinished_run_is_analysed_as_it_is(status: str, words: str) -> None:
    report = analyze(agent_run(status))
    assert words in report.summary
    assert not report.insufficient_evidence
    assert report.hypotheses == ()
    report = analyze(agent_run(status, tool_calls=[failed("c1", status_code=403)]))
    assert words in report.summary
    assert report.category is PERMISSION


def span_step(step_id: str, second: float, **fields: Any) -> RunBody:
    return step(step_id, second, span_kind="llm", **fields)


def test_cancelled_call_is_no_cause_of_a_cancelled_run() -> None:
    stopped = call("c1", 1, status="cancelled", error_class="CancelledError", args_json={"order_id": "A-17"})
    report = analyze(
        agent_run("success", steps=[span_step("s1", 0, finish_reasons=["tool_calls"])], tool_calls=[stopped])
    )

    assert report.summary == "The run was cancelled; it shows no unrecovered problem."
    assert report.attribution is None


def test_other_error_of_a_cancelled_run_or_call_is_a_cause() -> None:
    late = call("c1", 1, status="cancelled", error_class="TimeoutError", error_message="timed out after 30 s")

    assert (
        analyze(agent_run("cancelled", error_type="RateLimitError", error_message="429 Too Many Requests")).category
        is RATE
    )
    assert analyze(agent_run("cancelled", error_type="CancelledError", tool_calls=[late])).category is TIMEOUT


def test_run_whose_last_model_call_brought_nothing_is_analysed() -> None:
    said = span_step("s1", 0, output_summary="order_lookup({})", finish_reasons=["tool_calls"])
    report = analyze(agent_run("success", steps=[said, span_step("s2", 3)], tool_calls=[call("c1", 1)]))

    assert report.summary == "The run ended without an answer, and nothing shows why; it shows no unrecovered problem."


def test_answer_that_was_cut_off_is_named_where_no_error_is_reported() -> None:
    said = span_step("s1", 0, output_summary="Order A-17 was shipped with", finish_reasons=["length"])
    report = analyze(agent_run("success", steps=[said]))

    assert report.summary.startswith(
        "The run completed with unrecovered errors: the answer was cut off at the limit of tokens."
    )
