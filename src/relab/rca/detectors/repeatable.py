"""Recognise repeated tool calls by their arguments and outcomes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relab.rca.evidence import PlacedCall, Quotation, is_good_call, quotable_field
from relab.rca.models import EvidenceKind

PENDING = re.compile(
    r"\b(?:pending|in[ _-]progress|running|queued|processing|not (?:yet )?ready|waiting|scheduled|started"
    r"|building)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A tool call, and the values by which other calls are recognised as its repetitions.

    Attributes:
        key: the tool and the arguments; calls with equal keys are identical. None if the arguments were not reported.
        outcome: for a call that succeeded, its result; for a failed one, status, error class and status code. Equal
            outcomes of identical calls mean that the agent makes no progress.
        is_blind: whether the call succeeded but no result was reported. Equal outcomes of such calls prove little.
    """

    placed: PlacedCall
    key: tuple[str, str] | None
    outcome: tuple[object, ...]
    is_blind: bool


def repeatable(placed: PlacedCall) -> Repeatable:
    """Return the call with a key and an outcome, which are equal for a call that only repeats it."""
    call = placed.call
    fingerprint = call.args_fingerprint
    good = is_good_call(call)
    result = call.result_summary if good else None
    # An error message may contain a request id or a time, so equal failures are compared by class and code.
    outcome = (good, result) if good else (call.status, call.error_class, call.status_code)
    return Repeatable(
        placed=placed,
        key=(call.tool_name, fingerprint) if fingerprint is not None else None,
        outcome=outcome,
        is_blind=good and not result,
    )


def is_waiting(item: Repeatable) -> bool:
    """Return whether the result of a call says "not yet", so that repeating the call is polling."""
    result = item.placed.call.result_summary
    return bool(result) and len(result or "") <= 300 and PENDING.search(result or "") is not None


def call_quote(placed: PlacedCall, attributes: dict[str, int]) -> Quotation:
    """Return a quotation of the arguments of a call, which shows that another call repeats it.

    If the arguments were not reported, their hash is quoted; if that was not reported either, the status of the call.
    `attributes` are facts by name, such as counts, that are added to the evidence.
    """
    field = quotable_field(placed.call, "args_json", "args_hash", "status")
    return Quotation(EvidenceKind.TOOL_CALL, placed.call, field, attributes=attributes)
