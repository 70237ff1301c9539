"""The retrieval_empty detector: finds searches without results, and ignores similar results that are not empty."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.detectors.retrieval_empty import emptiness, is_retrieval
from relab.rca.models import Category
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, failed, findings

EMPTY = Category.RETRIEVAL_EMPTY


@pytest.mark.parametrize(
    "name",
    ["search", "web_search", "SearchInformationTool", "orderLookup", "retrieve_docs", "vector-store", "fetch_documents", "knowledge_base", "kbQuery"],
)  # fmt: skip
def test_retrieval_tools_are_recognised_by_name(name: str) -> None:
    assert is_retrieval(name)


@pytest.mark.parametrize(
    "name", ["send_email", "find_and_replace", "create_search_index", "book_flight", "calculator", "delete_documents", ""]
)  # fmt: skip
def test_names_of_other_tools_are_not_recognised(name: str) -> None:
    assert not is_retrieval(name)


@pytest.mark.parametrize(
    ("result", "detail"),
    [
        ("[]", "empty_result"),
        (" {} ", "empty_result"),
        ("[\n]", "empty_result"),
        ("{ }", "empty_result"),
        ("null", "empty_result"),
        ('{"results": [], "total": 0}', "empty_result"),
        ('{"count": 0}', "empty_result"),
        ('{"results": [], "total": null}', "empty_result"),
        ("No documents found.", "no_results"),
        ("0 results", "no_results"),
        ("Found no matching records for this customer", "no_results"),
        ("Nothing found", "no_results"),
        ("The search returned 0", "no_results"),
        ("We did not find any.", "no_results"),
        ("empty", "empty_result"),
        ("Empty results.", "no_results"),
        ("Empty search results", "no_results"),
        ("The search returned an empty list", "no_results"),
        ("The query returned empty.", "no_results"),
        ("Empty retrieval: no documents matched", "no_results"),
        ("", "no_output"),
    ],
)
def test_empty_results_are_recognised(result: str, detail: str) -> None:
    found = emptiness(result)
    assert found is not None
    assert found.detail == detail


@pytest.mark.parametrize(
    "result",
    [
        None,
        "12 results",
        "10 results found",
        '{"results": [1], "total": 0}',
        '{"status": "ok"}',
        '{"total": null}',
        "[0]",
        '{"a": ',
        "The page about empty shelves says: no results found. " * 8,
        "Found no errors",
        "The query returned empty string for customer_id, which is required",
        "Lookup returned empty response body: Expecting value: line 1 column 1 (char 0)",
        "Empty retrieval queue: worker crashed",
    ],
)
def test_results_with_content_or_not_reported_are_not_empty(result: str | None) -> None:
    assert emptiness(result) is None


def test_empty_retrieval_explains_a_failed_run() -> None:
    report = analyze(agent_run(tool_calls=[call("c1", tool_name="search_docs", result_summary="[]")]))
    assert report.category == EMPTY
    assert report.detail == "empty_result"
    assert not report.insufficient_evidence
    assert report.hypotheses[0].confidence == "high"
    assert report.hypotheses[0].title == "Retrieval Empty Root Cause"
    assert report.evidence_index[0].title == "Empty result: search_docs"
    assert report.evidence_index[0].snippet == "[]"


def test_silence_of_a_retrieval_tool_is_a_hint_quoting_the_question() -> None:
    body = call("c1", tool_name="search_docs", result_summary="", args_json={"q": "boots"})
    report = analyze(agent_run(tool_calls=[body]))
    (finding,) = findings(report, EMPTY)
    assert finding.confidence == "low"
    assert report.evidence_index[0].field == "args_json"
    assert report.evidence_index[0].snippet == '{"q": "boots"}'


@pytest.mark.parametrize(
    "fields", [{"result_summary": None}, {"tool_name": "send_email", "result_summary": ""}, {"status": "running"}]
)
def test_similar_results_are_not_matched(fields: dict[str, Any]) -> None:
    body = call("c1", **{"tool_name": "search_docs", "result_summary": "[]", **fields})
    if body["status"] == "running":
        body["result_summary"] = None
    assert findings(analyze(agent_run(tool_calls=[body])), EMPTY) == []


def test_later_results_of_the_same_tool_are_a_recovery() -> None:
    bodies = [
        call("c1", 1, tool_name="search_docs", result_summary="[]", args_json={"q": 1}),
        call("c2", 2, tool_name="search_docs", result_summary="[7]", args_json={"q": 2}),
    ]
    (finding,) = findings(analyze(agent_run(tool_calls=bodies)), EMPTY)
    assert finding.recovered
    (finding,) = findings(analyze(agent_run(tool_calls=bodies[::-1])), EMPTY)
    assert finding.recovered, "the order of the list does not matter where times tell the order"
    assert findings(analyze(agent_run("success", tool_calls=bodies[:1])), EMPTY)[0].recovered


def test_later_results_of_another_tool_lower_the_confidence() -> None:
    bodies = [
        call("c1", 1, tool_name="search_direct", result_summary="[]"),
        call("c2", 2, tool_name="search_all", result_summary="[7]"),
    ]
    (finding,) = findings(analyze(agent_run(tool_calls=bodies)), EMPTY)
    assert finding.recovered is False
    assert finding.confidence == "low"


def test_error_that_reports_no_results_is_an_empty_retrieval() -> None:
    body = failed(
        "c1", tool_name="web_search", error_class="Exception", error_message="No results found for query: 'x'."
    )
    report = analyze(agent_run(tool_calls=[body]))
    assert report.category == EMPTY
    assert report.detail == "no_results"


def test_retrieval_step_without_calls_is_a_hint() -> None:
    body = step("s1", name="Retrieve documents", output_summary="No documents found")
    report = analyze(agent_run(steps=[body], error_type="AnswerError", tool_calls=[call("c1", step_id=None)]))
    assert [(f.category, f.confidence) for f in report.findings if f.step_id] == [(EMPTY, "low")]
