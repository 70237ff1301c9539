"""The dialect of Effect, a library for TypeScript: how its spans report that they were interrupted.

An interrupted span has the attribute `status.interrupted`, although Effect's own exporter and its bridge to
OpenTelemetry's SDK report success for it. The attributes of Effect's module for language models have OpenTelemetry's
GenAI names.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.spans import Span

_INTERRUPTED: Final = "status.interrupted"


def _translate(span: Span, values: Values) -> None:
    if span.attributes.get(_INTERRUPTED) is True:
        add(values, v.ERROR_TYPE, "cancelled")


EFFECT = Dialect(name="Effect", signs=frozenset((_INTERRUPTED,)), translate=_translate)
