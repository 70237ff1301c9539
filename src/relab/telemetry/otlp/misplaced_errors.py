"""Give spans the errors that their framework reports on other spans.

Some frameworks report the error of a model call only on the agent around it, or the failure of an agent only on its
guardrail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relab.telemetry.models import CALL, MAX_SHORT_TEXT_CHARS, StepStatus
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.facts import SpanFacts
from relab.telemetry.otlp.lineage import Ancestors
from relab.telemetry.otlp.outcome import SpanOutcome
from relab.telemetry.otlp.provider_errors import read_provider_error
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.text import MAX_OUTPUT_CHARS


def place_errors(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> Sequence[SpanFacts]:
    """Return the spans of a trace, with each error at the span that it belongs to.

    - A model call that failed without a message gets the error of the step or agent around it, if this step or agent
      failed with a message and began no model or tool call after the failed one.
    - An agent that reports success gets the status `failure` and the error of a guardrail that stopped it
      (`STOPS_AGENT`), unless the agent began a model or tool call after the guardrail.

    If no span changes, the result is `spans` itself.

    Args:
        spans: all spans of a trace, sorted by start.
        around: `{span id: nearest ancestors of the span}`.
    """
    silent = [facts for facts in spans if _failed_silently(facts)]
    stopping = [facts for facts in spans if facts.role is Role.GUARDRAIL and v.STOPS_AGENT in facts.span.attributes]
    if not silent and not stopping:
        return spans
    by_id = {facts.span.span_id: facts for facts in spans}
    last = _last_calls(spans, around)
    changed: dict[str, SpanFacts] = {}
    for model in silent:
        place = around[model.span.span_id]
        for outer_id in (place.step, place.agent):
            outer = by_id.get(outer_id or "")
            if outer is not None and _failed_with_message(outer) and last[outer.span.span_id] <= model.span.start_us:
                changed[model.span.span_id] = _failed(model, outer.outcome)
                break
    for guardrail in stopping:
        agent = by_id.get(around[guardrail.span.span_id].agent or "")
        if agent is None or agent.outcome.status is not StepStatus.SUCCESS:
            continue
        if last.get(agent.span.span_id, 0) <= guardrail.span.start_us:
            changed[agent.span.span_id] = _failed(agent, guardrail.outcome)
    return [changed.get(facts.span.span_id, facts) for facts in spans] if changed else spans


def _failed_silently(facts: SpanFacts) -> bool:
    outcome = facts.outcome
    return facts.role is Role.LLM and outcome.status is StepStatus.FAILURE and outcome.error_message is None


def _failed_with_message(facts: SpanFacts) -> bool:
    return facts.outcome.status is StepStatus.FAILURE and facts.outcome.error_message is not None


def _last_calls(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> dict[str, int]:
    """Return `{span id of an agent or step: start in µs of the last model or tool call inside it}`.

    A call counts for its nearest enclosing step and its nearest enclosing agent. `spans` are sorted by start.
    """
    found: dict[str, int] = {}
    for facts in spans:
        if facts.role is Role.LLM or facts.kind == CALL:
            place = around[facts.span.span_id]
            for outer_id in (place.step, place.agent):
                if outer_id is not None:
                    found[outer_id] = facts.span.start_us
    return found


def _failed(facts: SpanFacts, error: SpanOutcome) -> SpanFacts:
    """Return the facts of a span with the status `failure` and the class and message of another span's error."""
    outcome = SpanOutcome(StepStatus.FAILURE, error.error_class or facts.outcome.error_class, error.error_message)
    item = {**facts.item, "status": str(StepStatus.FAILURE)}
    if outcome.error_class is not None:
        item["error_class"] = outcome.error_class[:MAX_SHORT_TEXT_CHARS]
    if outcome.error_message is not None:
        item["error_message"] = outcome.error_message[:MAX_OUTPUT_CHARS]
    if facts.role is Role.LLM:
        item |= read_provider_error(outcome.error_class, outcome.error_message)
    return facts._replace(outcome=outcome, item=item)
