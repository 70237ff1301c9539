"""Build the reports of outcomes, and the verbatim quotations of a run that are their evidence."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from relab.telemetry.models import STEP
from relab.telemetry.outcome.activities import RunActivity
from relab.telemetry.outcome_models import OutcomeEvidence, OutcomeReport, OutcomeRule, RunOutcome

MAX_QUOTE_CHARS = 200
MAX_EVIDENCE = 5

Quote = tuple[str, str, str, str]
"""`(kind, id, field, text)` of a piece of evidence."""


def error_quote(activity: RunActivity) -> Quote:
    """Return a quotation of the error of a step or call.

    It quotes the first of these fields that has a value: error message, error class, result, status code, status.
    """
    kind, result = ("step", "output_summary") if activity.kind == STEP else ("tool_call", "result_summary")
    for field, text in (
        ("error_message", activity.error_message),
        ("error_class", activity.error_class),
        (result, activity.result),
    ):
        if text is not None and text.strip():
            return kind, activity.ref_id, field, text
    if activity.status_code is not None:
        return kind, activity.ref_id, "status_code", str(activity.status_code)
    return kind, activity.ref_id, "status", activity.status.value


def report_of(value: RunOutcome, rule: OutcomeRule, quotes: Iterable[Quote]) -> OutcomeReport:
    """Return a report of a run's outcome `value`, with the first `MAX_EVIDENCE` quotations as evidence.

    `rule` is the rule that decided the outcome. Each quotation is cut to `MAX_QUOTE_CHARS`.
    """
    return OutcomeReport(
        value=value,
        rule=rule,
        evidence=tuple(
            OutcomeEvidence(kind=kind, ref_id=ref_id, field=field, text=text[:MAX_QUOTE_CHARS])
            for kind, ref_id, field, text in islice(quotes, MAX_EVIDENCE)
        ),
    )
