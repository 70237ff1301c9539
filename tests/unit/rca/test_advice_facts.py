"""Facts in advice: a word of an error is not taken for a limit, a name, a permission or a tool."""

from __future__ import annotations

from typing import Any

import pytest

from relab.core.clock import parse_time
from relab.rca.analyzer import analyze
from relab.rca.detectors import argument_faults, rate_limited, timeout
from relab.rca.detectors.registry import DESCRIPTORS
from relab.rca.evidence import RunView
from relab.rca.models import ActionItem, Category, EvidenceKind, Report
from relab.telemetry.models import AgentRun
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, failed, report_of_call
from unit.rca.test_advice import assert_every_value_is_cited
from unit.rca.test_log_lines import line


def advice(category: Category, **fields: Any) -> str:
    report = report_of_call(**fields)
    assert report.category is category
    return report.action_items[0].description


@pytest.mark.parametrize(
    ("error", "wait", "limit"),
    [
        ("429 Too Many Requests (retry 5 of 5)", None, None),
        ("rate limit: 429 Too Many Requests", None, None),
        ("rate limit exceeded, retry after 3 attempts", None, None),
        ("rate limit exceeded, retry after 30", "retry after 30", None),
        ("Too many requests. Retry-After: 7", "Retry-After: 7", None),
        ("Too many requests, please try again in 2 minutes", "please try again in 2 minutes", None),
        ("rate limit exceeded: limit 429 requests per minute", None, "limit 429 requests per minute"),
        ("rate limit exceeded: limit: 60 per minute", None, "limit: 60 per minute"),
        ("quota exceeded: quota 1,000,000 tokens per day", None, "quota 1,000,000 tokens per day"),
    ],
)
def test_count_or_status_is_not_a_waiting_time_or_a_limit(error: str, wait: str | None, limit: str | None) -> None:
    told = advice(Category.RATE_LIMITED, status_code=429, error_message=error)

    assert ("the answer says when to come back" in told) == (wait is not None)
    assert wait is None or f"`{wait}`" in told
    assert ("the limit is" in told) == (limit is not None)
    assert limit is None or f"the limit is `{limit}`" in told


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        ("Request timed out, attempt 3", None),
        ("Timeout: 10.0.0.1 did not answer", None),
        ("timeout: 504", None),
        ("Read timed out. (read timeout=30)", "30"),
        ("timeout of 5000ms exceeded", "5000ms"),
        ("The request timed out after 2.5 s", "2.5 s"),
    ],
)
def test_number_without_a_unit_is_a_limit_only_if_it_is_set(error: str, limit: str | None) -> None:
    told = advice(Category.TIMEOUT, latency_ms=31_000, error_class="TimeoutError", error_message=error)

    assert ("the limit in the error is" in told) == (limit is not None)
    assert limit is None or f"the limit in the error is `{limit}`" in told


def test_timeout_of_unknown_duration_is_stated_once() -> None:
    report = report_of_call(
        latency_ms=None, ended_at=None, error_class="TimeoutError", error_message="timed out after 30 s"
    )

    assert report.category is Category.TIMEOUT
    assert report.summary.count("in time") == 1
    assert "did not finish in time: the limit in the error is" in report.summary


@pytest.mark.parametrize(
    ("error", "right", "resource"),
    [
        ("403 Forbidden: your role is insufficient", None, None),
        ("permission denied: the database is restricted", None, None),
        ("Access to the database is denied", None, None),
        ("permission denied for table orders", None, "orders"),
        ('permission denied: relation "orders"', None, "orders"),
        ("403 Forbidden: missing permission: ORDERS_WRITE", "ORDERS_WRITE", None),
        ("403 Forbidden: requires the scope: orders.write", "orders.write", None),
    ],
)
def test_only_a_named_permission_or_resource_is_quoted(error: str, right: str | None, resource: str | None) -> None:
    told = advice(Category.TOOL_PERMISSION, status_code=403, error_message=error)

    assert ("the missing right is" in told) == (right is not None)
    assert right is None or f"the missing right is `{right}`" in told
    assert ("the resource is" in told) == (resource is not None)
    assert resource is None or f"the resource is `{resource}`" in told
    assert (right is not None) or "the right that this call needs" in told


@pytest.mark.parametrize("error", ["Invalid tool input: expected an object", "Invalid tool call", "unknown tool error"])
def test_invalid_input_of_a_tool_is_not_an_unknown_tool(error: str) -> None:
    assert argument_faults.argument_faults(error) == []


NESTED = '[{"type": "missing", "loc": ["body", "address", "city"], "msg": "Field required"}]'


def test_missing_part_of_an_argument_is_not_compared_with_the_arguments_of_the_call() -> None:
    schema = {"type": "object", "properties": {"address": {"type": "object"}, "city": {"type": "string"}}}
    told = advice(
        Category.TOOL_SCHEMA_MISMATCH,
        args_json={"city": "Bonn", "address": {}},
        tool_schema=schema,
        error_class="ValidationError",
        error_message=NESTED,
    )

    assert "was called without `city`; the tool requires it" in told
    assert "lost between" not in told


def test_each_rejected_argument_is_quoted_with_its_own_message() -> None:
    error = (
        '[{"type": "int_parsing", "loc": ["body", "limit"], "msg": "Input should be a valid integer"},'
        ' {"type": "date_parsing", "loc": ["body", "day"], "msg": "Input should be a valid date"}]'
    )
    told = advice(
        Category.TOOL_SCHEMA_MISMATCH,
        args_json={"limit": "x"},
        error_class="ValidationError",
        error_message=error,
    )

    assert "rejected `limit`: `Input should be a valid integer` and `day`: `Input should be a valid date`" in told
    assert "without `day`" in told


def facts_of(run: AgentRun, category: Category) -> str:
    """Return the facts of the first problem of this category, even if the report has too little evidence for advice."""
    view, descriptor = RunView(run), DESCRIPTORS[category]
    explained = descriptor.explain(next(descriptor.detect(view)), view)
    assert explained is not None
    return explained.facts


def loop_advice(report: Report) -> ActionItem:
    assert report.category is Category.PLANNER_LOOP
    return report.action_items[0]


def test_retried_step_is_not_reported_as_a_repeated_output() -> None:
    run = agent_run(steps=[step("s1", name="fetch", status="failure", retries=4, error_message="it did not work")])

    assert facts_of(run, Category.PLANNER_LOOP) == (
        "The step `fetch` was retried 4 times, and the error was `it did not work`."
    )


def test_cycle_of_four_tools_cites_each_of_them() -> None:
    tools = ("alpha", "beta", "gamma", "delta")
    calls = [
        call(f"c{number}", number, tool_name=tools[number % 4], args_json={"a": 1}, result_summary=f"of {number % 4}")
        for number in range(16)
    ]
    report = analyze(agent_run(tool_calls=calls))

    item = loop_advice(report)

    cited = {e.title for e in report.evidence_index if e.evidence_id in item.evidence_ids}
    assert cited >= {f"Tool call: {tool}" for tool in tools}
    assert_every_value_is_cited(report)


def test_repeated_call_with_different_answers_quotes_the_first_answer() -> None:
    calls = [
        call(f"c{number}", number, tool_name="check", args_json={"a": 1}, result_summary=f"value {number}")
        for number in range(12)
    ]

    assert "the first answer was `value 0`" in facts_of(agent_run(tool_calls=calls), Category.PLANNER_LOOP)


def test_search_whose_result_was_not_reported_is_not_counted_as_found() -> None:
    calls = [
        call("c1", 1, tool_name="search_docs", args_json={"q": "a"}, result_summary=None),
        call("c2", 2, tool_name="search_docs", args_json={"q": "b"}, result_summary="[]"),
    ]
    report = analyze(agent_run(tool_calls=calls))

    assert report.category is Category.RETRIEVAL_EMPTY
    told = report.action_items[0].description
    assert "found something" not in told
    assert "The index answers other queries" not in told


def test_status_alone_is_not_quoted_as_an_answer() -> None:
    run = agent_run(tool_calls=[failed(tool_name="db", error_class=None, error_message=None, args_json={"a": 1})])

    told = facts_of(run, Category.UNKNOWN)

    assert told.startswith("`db` failed, and the run has no text of an error")


def test_shown_part_of_a_long_error_is_in_the_evidence() -> None:
    error = "noise " * 400 + "permission denied: missing scope: orders.write" + " tail" * 400
    report = report_of_call(tool_name="db", args_json={"a": 1}, error_message=error)

    assert report.category is Category.TOOL_PERMISSION
    assert "permission denied" in report.action_items[0].description
    assert_every_value_is_cited(report)


HOSTILE = [
    (timeout._LIMIT, "deadline" * 25_000),
    (rate_limited._WAIT, "retry after" + " " * 200_000),
    (rate_limited._WAIT, 'retry-after"' + " " * 200_000),
    (rate_limited._LIMIT, "limit" + " " * 200_000),
    (rate_limited._LIMIT, "1" + ",111" * 100_000),
]


@pytest.mark.parametrize(("pattern", "text"), HOSTILE, ids=range(len(HOSTILE)))
def test_pattern_reads_a_long_text_in_linear_time(pattern: Any, text: str) -> None:
    # With a pattern that takes quadratic time, this test would not end.
    assert pattern.search(text) is None


def test_log_line_belongs_to_the_shortest_part_that_was_in_progress() -> None:
    calls = [
        failed("long", 0, tool_name="long", error_message="Tool execution failed", latency_ms=9_000),
        failed("short", 2, tool_name="short", error_message="Tool execution failed", latency_ms=1_000),
        failed("later", 6, tool_name="later", error_message="Tool execution failed", latency_ms=500),
    ]
    run = agent_run(tool_calls=calls)
    at = parse_time(calls[1]["started_at"]) + 500_000
    logs = [line("GET /orders answered 429 Too Many Requests", "unknown-span", at=at)]
    report = analyze(run, (), logs)

    cited = next(item for item in report.evidence_index if item.kind is EvidenceKind.LOG_LINE)
    hypothesis = next(item for item in report.hypotheses if cited.evidence_id in item.evidence_ids)
    assert "short" in hypothesis.description
