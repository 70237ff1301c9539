"""The tour's view of reports: panels, tables, and the comparison with the expected failure."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from demo.agents_act import EXPECTED, judge
from demo.check import Expected
from demo.report_view import Outcome, as_data, cited, overview_panel, report_panel, summary_table
from demo.scenarios import SCENARIOS
from demo.tour import tally
from relab.rca.models import (
    ActionItem,
    Attribution,
    Category,
    Confidence,
    Evidence,
    EvidenceKind,
    Finding,
    Hypothesis,
    Report,
)
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.overview_models import MetricsOverview, TokenSums

EVIL = "[bold]not markup[/bold] \x1b[31mnot red \x07[link=http://x]x"


def report_of(category=Category.RATE_LIMITED, *, snippet="Retry-After: 60", recovered=False, insufficient=False):
    item = Evidence(
        evidence_id="ev_tool_c1",
        kind=EvidenceKind.TOOL_CALL,
        ref_id="c1",
        title="Failed tool call",
        field="error_message",
        snippet=snippet,
    )
    evidence = {item.evidence_id: item}
    cites = {"evidence_ids": ["ev_tool_c1"]}
    finding = Finding.citing(
        evidence,
        category=category,
        call_id="c1",
        tool_name="lookup",
        confidence=Confidence.HIGH,
        recovered=recovered,
        **cites,
    )
    hypothesis = Hypothesis.citing(
        evidence,
        title="t",
        description="d",
        category=category,
        confidence=Confidence.LOW if insufficient else Confidence.HIGH,
        verification_steps=["look"],
        **cites,
    )
    attribution = Attribution.citing(
        evidence,
        step_id="s1",
        step_name=EVIL,
        call_id="c1",
        tool_name="lookup",
        confidence=Confidence.HIGH,
        **cites,
    )
    return Report.build(
        evidence,
        category=category,
        insufficient_evidence=insufficient,
        insufficient_reason="nothing was recorded" if insufficient else None,
        summary=f"Summary {snippet}",
        findings=[finding],
        hypotheses=[] if recovered else [hypothesis],
        attribution=None if recovered else attribution,
        action_items=[ActionItem(type="process", title="Do", description="this", priority="high")],
        analyzer_version="1",
    )


def outcome_of(report, *, ended=RunOutcome.FAILED, agent="desk"):
    run = {"run_id": "run-1", "agent_name": agent, "status": "success", "steps": [{"step_id": "s1", "name": EVIL}]}
    return Outcome(SCENARIOS[1], run, ended, [EVIL], "1 of 2 succeeded", report, 12.4)


def printed(renderable, width=100):
    out = StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False).print(renderable)
    return out.getvalue()


@given(st.text())
def test_data_keeps_only_printable_characters(text):
    shown = as_data(text).plain
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert all(new == old for new, old in zip(shown, text, strict=True) if old.isprintable())


def test_text_of_runs_is_printed_without_markup_or_control_characters():
    text = printed(report_panel(outcome_of(report_of(snippet=EVIL))))
    shown = "[bold]not markup[/bold] \N{REPLACEMENT CHARACTER}[31mnot red \N{REPLACEMENT CHARACTER}[link"
    assert text.count(shown) == 4, "the tool server's line, the step's name, the quotation and the summary"
    table = printed(summary_table([outcome_of(report_of(), agent=EVIL)], [None]), width=100)
    assert "\x1b[31m" not in text + table
    assert "\x07" not in text + table


def test_a_report_shows_category_place_quotation_and_action():
    text = printed(report_panel(outcome_of(report_of())))
    for part in (
        "rate_limited  confidence high",
        "s1",
        "c1",
        "ev_tool_c1",
        "“Retry-After: 60”",
        "Summary",
        "Do (high): this",
    ):
        assert part in text


def test_panels_show_missing_evidence_and_success():
    lacking = printed(report_panel(outcome_of(report_of(Category.UNKNOWN, insufficient=True))))
    assert "not enough evidence" in lacking
    assert "nothing was recorded" in lacking
    apology = report_panel(outcome_of(report_of(recovered=True), ended=RunOutcome.COMPLETED_WITH_ERRORS))
    assert "· completed with unrecovered errors" in printed(apology)
    assert "nowhere" not in printed(apology)
    fine = printed(report_panel(outcome_of(report_of(recovered=True), ended=RunOutcome.SUCCEEDED)))
    assert "no failure" in fine
    assert "· succeeded" in fine
    assert "nowhere: the run succeeded" in fine
    assert "rate_limited at lookup [c1]" in fine


def test_lines_fit_into_100_columns():
    long = report_of(snippet="word " * 200)
    text = printed(report_panel(outcome_of(long))) + printed(summary_table([outcome_of(long)], ["wrong"]))
    assert max(map(len, text.splitlines())) <= 100
    assert cited(long)[0].snippet.startswith("word")


def test_narrow_terminal_shows_all_digits_of_the_time_of_a_report():
    late = dataclasses.replace(outcome_of(report_of()), request_to_report_ms=12345.6, answered=["GET /a → 200 " * 5])

    assert "12346" in printed(summary_table([late], [None]), width=80)


@pytest.mark.parametrize(
    ("expected", "report", "said"),
    [
        (Expected(Category.RATE_LIMITED, quote="60"), report_of(), None),
        (Expected(Category.RATE_LIMITED, quote="61"), report_of(), "quotes '61'"),
        (Expected(Category.TIMEOUT), report_of(), "the tool server did timeout"),
        (Expected(Category.UNKNOWN, insufficient=True), report_of(Category.UNKNOWN), "there is enough evidence"),
        (Expected(Category.UNKNOWN), report_of(Category.UNKNOWN, insufficient=True), "not enough evidence"),
        (Expected(Category.UNKNOWN, insufficient=True), report_of(Category.UNKNOWN, insufficient=True), None),
        (Expected(Category.RATE_LIMITED, recovered=True), report_of(recovered=True), None),
        (Expected(Category.RATE_LIMITED, recovered=True), report_of(), "blames rate_limited"),
        (Expected(Category.TIMEOUT, recovered=True), report_of(recovered=True), "does not list the timeout"),
    ],
)
def test_report_is_compared_with_the_expected_failure(expected, report, said):
    disagreement = expected.disagreement(report)
    assert disagreement is None if said is None else said in disagreement


def test_one_wrong_report_makes_the_demo_fail():
    out = StringIO()
    console = Console(file=out, width=100)
    outcomes = [outcome_of(report_of()), outcome_of(report_of())]
    assert judge(console, outcomes, [None, None]) == 0
    assert judge(console, outcomes, [None, "it says [b]nonsense"]) == 1
    assert "The report on run-1 is wrong: it says [b]nonsense." in out.getvalue()


def test_every_scenario_is_judged_and_every_category_appears():
    assert list(EXPECTED) == [scenario.key for scenario in SCENARIOS]
    assert {expected.category for expected in EXPECTED.values()} == set(Category)


def test_successes_are_counted_per_version():
    # The second run of version 1 ended with the status success and an apology.
    runs = [("1", RunOutcome.SUCCEEDED), ("2", RunOutcome.FAILED), ("1", RunOutcome.COMPLETED_WITH_ERRORS)]
    assert tally(runs[:1]) is None
    assert tally(runs) == "version 1: 1 of 2 succeeded, version 2: 0 of 1 succeeded"


def test_an_empty_overview_has_no_rates():
    overview = MetricsOverview(
        total_runs=0,
        success_rate=None,
        top_failing_tools=[],
        p95_step_latency_ms=None,
        total_cost_usd=None,
        outcomes={},
        runs_without_cost=0,
        estimated_cost_usd=None,
        prices_as_of=None,
        runs_without_estimate=0,
        tokens=TokenSums(prompt=None, cached=None, cache_write=None, completion=None, reasoning=None),
    )
    text = printed(overview_panel(overview, 1))
    assert "none ended" in text
    assert "no steps" in text
