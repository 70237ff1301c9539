"""A text that denies an error, or only names it, is no report of the error; a text with another negation still is one."""

from __future__ import annotations

import pytest

from relab.rca.models import Category
from unit.rca.builders import report_of_call

DENIALS = [
    "0 permission errors",
    "The audit ended with no permission errors, but the total is wrong",
    "Finished without any permission errors",
    "No permission denied messages in the log",
    "permission errors: 0",
    "No 403 Forbidden answers were seen",
    "credentials are not invalid",
    "0 timeouts",
    "No timeout was reached",
    "no request timed out",
    "None of the requests timed out",
    "The deadline was not exceeded; no deadline exceeded",
    "no rate limit was hit",
    "Ran 40 calls with 0 timeouts and 0 rate limit errors; totals differ",
    "Rate limit exceeded: no",
    "the quota was not exceeded",
    "We never reached the rate limit",
    "did not see any 429 Too Many Requests",
    "there is no sign of a rate limit being hit",
    "checked for rate limit errors and found none",
    "checked for rate limit errors and found nothing",
    "0 validation errors for 12 rows",
    "arguments are valid: no invalid arguments",
    "no unknown tool was called",
    "no loop was detected",
    "max iterations not reached",
    "no empty search results",
    "no search returned empty",
    "0 connection errors",
    "no content policy violations",
    "we checked for a prompt regression and found none",
    "no prompt regression was found",
    "prompt regression: none",
    # They name a prompt regression, and report none.
    "Write an evaluation for prompt regressions",
    "Task: find prompt regressions in the traces",
    "See whether there is a prompt regression",
]


@pytest.mark.parametrize("text", DENIALS)
def test_denied_error_is_no_sign_of_its_category(text: str) -> None:
    report = report_of_call(error_message=text)

    assert [(found.category, found.detail) for found in report.findings] == [(Category.UNKNOWN, "unclassified_error")]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("You have no permission to read this table", Category.TOOL_PERMISSION),
        ("no valid api key", Category.TOOL_PERMISSION),
        ("No data returned because of a permission error", Category.TOOL_PERMISSION),
        ("errors: 0 permission errors: 5", Category.TOOL_PERMISSION),
        ("error: 0 rows, permission denied", Category.TOOL_PERMISSION),
        ("No response: request timed out", Category.TIMEOUT),
        ("exit code 0 timeout error", Category.TIMEOUT),
        ("timeout error: None", Category.TIMEOUT),
        ("Host could not be reached timeout error", Category.TIMEOUT),
        ("no more retries: timeout error", Category.TIMEOUT),
        ("no retries left, rate limit reached", Category.RATE_LIMITED),
        ("Failed, not because of the network: rate limit exceeded", Category.RATE_LIMITED),
        ("Rate limit exceeded: 0/100 remaining", Category.RATE_LIMITED),
        ("The rate limit is not hit often but rate limit exceeded now", Category.RATE_LIMITED),
        ("Required field name must not be missing", Category.TOOL_SCHEMA_MISMATCH),
        ("required field 'name' must not be empty", Category.TOOL_SCHEMA_MISMATCH),
        ("no results found", Category.RETRIEVAL_EMPTY),
        ("prompt regression detected in v3", Category.PROMPT_REGRESSION),
        ("Prompt regression in v3: the answer lost its format", Category.PROMPT_REGRESSION),
        ("The failure is due to a prompt regression", Category.PROMPT_REGRESSION),
        ("Quality fell; this is a prompt regression", Category.PROMPT_REGRESSION),
        ("Error: prompt drift", Category.PROMPT_REGRESSION),
    ],
)
def test_error_beside_another_negation_is_recognised(text: str, category: Category) -> None:
    assert [found.category for found in report_of_call(error_message=text).findings] == [category]
