"""The grounding policy: a claim is kept only if its evidence or the deterministic text supports it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relab.rca.models import Category, Report
from relab.rca.report.grounding import MAX_CLAIM_CHARS, DropReason, check_claim, normal_text

CALL = ["ev_tool_call-001"]
GUARD = ["ev_guard_guard-001"]
STEP = ["ev_step_step-003"]


def check(report: Report, text: str, evidence_ids: list[str]) -> DropReason | None:
    index = {item.evidence_id: item for item in report.evidence_index}
    problem = check_claim(normal_text(text), evidence_ids, report, index)
    return problem[0] if problem else None


@pytest.mark.parametrize(
    ("text", "evidence_ids"),
    [
        ("The tool order_lookup_api was called without the required field `customer_id`.", CALL),
        ("The call failed with a ValidationError and status_code 400, because 'customer_id' was missing.", CALL),
        ("The API's schema was updated to v2.0.", CALL),
        ("It isn't the arguments of call-001 that changed; the API schema was updated.", CALL),
        ("The arguments were rejected 2 times, and the step failed.", CALL),
        ("The arguments were rejected twice.", CALL),
        ("Calls of the tool were rejected.", CALL),
        ("The message was “Missing required field: 'customer_id'”.", CALL),
        ("The API was updated (see https://docs.example/orders?v=2).", CALL),
        ("The tool call took 9,500 ms and failed.", CALL),
        ("The tool call took 9500ms and failed.", CALL),
        ("Tool call failed validation after 30 s.", GUARD),
        ('The guardrail event reported "Tool call failed validation after 30s".', GUARD),
        ("The tool-call failed validation.", GUARD),
        ("The parcel TRACK-12345 from Zürich is in transit.", STEP),
        ("The order_lookup_api call was missing the required 'customer_id' field — the API schema was updated.", CALL),
    ],
)
def test_claims_of_the_evidence_or_the_deterministic_text_are_grounded(
    report: Report, text: str, evidence_ids: list[str]
) -> None:
    assert check(report, text, evidence_ids) is None


@pytest.mark.parametrize(
    ("text", "evidence_ids", "reason"),
    [
        # Citations
        ("The tool call failed validation.", [], DropReason.NO_CITATION),
        ("The tool call failed validation.", ["ev_fake"], DropReason.UNKNOWN_EVIDENCE),
        ("The tool call failed validation.", [*GUARD, "ev_fake"], DropReason.UNKNOWN_EVIDENCE),
        ("The tool call failed validation.", ["ev_guard_guard-001 "], DropReason.UNKNOWN_EVIDENCE),
        # Form
        ("", CALL, DropReason.EMPTY),
        ("   ", CALL, DropReason.EMPTY),
        ("The tool call failed. " * 20, CALL, DropReason.TOO_LONG),
        ("The tool call\nfailed validation.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool call \x1b[31mfailed\x1b[0m validation.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool call \u202efailed validation.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool \u200bcall failed validation.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool call \x00failed.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The <b>tool call</b> failed.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool call failed.<!-- x -->", CALL, DropReason.NOT_PLAIN_TEXT),
        ("\uff1cscript\uff1eThe tool call failed.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool call failed &lt;b&gt;.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool [call](docs) failed.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The **tool call** failed.", CALL, DropReason.NOT_PLAIN_TEXT),
        ("[red]The tool call failed[/red].", CALL, DropReason.NOT_PLAIN_TEXT),
        ("The tool call failed {{ config }}.", CALL, DropReason.NOT_PLAIN_TEXT),
        # Other categories
        ("The category is timeout.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The tool call timed out.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The tool call failed with a TimeoutError.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The tool call was rate-limited.", GUARD, DropReason.FOREIGN_CATEGORY),
        ("The category is tool_permission.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The field was missing because of a prompt regression.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The agent was looping over the tool call.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The search returned nothing.", CALL, DropReason.FOREIGN_CATEGORY),
        ("The cause of the failed tool call is unknown.", CALL, DropReason.FOREIGN_CATEGORY),
        # Numbers
        ("The tool call failed with HTTP 404.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed with HTTP 40.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed validation after 3 s.", GUARD, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed validation after 30 s.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed five times.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed in 50% of the calls.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The parcel 12345 is in transit.", STEP, DropReason.UNGROUNDED_TOKEN),
        ("The API schema was updated to v2.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The API schema was updated on 2024-01-15T10:30:08Z.", CALL, DropReason.UNGROUNDED_TOKEN),
        # Names
        ("The tool order_lookup failed.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call call-00 failed.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The required field account_id was missing.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed with a KeyError.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed with ECONNRESET.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The order-service failed the tool call.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed because Redis was missing.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("Redis failed the tool call.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed. Redis was missing.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call to evil.example failed.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The tool call failed, see /etc/passwd.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The parcel is in Zürich.", CALL, DropReason.UNGROUNDED_TOKEN),
        ("The t\u043eol call failed.", CALL, DropReason.UNGROUNDED_TOKEN),
        # Quotations
        ('The message was "Missing field".', CALL, DropReason.UNGROUNDED_QUOTATION),
        ("The field `customer` was missing.", CALL, DropReason.UNGROUNDED_QUOTATION),
        ("The message was «transfer the money».", CALL, DropReason.UNGROUNDED_QUOTATION),
        ('The tool call "failed.', CALL, DropReason.UNGROUNDED_QUOTATION),
        ('The message was "Tool call failed validation".', STEP, DropReason.UNGROUNDED_QUOTATION),
        # Links
        ("The API schema was updated, see https://evil.example/pay.", CALL, DropReason.UNGROUNDED_URL),
        ("The API schema was updated, see https://docs.example/orders.", CALL, DropReason.UNGROUNDED_URL),
        ("The API schema was updated, see https://docs.example/orders?v=2.", GUARD, DropReason.UNGROUNDED_URL),
        ("The tool call failed, see www.evil.example.", CALL, DropReason.UNGROUNDED_URL),
        ("The tool call failed, see javascript:alert.", CALL, DropReason.UNGROUNDED_URL),
        # Words without support
        ("You should restart everything and send your password to the operator.", CALL, DropReason.UNSUPPORTED),
        ("All of this is what it was.", CALL, DropReason.UNSUPPORTED),
        ("A disgruntled intern deleted the production database yesterday.", CALL, DropReason.UNSUPPORTED),
    ],
)
def test_ungrounded_or_malformed_claim_is_dropped_with_the_reason(
    report: Report, text: str, evidence_ids: list[str], reason: DropReason
) -> None:
    assert check(report, text, evidence_ids) is reason


def test_claim_with_too_many_citations_is_dropped(report: Report) -> None:
    index = {f"ev_{number}": report.evidence_index[0] for number in range(9)}

    assert check_claim("The tool call failed.", list(index)[:8], report, index) is None
    problem = check_claim("The tool call failed.", list(index), report, index)

    assert problem == (DropReason.TOO_MANY_CITATIONS, "9")


@pytest.mark.parametrize("category", list(Category))
def test_claim_that_names_another_category_is_dropped(report: Report, category: Category) -> None:
    own = report.hypotheses[0].category
    for name in (category.value, category.value.replace("_", " "), category.value.replace("_", "-").upper()):
        reason = check(report, f"The category of the tool call is {name}.", CALL)

        assert (reason is DropReason.FOREIGN_CATEGORY) == (category is not own)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(number=st.integers(0, 10**12))
def test_number_is_kept_only_if_the_grounds_contain_it(report: Report, number: int) -> None:
    in_evidence = number in {400, 9500, 2}

    reason = check(report, f"The tool call failed with {number}.", CALL)

    assert reason is (None if in_evidence else DropReason.UNGROUNDED_TOKEN)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(text=st.text(max_size=MAX_CLAIM_CHARS + 5))
def test_no_kept_text_breaks_the_policy_or_contains_control_characters(report: Report, text: str) -> None:
    if check(report, text, CALL) is None:
        shown = normal_text(text)
        assert shown.isprintable()
        assert 0 < len(shown) <= MAX_CLAIM_CHARS
        assert "<" not in shown or not any(char.isalpha() for char in shown.split("<", 1)[1][:1])
