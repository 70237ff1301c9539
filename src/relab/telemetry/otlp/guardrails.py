"""Find guardrail events in the facts of steps, for guardrails that have no span of their own.

Examples are a model's refusal, a content filter, and a rejected answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from relab.telemetry.otlp.facts import SpanFacts
from relab.telemetry.otlp.refusals import REFUSAL
from relab.telemetry.otlp.text import MAX_OUTPUT_CHARS
from relab.telemetry.outcome import FILTERED, plain_reason

CONTENT_FILTER: Final = "content_filter"
_TRIPWIRE: Final = re.compile(
    r"Guardrail tripwire triggered(?:: |', 'data': )\{'guardrail': '(?P<name>[^']{1,500})'|Task failed guardrail validation after \d"
)
"""The errors that the OpenAI Agents SDK and CrewAI report on the span around a guardrail that tripped."""


def guardrails_of(facts: SpanFacts) -> Iterator[tuple[str, str]]:
    """Yield `(type, message)` of the guardrail event in the span of a step; yield nothing if there is none.

    The types are `refusal`, `content_filter`, `output_validation`, and the name of a guardrail that was triggered
    (`guardrail` if the error does not name it).
    """
    error = facts.outcome.error_message
    reasons = [plain_reason(reason) for reason in facts.item.get("finish_reasons", ())]
    if REFUSAL in reasons:
        yield REFUSAL, "The model refused to answer."
    elif not FILTERED.isdisjoint(reasons):
        yield CONTENT_FILTER, "The model's answer was stopped by a content filter."
    elif facts.talk.rejected is not None:
        yield "output_validation", facts.talk.rejected
    elif error is not None and (tripped := _TRIPWIRE.search(error)) is not None:
        yield tripped["name"] or "guardrail", error[:MAX_OUTPUT_CHARS]
