"""Properties that hold for the reports of all generated runs and histories."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relab.rca.analyzer import analyze
from relab.rca.models import Category, Confidence, Report
from relab.telemetry.models import AgentRun, RunStatus
from relab.telemetry.outcome import RunOutcome, activities_of, outcome_of
from relab.telemetry.past_models import PastRun
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import examples, minimal_run, time_text

STATUSES = st.sampled_from(["success", "failure", "running", "cancelled", "skipped"])
TELLING = st.sampled_from(
    [
        "Rate limit reached", "Permission denied", "timed out", "missing required field: 'a'", "No results found",
        "Internal Server Error", "Error: 429 Too Many Requests", "[]", "{}", "", " ", "pending", "Traceback (most recent call last)",
        '{"error": {"message": "quota exceeded"}}', "with arguments {'q': '403'}: TypeError: f() got an unexpected keyword argument 'q'",
        "for query: 'rate limit exceeded", "Recursion limit of 25 reached", "context_length_exceeded", "ß" * 700 + " timed out",
    ]
)  # fmt: skip
TEXTS = (
    st.none()
    | TELLING
    | st.text(max_size=12)
    | st.builds(lambda a, b: a * 700 + b, st.characters(codec="utf-8"), TELLING)
)
CLASSES = st.none() | st.sampled_from(
    [
        "",
        "TimeoutError",
        "openai.RateLimitError",
        "ValidationError",
        "TypeError",
        "Exception",
        "KeyError",
        "PermissionError",
    ]
)
CODES = st.none() | st.sampled_from([0, 200, 400, 401, 403, 404, 407, 408, 422, 429, 500, 503, 504, 529, 99_999])
IDS = st.sampled_from(["a", "b", "c", "a~2", "a~3"])
ARGS = st.none() | st.sampled_from([{}, {"q": 1}, {"q": "x"}, [], "text", 0, {"n": {"n": [None, "ü"]}}])
OFFSETS = st.sampled_from([0, 1, 2, 5, 60])
RETRIES = st.sampled_from([0, 1, 3, 9])
LATENCIES = st.none() | st.sampled_from([0.0, 5_001.0, 30_000.0, 30_010.0])
TIMES = st.none() | OFFSETS.map(time_text)

STEPS = st.fixed_dictionaries(
    {
        "step_id": IDS, "name": st.sampled_from(["plan", "Retrieve documents", "Step 7", ""]), "status": STATUSES,
        "started_at": OFFSETS.map(time_text), "output_summary": TEXTS, "retries": RETRIES, "latency_ms": LATENCIES,
        "agent_name": st.none() | IDS, "parent_step_id": st.none() | IDS, "error_class": CLASSES, "error_message": TEXTS,
    }
)  # fmt: skip
CALLS = st.fixed_dictionaries(
    {
        "call_id": IDS, "step_id": st.none() | IDS, "tool_name": st.sampled_from(["search_docs", "send", "order_api", ""]),
        "status": STATUSES, "args_json": ARGS, "args_hash": st.none() | IDS, "result_summary": TEXTS, "error_class": CLASSES,
        "error_message": TEXTS, "status_code": CODES, "retries": RETRIES, "latency_ms": LATENCIES, "started_at": TIMES,
    }
)  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {
        "event_id": IDS, "type": st.sampled_from(["", "policy", "schema_validation", "rate_limit", "loop", "no_results"]),
        "message": TEXTS.map(lambda text: text or ""), "step_id": st.none() | IDS, "call_id": st.none() | IDS,
        "created_at": OFFSETS.map(time_text),
    }
)  # fmt: skip
RUNS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["success", "failure", "failure", "failure", "running", "cancelled"]),
        "error_type": CLASSES, "error_message": TEXTS, "agent_version": st.sampled_from([None, "1", "2"]),
        "prompt_hash": st.sampled_from([None, "p"]), "steps": st.lists(STEPS, max_size=4),
        "tool_calls": st.lists(CALLS, max_size=6), "guardrail_events": st.lists(EVENTS, max_size=2),
    }
).map(lambda fields: AgentRun.model_validate(minimal_run(**fields)))  # fmt: skip
SUMMARIES = st.builds(
    PastRun,
    run_id=st.uuids().map(str),
    agent_version=st.sampled_from([None, "1", "2"]),
    prompt_hash=st.sampled_from([None, "p"]),
    started_at=st.integers(1_600_000_000_000_000, 1_750_000_000_000_000),
    status=st.sampled_from(RunStatus),
    step_count=st.integers(0, 30),
    tool_call_counts=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3)),
)
HISTORIES = st.lists(SUMMARIES, max_size=12)


@given(run=RUNS, history=HISTORIES)
@examples(120)
def test_every_report_cites_verbatim_evidence_and_survives_storage(run: AgentRun, history: list[PastRun]) -> None:
    report = analyze(run, history)
    assert all(verify_verbatim(run, evidence) for evidence in report.evidence_index)
    ids = [evidence.evidence_id for evidence in report.evidence_index]
    assert len(ids) == len(set(ids))
    assert Report.load(report.model_dump(mode="json")) == report
    assert 1 <= len(report.summary) < 2_000
    claims = [*report.findings, *report.hypotheses, *([report.attribution] if report.attribution else [])]
    assert {evidence_id for claim in claims for evidence_id in claim.evidence_ids} <= set(ids)
    located = {(f.step_id, f.call_id) for f in report.findings}
    if report.attribution is not None:
        # The finding of a failed call is at the model call that wrote it, if there is one; then it quotes the call.
        quoting = [f for f in report.findings if set(report.attribution.evidence_ids) <= set(f.evidence_ids)]
        place = (report.attribution.step_id, report.attribution.call_id)
        assert place in located or quoting


@given(run=RUNS, history=HISTORIES)
@examples(60)
def test_equal_input_gives_an_equal_report(run: AgentRun, history: list[PastRun]) -> None:
    again = AgentRun.model_validate_json(run.model_dump_json())
    assert analyze(run, history).model_dump_json() == analyze(again, history[::-1]).model_dump_json()


@given(run=RUNS)
@examples(100)
def test_outcome_and_sufficiency_limit_the_claims(run: AgentRun) -> None:
    report = analyze(run)
    outcome = outcome_of(run, activities_of(run)).value
    if outcome is RunOutcome.SUCCEEDED:
        assert report.hypotheses == ()
        assert report.attribution is None
        assert report.category == Category.UNKNOWN
        assert all(finding.recovered for finding in report.findings)
    if not outcome.is_failure:
        assert not report.insufficient_evidence
    elif not run.tool_calls and not run.guardrail_events and not (run.error_type or "").strip():
        assert report.insufficient_evidence
    if report.insufficient_evidence:
        assert report.insufficient_reason
        assert all(hypothesis.confidence is Confidence.LOW for hypothesis in report.hypotheses)
        assert report.attribution is None or report.attribution.confidence is Confidence.LOW
    expected = report.hypotheses[0].category if report.hypotheses else Category.UNKNOWN
    assert report.category is expected
    assert report.action_items


@given(run=RUNS, seed=st.integers(0, 1_000))
@examples(60)
def test_order_of_calls_matters_only_without_times(run: AgentRun, seed: int) -> None:
    starts: dict[int, int] = {}
    steps = {
        step.step_id: step.started_at for step in sorted(run.steps, key=lambda step: step.started_at, reverse=True)
    }
    for place, call in enumerate(run.tool_calls):
        starts[place] = call.started_at or steps.get(call.step_id or "", run.started_at)
    # Groups of calls that start together keep their order; only the groups are shuffled.
    draw = random.Random(seed)
    groups: dict[int, list[Any]] = {}
    for place, call in enumerate(run.tool_calls):
        groups.setdefault(starts[place], []).append(call)
    order = [start for start, members in groups.items() for _ in members]
    draw.shuffle(order)
    queues = {start: iter(members) for start, members in groups.items()}
    shuffled = run.model_copy(update={"tool_calls": [next(queues[start]) for start in order]})
    ids = [call.call_id for call in run.tool_calls]
    if len(ids) == len(set(ids)):
        assert analyze(shuffled) == analyze(run)


def test_big_report_is_bounded_and_counts_omissions() -> None:
    calls = [
        {"call_id": f"c{n}", "tool_name": "a", "status": "failure", "status_code": 403, "started_at": time_text(n)}
        for n in range(3_000)
    ]
    calls.append(
        {"call_id": "late", "tool_name": "b", "status": "failure", "status_code": 429, "started_at": time_text(4_000)}
    )
    report = analyze(AgentRun.model_validate(minimal_run(status="failure", tool_calls=calls)))
    assert len(report.findings) == 1_000
    assert report.omitted.findings == 2_001
    assert [hypothesis.category for hypothesis in report.hypotheses] == ["tool_permission", "rate_limited"]
    assert "late" in {finding.call_id for finding in report.findings}
    cited = {evidence_id for finding in report.findings for evidence_id in finding.evidence_ids}
    assert {evidence.evidence_id for evidence in report.evidence_index} == cited
