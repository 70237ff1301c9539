"""The evidence collector: quotes the run verbatim, cuts long texts around the match, and gives each quote an id."""

from __future__ import annotations

import pytest

from relab.rca.analyzer import analyze
from relab.rca.evidence.collector import MAX_SNIPPET_CHARS, EvidenceCollector
from relab.rca.evidence.quotation import Quotation
from relab.rca.models import Evidence, EvidenceKind
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, event, failed


def test_long_text_is_cut_around_the_match() -> None:
    message = "a " * 700 + "Rate limit reached for gpt-4" + " z" * 700
    run = agent_run(tool_calls=[failed("c1", error_message=message)])
    (evidence,) = analyze(run).evidence_index
    assert len(evidence.snippet) == MAX_SNIPPET_CHARS
    middle = evidence.snippet.index("Rate limit reached")
    assert 200 < middle < 260
    assert verify_verbatim(run, evidence)


@pytest.mark.parametrize("length", [3_000, 4_001, 9_000, 50_000])
def test_end_of_a_very_long_text_is_read_and_quoted(length: int) -> None:
    message = "b" * length + " request timed out"
    run = agent_run(tool_calls=[failed("c1", error_message=message)])
    (evidence,) = analyze(run).evidence_index
    assert evidence.snippet.endswith("request timed out")
    assert verify_verbatim(run, evidence)


def test_second_field_of_the_same_object_gets_a_numbered_id() -> None:
    run = agent_run(tool_calls=[failed("c1", error_message="Permission denied", retries=7)])
    index = {item.evidence_id: item for item in analyze(run).evidence_index}
    assert list(index) == ["ev_tool_c1", "ev_tool_c1~2"]
    assert index["ev_tool_c1"].field == "error_message"
    assert index["ev_tool_c1~2"].field == "retries"
    assert index["ev_tool_c1~2"].snippet == "7"


def test_numbered_id_never_takes_the_plain_id_of_another_object() -> None:
    calls = [failed("c1", 1, status_code=403, retries=7), failed("c1~2", 2, status_code=403)]
    report = analyze(agent_run(tool_calls=calls))
    by_call = {
        finding.call_id: finding.evidence_ids for finding in report.findings if finding.category == "tool_permission"
    }
    assert by_call == {"c1": ("ev_tool_c1",), "c1~2": ("ev_tool_c1~2",)}
    assert {item.evidence_id for item in report.evidence_index} == {"ev_tool_c1", "ev_tool_c1~2", "ev_tool_c1~3"}


def test_same_field_is_quoted_once() -> None:
    run = agent_run(tool_calls=[failed("c1", error_message="boom")])
    collector = EvidenceCollector(run)
    quotation = Quotation(EvidenceKind.TOOL_CALL, run.tool_calls[0], "error_message")
    assert collector.quote(quotation) == collector.quote(quotation) == "ev_tool_c1"
    assert len(collector) == 1


def test_absent_field_cannot_be_quoted() -> None:
    run = agent_run(tool_calls=[failed("c1")])
    with pytest.raises(ValueError, match="no error_message"):
        EvidenceCollector(run).quote(Quotation(EvidenceKind.TOOL_CALL, run.tool_calls[0], "error_message"))


def test_field_that_is_not_text_is_quoted_as_json() -> None:
    calls = [call(f"c{n}", n, args_json={"città": ["Köln"]}, result_summary="x") for n in range(3)]
    (first, *_) = analyze(agent_run(tool_calls=calls)).evidence_index
    assert first.field == "args_json"
    assert first.snippet == '{"città": ["Köln"]}'


def test_failed_run_quotes_errors_without_a_claim() -> None:
    run = agent_run(
        error_type="AgentError",
        error_message="gave up on the order",
        steps=[step("s1", status="failure"), step("s2", 5)],
        tool_calls=[failed("c1", status_code=429), call("c2", 2, tool_name="other")],
        guardrail_events=[event(step_id="s2")],
    )
    ids = [item.evidence_id for item in analyze(run).evidence_index]
    assert ids == ["ev_tool_c1", "ev_guard_g1", "ev_step_s1", "ev_run_run-1"]


def test_forged_evidence_is_not_verbatim() -> None:
    run = agent_run(tool_calls=[failed("c1", error_message="boom")])
    (real,) = analyze(run).evidence_index
    assert verify_verbatim(run, real)
    forged: list[dict[str, object]] = [
        {"snippet": "bang"},
        {"snippet": ""},
        {"ref_id": "c2"},
        {"field": "result_summary"},
        {"field": "model_fields"},
        {"kind": EvidenceKind.STEP},
        {"evidence_id": "ev_tool_c9"},
        {"kind": EvidenceKind.VERSION, "evidence_id": "ev_version_run-1", "ref_id": "run-1", "field": "run_id"},
    ]
    for change in forged:
        assert not verify_verbatim(run, Evidence.model_validate({**real.model_dump(), **change})), change
