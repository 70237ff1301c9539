"""Find the spans of model calls that have a name and no attributes, and give them the role of a model call.

The Agent Development Kit for TypeScript writes the attributes of a model call when the answer has arrived. So the span
of a call that failed or was cancelled has the name `call_llm`, no attributes and no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.roles import Role

_NAME: Final = "call_llm"


def find_bare_calls(spans: Sequence[SpanFacts]) -> Sequence[SpanFacts]:
    """Return the spans of a trace; the bare model calls among them get the role of a model call.

    A bare model call has the name `call_llm`, no attributes, and the span of an agent as its parent. With another
    parent, such a span may be a function of any program. If no span changes, the result is `spans` itself.
    """
    bare = [facts for facts in spans if facts.span.name == _NAME and not facts.span.attributes]
    if not bare:
        return spans
    agents = {facts.span.span_id for facts in spans if facts.role is Role.AGENT}
    found = {facts.span.span_id: _as_model_call(facts) for facts in bare if facts.span.parent_id in agents}
    return [found.get(facts.span.span_id, facts) for facts in spans] if found else spans


def _as_model_call(facts: SpanFacts) -> SpanFacts:
    return facts_of(facts.span._replace(attributes={v.ROLE: Role.LLM}), facts.resource)
