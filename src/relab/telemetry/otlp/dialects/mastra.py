"""The dialect of Mastra: OpenTelemetry's GenAI names, and names of its own for input, output and metadata."""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.spans import Span

_TYPE: Final = "mastra.span.type"
_METADATA: Final = "mastra.metadata."


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    kind = attributes.get(_TYPE)
    add(values, v.INPUT, attributes.get(f"mastra.{kind}.input"))
    add(values, v.OUTPUT, attributes.get(f"mastra.{kind}.output"))
    add(values, v.CONVERSATION_ID, text_of(attributes, f"{_METADATA}threadId", f"{_METADATA}sessionId"))
    add(values, v.USER_ID, text_of(attributes, f"{_METADATA}userId", f"{_METADATA}resourceId"))


MASTRA = Dialect(name="Mastra", signs=frozenset((_TYPE,)), translate=_translate)
