"""Recognise repetitions of tool calls by their arguments and outcomes."""

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
    """A tool call with the two values that identify its repetitions: its key and its outcome.

    Attributes:
        key: `(tool, digest of the arguments)`, equal for identical calls; None if the arguments were not reported.
        outcome: the result of a successful call, or `(status, error class, status code)` of a failed call. If identical
            calls have equal outcomes, the agent made no progress between them.
        is_blind: whether the call succeeded without a reported result. Equal outcomes of such calls are only a weak
            sign of a loop.
    """

    placed: PlacedCall
    key: tuple[str, str] | None
    outcome: tuple[object, ...]
    is_blind: bool


def repeatable(placed: PlacedCall) -> Repeatable:
    """Return a call with its key (tool and digest of the arguments) and its outcome (result or error), to compare calls."""
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
    """Return whether the result of a call says "not yet". If the agent then repeats the call, it is polling."""
    result = item.placed.call.result_summary
    return bool(result) and len(result or "") <= 300 and PENDING.search(result or "") is not None


def call_quote(placed: PlacedCall, attributes: dict[str, int]) -> Quotation:
    """Return a quotation of a call's arguments, as evidence that calls repeat each other.

    If the arguments were not reported, their hash is quoted; without a hash, the status. `attributes` are facts, such
    as the number of repetitions, that are added to the evidence.
    """
    field = quotable_field(placed.call, "args_json", "args_hash", "status")
    return Quotation(EvidenceKind.TOOL_CALL, placed.call, field, attributes=attributes)
