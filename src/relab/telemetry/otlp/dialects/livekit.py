"""The dialect of LiveKit Agents: it reads the texts of turns and model calls, which have LiveKit's attribute names.

The tool requests of a model are not read here: an inner span has them in messages with OpenTelemetry's names. An answer
without a text and without a tool request has no such message; only LiveKit's attributes show that the answer is empty.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.spans import Span

_TEXT: Final = "lk.pii.response.text"
_REQUESTS: Final = "lk.pii.response.function_calls"
_QUESTION: Final = "lk.pii.user_input"
_TOOL_OUTPUT: Final = "lk.pii.function_tool.output"
_NO_REQUESTS: Final = "[]"


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    text = attributes.get(_TEXT)
    # The text of a model that requested tools is what it said before the calls, not its whole output.
    if text or attributes.get(_REQUESTS) == _NO_REQUESTS:
        add(values, v.OUTPUT, text)


LIVEKIT = Dialect(
    name="LiveKit Agents",
    signs=frozenset((_TEXT, _REQUESTS, _QUESTION, _TOOL_OUTPUT)),
    names=((_QUESTION, v.INPUT), (_TOOL_OUTPUT, v.TOOL_RESULT)),
    translate=_translate,
)
