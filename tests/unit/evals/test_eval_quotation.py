"""The independent check of reports: finds altered quotations, unresolved citations and unfounded claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.quotation import check_report

BODY = {
    "run_id": "r",
    "status": "failure",
    "error_message": "It broke.",
    "steps": [{"step_id": "s", "output_summary": "first line\nsecond line"}],
    "tool_calls": [{"call_id": "c", "status_code": 429, "args_json": {"b": "ü", "a": [1]}, "result_summary": None}],
    "guardrail_events": [{"event_id": "g", "message": "refused"}],
}


def evidence(kind: str, ref_id: str, field: str, snippet: str) -> dict[str, Any]:
    return {"evidence_id": f"ev_{ref_id}", "kind": kind, "ref_id": ref_id, "field": field, "snippet": snippet}


def report(*items: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "evidence_index": list(items),
        "findings": [],
        "hypotheses": [],
        "attribution": None,
        "summary": "",
        **parts,
    }


@pytest.mark.parametrize(
    "item",
    [
        evidence("run", "r", "error_message", "It broke."),
        evidence("step", "s", "output_summary", "line\nsecond"),
        evidence("tool_call", "c", "status_code", "429"),
        evidence("tool_call", "c", "args_json", '{"a":[1],"b":"ü"}'),
        evidence("tool_call", "c", "args_json", '{"b": "ü", "a": [1]}'),
        evidence("guardrail_event", "g", "message", "refused"),
    ],
)
def test_a_verbatim_quotation_is_counted(item: dict[str, Any]) -> None:
    check = check_report(BODY, report(item))
    assert check.evidence == 1
    assert check.verbatim == 1
    assert check.problems == []


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (evidence("run", "r", "error_message", "it broke."), "does not stand in 'error_message'"),
        (evidence("run", "r", "error_message", ""), "the snippet is empty"),
        (evidence("step", "s", "output_summary", "first…"), "does not stand in"),
        (evidence("run", "another", "error_message", "It broke."), "there is no run 'another'"),
        (evidence("step", "c", "output_summary", "first"), "there is no step 'c'"),
        (evidence("step", "s", "input_summary", "first"), "no field 'input_summary'"),
        (evidence("tool_call", "c", "result_summary", "null"), "no field 'result_summary'"),
        (evidence("tool_call", "c", "args_json", "{'a': [1]}"), "does not stand in"),
    ],
)
def test_any_other_quotation_is_a_problem(item: dict[str, Any], problem: str) -> None:
    check = check_report(BODY, report(item))
    assert check.verbatim == 0
    assert len(check.problems) == 1
    assert problem in check.problems[0]


@given(st.text(min_size=1), st.data())
def test_every_part_of_a_text_is_verbatim(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    body = {**BODY, "error_message": text}
    assert check_report(body, report(evidence("run", "r", "error_message", text[start:end]))).problems == []
    absent = text[start:end] + text + "!"
    assert check_report(body, report(evidence("run", "r", "error_message", absent))).problems != []


def test_citations_must_resolve_and_exist() -> None:
    item = evidence("run", "r", "error_message", "It")
    claims = {
        "findings": [{"evidence_ids": ["ev_r"], "step_id": "s", "call_id": "c"}],
        "hypotheses": [{"evidence_ids": ["ev_r", "ev_invented"]}],
        "attribution": {"evidence_ids": [], "step_id": None},
    }
    check = check_report(BODY, report(item, **claims))
    assert check.citations == 3
    assert check.problems == ["hypotheses.0 cites ev_invented, which is not in the report", "attribution cites nothing"]


def test_a_claim_about_a_part_that_the_run_lacks_is_a_problem() -> None:
    item = evidence("run", "r", "error_message", "It")
    check = check_report(BODY, report(item, attribution={"evidence_ids": ["ev_r"], "step_id": "nowhere"}))
    assert check.problems == ["attribution points at step_id 'nowhere', which the run does not have"]


def test_two_items_of_one_id_are_a_problem() -> None:
    item = evidence("run", "r", "error_message", "It")
    assert check_report(BODY, report(item, item)).problems == ["two evidence items share an id"]


def test_a_run_that_succeeded_has_no_cause_of_failure() -> None:
    item = evidence("run", "r", "error_message", "It")
    claims = report(item, hypotheses=[{"evidence_ids": ["ev_r"]}], summary="The run succeeded.")
    assert check_report(BODY, claims).problems == ["a run that succeeded has a hypothesis of why it failed"]
