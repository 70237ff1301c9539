"""Error detectors: each kind of error is recognised by its fields and wording, and similar errors are not."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import Category, Confidence
from unit.rca.builders import agent_run, call, event, failed, findings, report_of_call

SCHEMA, RATE, PERMISSION, TIMEOUT, UNKNOWN = (
    Category.TOOL_SCHEMA_MISMATCH,
    Category.RATE_LIMITED,
    Category.TOOL_PERMISSION,
    Category.TIMEOUT,
    Category.UNKNOWN,
)

POSITIVE: list[tuple[Category, str | None, str, dict[str, Any]]] = [
    (SCHEMA, "missing_field", "high", {"status_code": 422, "error_message": "field required: customer_id"}),
    (SCHEMA, "missing_field", "high", {"status_code": 400, "error_message": "'city' is a required property"}),
    (SCHEMA, "missing_field", "high", {"error_class": "TypeError", "error_message": "run() missing 1 required positional argument: 'query'"}),
    (SCHEMA, "unexpected_argument", "high", {"error_class": "TypeError", "error_message": "f() got an unexpected keyword argument 'x'"}),
    (SCHEMA, "unexpected_argument", "medium", {"error_class": "ValueError", "error_message": "Arg city is not in the tool's args."}),
    (SCHEMA, "wrong_type", "medium", {"error_class": "ValueError", "error_message": "Arg count is invalid: 'five' is not of type 'integer'"}),
    (SCHEMA, None, "medium", {"error_class": "ValueError", "error_message": "Arg count is invalid: 99 is greater than the maximum of 10"}),
    (SCHEMA, "unexpected_argument", "medium", {"error_message": "Error when executing tool page with arguments {'q': 'rate limit exceeded'}: TypeError: f() got an unexpected keyword argument 'q'"}),
    (SCHEMA, "unexpected_argument", "high", {"error_class": "pydantic_core.ValidationError", "error_message": "1 validation error for Args\nid\n  Extra inputs are not permitted [type=extra_forbidden, input_value='permission denied', input_type=str]"}),
    (SCHEMA, "wrong_type", "high", {"status_code": 400, "error_message": "'12' is not of type 'integer'"}),
    (SCHEMA, "invalid_json", "medium", {"error_message": "The tool call arguments are not valid JSON"}),
    (SCHEMA, "unknown_tool", "medium", {"error_message": "Unknown tool: order_lookup_v2"}),
    (SCHEMA, "unknown_tool", "high", {"error_class": "ToolNotFoundError", "error_message": "tool 'x' not found"}),
    (SCHEMA, None, "medium", {"status_code": 422}),
    (SCHEMA, None, "medium", {"error_class": "ValidationError", "error_message": "Validation failed"}),
    (RATE, None, "high", {"status_code": 429}),
    (RATE, "retry_after", "high", {"status_code": 429, "error_message": "Too many requests. Retry-After: 30"}),
    (RATE, None, "medium", {"error_message": "Rate limit reached for gpt-4 in organization org-1 on tokens per min (TPM): Limit 10000, Used 9900"}),
    (RATE, "quota", "medium", {"error_message": "Error code: 429 - {'error': {'message': 'You exceeded your current quota, please check your plan', 'code': 'insufficient_quota'}}"}),
    (RATE, None, "medium", {"error_message": '{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed the rate limit"}}'}),
    (RATE, "overloaded", "high", {"status_code": 529, "error_message": '{"type":"overloaded_error","message":"Overloaded"}'}),
    (RATE, "quota", "medium", {"error_message": "429 RESOURCE_EXHAUSTED: Quota exceeded for quota metric 'Requests'"}),
    (RATE, None, "high", {"error_class": "botocore.errorfactory.ThrottlingException", "error_message": "Too Many Requests"}),
    (RATE, None, "high", {"error_class": "openai.RateLimitError"}),
    (RATE, None, "medium", {"status_code": 403, "error_message": "You have exceeded a secondary rate limit. Please wait."}),
    (PERMISSION, "authentication", "high", {"status_code": 401}),
    (PERMISSION, "authorization", "high", {"status_code": 403, "error_message": "nope"}),
    (PERMISSION, "blocked", "high", {"status_code": 403, "error_message": "Please solve the captcha to continue"}),
    (PERMISSION, "authorization", "high", {"error_class": "PermissionError", "error_message": "[Errno 13] Permission denied: '/etc/x'"}),
    (PERMISSION, "authorization", "medium", {"error_message": "Permission error: 403"}),
    (PERMISSION, "authorization", "high", {"error_class": "tool_permission"}),
    (PERMISSION, "authorization", "medium", {"error_class": "denied", "error_message": "Permission to run this tool was denied due to the following rules: `shell`"}),
    (PERMISSION, "authentication", "medium", {"error_message": "Incorrect API key provided"}),
    (PERMISSION, "authentication", "medium", {"error_message": "The access token has expired"}),
    (PERMISSION, "authorization", "medium", {"error_message": "insufficient_scope: needs repo:write"}),
    (PERMISSION, "authorization", "medium", {"error_message": "403 Client Error: Forbidden for url: https://x.test/timeout"}),
    (PERMISSION, None, "medium", {"error_message": "You are not authorized to view this order"}),
    (TIMEOUT, "deadline", "medium", {"error_message": "Max time (1500s) reached."}),
    (TIMEOUT, "deadline", "medium", {"error_message": "Maximum execution time exceeded"}),
    (TIMEOUT, None, "high", {"status_code": 408}),
    (TIMEOUT, "gateway", "high", {"status_code": 504, "error_message": "upstream"}),
    (TIMEOUT, None, "high", {"error_class": "httpx.ReadTimeout"}),
    (TIMEOUT, "deadline", "high", {"error_class": "DeadlineExceeded", "error_message": "Deadline Exceeded"}),
    (TIMEOUT, "deadline", "medium", {"error_message": "rpc error: code = DEADLINE_EXCEEDED"}),
    (TIMEOUT, None, "medium", {"error_message": "Request timed out after 30 s"}),
    (TIMEOUT, "network", "medium", {"error_message": "connect ETIMEDOUT 10.0.0.1:443"}),
    (UNKNOWN, "upstream_error", "medium", {"status_code": 502, "error_message": "Bad Gateway"}),
    (UNKNOWN, "not_found", "medium", {"status_code": 404}),
    (UNKNOWN, "context_length", "medium", {"status_code": 400, "error_message": "This model's maximum context length is 8192 tokens"}),
    (UNKNOWN, "content_filter", "medium", {"error_message": "Model refused to produce output: I can't assist with that."}),
    (UNKNOWN, "content_filter", "medium", {"status_code": 400, "error_message": "The response was filtered by Azure OpenAI's content management policy"}),
    (UNKNOWN, "connection_error", "medium", {"error_message": "Connection refused"}),
    (UNKNOWN, "proxy_authentication", "medium", {"status_code": 407, "error_message": "Proxy authentication required"}),
    (UNKNOWN, "verdict", "medium", {"error_class": "rollout_verdict_fail", "error_message": "The P95 changed by +29.1 %."}),
    (UNKNOWN, "unclassified_error", "low", {"error_class": "VerdictError", "error_message": "No verdict in the answer"}),
    (UNKNOWN, "unclassified_error", "low", {"error_class": "ValueError", "error_message": "day is out of range for month"}),
    # Each has none of the words by which most texts of its category are found quickly.
    (SCHEMA, "unexpected_argument", "medium", {"error_message": "Unsupported parameter: 'colour'"}),
    (SCHEMA, "wrong_type", "medium", {"error_message": "'red' is not one of ['blue', 'green']"}),
    (SCHEMA, None, "medium", {"error_message": "Could not parse tool input"}),
    (RATE, "retry_after", "medium", {"error_message": "Too many calls; try again after 30 s"}),
    (PERMISSION, "authorization", "medium", {"error_message": "Insufficient privileges for this operation"}),
    (PERMISSION, "authentication", "medium", {"error_message": "Sign-in required"}),
    (TIMEOUT, "deadline", "medium", {"error_message": "Max run time (60s) exceeded"}),
    (TIMEOUT, None, "medium", {"error_message": "The server didn't respond within 30 seconds"}),
    (UNKNOWN, "content_filter", "medium", {"error_message": "This request violates our usage policies"}),
    (Category.PLANNER_LOOP, "iteration_limit", "medium", {"error_message": "limit of 5 loops reached"}),
]  # fmt: skip


@pytest.mark.parametrize(("category", "detail", "confidence", "fields"), POSITIVE)
def test_error_is_recognised(category: Category, detail: str | None, confidence: str, fields: dict[str, Any]) -> None:
    report = report_of_call(**fields)
    assert [(f.category, f.detail, f.confidence) for f in report.findings] == [(category, detail, confidence)]
    assert report.category is category
    assert report.attribution is not None
    assert report.attribution.call_id == "c1"


LOOK_ALIKES: list[tuple[Category, dict[str, Any]]] = [
    # Rejected for length or content, not for the shape of arguments.
    (SCHEMA, {"status_code": 400, "error_message": "Invalid parameter: prompt is too long: 210000 tokens > 200000 maximum"}),
    (SCHEMA, {"status_code": 400, "error_message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy"}),
    (SCHEMA, {"status_code": 404, "error_message": "field not found"}),
    (SCHEMA, {"error_class": "ValidationError", "error_message": "Output validation failed: response does not match the schema"}),
    (SCHEMA, {"error_class": "TypeError", "error_message": "'NoneType' object is not subscriptable"}),
    (SCHEMA, {"status_code": 400, "error_message": "The order was shipped already"}),
    # Other limits.
    (RATE, {"status_code": 503, "error_message": "Service Unavailable"}),
    (RATE, {"error_message": "limit must be between 1 and 100"}),
    (RATE, {"error_message": "context length limit exceeded"}),
    (RATE, {"error_message": "disk quota exceeded"}),
    (RATE, {"error_message": "RESOURCE_EXHAUSTED: Received message larger than max (5 vs. 4)"}),
    (RATE, {"error_class": "ValueError", "error_message": "invalid parameter 'rate_limit'"}),
    # Content that the agent worked on.
    (RATE, {"error_message": "No results found for query: 'rate limit exceeded 429 too many requests'"}),
    (PERMISSION, {"error_message": "No results found for query: 'HTTP 403 permission denied'"}),
    (PERMISSION, {"error_message": "Unexpected token < in JSON at position 0"}),
    (PERMISSION, {"error_message": "Could not parse https://x.test/403-forbidden/permission-denied"}),
    (PERMISSION, {"error_message": "Extra inputs are not permitted"}),
    (PERMISSION, {"status_code": 403, "error_message": "API rate limit exceeded for user ID 7"}),
    (PERMISSION, {"status_code": 407}),
    # The word, not the event.
    (TIMEOUT, {"error_class": "TypeError", "error_message": "get() got an unexpected keyword argument 'timeout'"}),
    (TIMEOUT, {"error_message": "read timeout must be a number"}),
    (TIMEOUT, {"error_message": "Connection refused"}),
    (TIMEOUT, {"error_message": 'Traceback (most recent call last):\n  File "a.py", line 1\n    raise TimeoutError("timed out")\nKeyError: 3'}),
    (TIMEOUT, {"status": "cancelled", "error_message": "Cancelled by user", "latency_ms": 30_010}),
    (Category.PLANNER_LOOP, {"error_message": "HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url: /"}),
    (Category.PLANNER_LOOP, {"error_class": "RecursionError", "error_message": "maximum recursion depth exceeded"}),
]  # fmt: skip


@pytest.mark.parametrize(("category", "fields"), LOOK_ALIKES)
def test_similar_error_is_not_matched(category: Category, fields: dict[str, Any]) -> None:
    report = report_of_call(**fields)
    assert findings(report, category) == []
    # The error has another category but is still located.
    assert report.findings[0].call_id == "c1"


def test_validation_error_without_argument_wording_is_only_a_hint() -> None:
    report = report_of_call(error_class="ValidationError", error_message="Total must equal the sum of the lines")
    assert [(f.category, f.confidence) for f in report.findings] == [(SCHEMA, Confidence.LOW)]


MENTIONS = [
    "HTTP 403 Forbidden means that permission was denied.",
    "Rate limits: a 429 Too Many Requests answer carries Retry-After. Rate limit exceeded errors are common.",
    "try:\n    get(url, timeout=3)\nexcept TimeoutError:\n    print('timed out')",
    "Set max_retries=5. On ValidationError, missing required fields are listed.",
    "The search engine said: no results found. Then we tried again and found 12 long articles about the topic. " * 3,
]


@pytest.mark.parametrize("text", MENTIONS)
@pytest.mark.parametrize("status", ["success", "failure"])
def test_content_that_mentions_errors_is_not_a_finding(text: str, status: str) -> None:
    run = agent_run(
        status,
        steps=[{"step_id": "s1", "name": "chat", "status": "success", "started_at": "2024-01-15T10:30:00Z", "output_summary": text}],
        tool_calls=[call("c1", tool_name="search_docs", result_summary=text, args_json={"q": "timeout 429"})],
    )  # fmt: skip
    assert analyze(run).findings == ()


def test_error_returned_as_result_is_a_hint_despite_the_status() -> None:
    report = analyze(agent_run(tool_calls=[call("c1", result_summary="Error: 429 Too Many Requests")]))
    assert [(f.category, f.confidence, f.call_id) for f in report.findings] == [(RATE, Confidence.LOW, "c1")]


def test_error_status_code_overrides_a_success_status() -> None:
    report = analyze(agent_run(tool_calls=[call("c1", status_code=429)]))
    assert [(f.category, f.confidence) for f in report.findings] == [(RATE, Confidence.HIGH)]
    assert analyze(agent_run(tool_calls=[call("c1", status_code=404)])).findings == ()


def test_failed_model_call_is_read_from_its_step() -> None:
    body = {
        "step_id": "s1", "name": "chat", "status": "failure", "started_at": "2024-01-15T10:30:00Z", "agent_name": "writer",
        "error_class": "RateLimitError", "error_message": "Rate limit reached",
    }  # fmt: skip
    report = analyze(agent_run(steps=[body], error_type="AgentError"))
    assert report.category is RATE
    assert report.attribution is not None
    assert report.attribution.step_id == "s1"
    assert report.attribution.agent_name == "writer"
    assert report.hypotheses[0].confidence is Confidence.HIGH


@pytest.mark.parametrize(
    ("type_", "category"),
    [
        ("schema_validation", SCHEMA),
        ("rate_limit", RATE),
        ("permission_check", PERMISSION),
        ("deadline", TIMEOUT),
        ("max_iterations", Category.PLANNER_LOOP),
        ("empty_retrieval", Category.RETRIEVAL_EMPTY),
        ("output_schema_validation", UNKNOWN),
        ("pii", UNKNOWN),
    ],
)
def test_guardrail_type_states_the_category(type_: str, category: Category) -> None:
    report = analyze(agent_run(guardrail_events=[event(type=type_, message="stopped", step_id="s1")]))
    assert [f.category for f in report.findings] == [category]
    assert report.findings[0].evidence_ids == ("ev_guard_g1",)


def test_guardrail_event_of_a_successful_run_is_not_a_problem() -> None:
    assert analyze(agent_run("success", guardrail_events=[event(step_id="s1")])).findings == ()


@pytest.mark.parametrize(
    ("latencies", "confidence"),
    [([30_200.0], "low"), ([10_050.0, 10_051.0], "medium"), ([7_300.0, 7_310.0], "low")],
)
def test_latency_at_a_cut_off_is_a_timeout(latencies: list[float], confidence: str) -> None:
    calls = [failed(f"c{n}", n * 40, latency_ms=value, args_json={"n": n}) for n, value in enumerate(latencies)]
    report = analyze(agent_run(tool_calls=calls))
    assert {(f.category, f.detail, f.confidence) for f in report.findings} == {(TIMEOUT, "latency_cut_off", confidence)}


@pytest.mark.parametrize(
    "calls",
    [
        [failed("c1", latency_ms=30_010, error_message="Connection refused")],
        [failed("c1", latency_ms=30_010, error_class="ValueError", error_message="no such day")],
        [failed("c1", latency_ms=31_000)],
        [failed("c1", latency_ms=400), failed("c2", latency_ms=400)],
        [call("c1", latency_ms=30_010)],
    ],
)
def test_latency_is_ignored_if_another_error_explains_the_failure(calls: list[dict[str, Any]]) -> None:
    assert findings(analyze(agent_run(tool_calls=calls)), TIMEOUT) == []


def test_deadline_of_the_run_is_located_at_the_unfinished_step() -> None:
    run = agent_run(
        error_type="TimeoutError",
        tool_calls=[call("c1"), call("c2", 5, status="running", tool_name="crawl")],
    )
    report = analyze(run)
    assert report.category is TIMEOUT
    assert report.attribution is not None
    assert report.attribution.call_id == "c2"
    assert report.hypotheses[0].evidence_ids == ("ev_run_run-1", "ev_tool_c2")
