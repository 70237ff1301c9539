"""Correct the spans of tool calls that a person must approve: mark rejected calls, and hide spans that only waited.

Frameworks ask a person before they execute a tool. A call that the person rejected was not executed, so its status is
`skipped`. A rejection is not an error: the model reads it in place of a result.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from relab.telemetry.models import CALL, StepStatus
from relab.telemetry.otlp.arguments import call_key
from relab.telemetry.otlp.facts import NO_ITEM, SpanFacts
from relab.telemetry.otlp.outcome import SpanOutcome
from relab.telemetry.otlp.roles import Role

_REJECTION: Final = re.compile(
    # OpenAI Agents SDK; Microsoft Agent Framework; pydantic-ai; LangChain's HumanInTheLoopMiddleware
    r"Tool execution was not approved\.|(?:Error: )?Tool call invocation was rejected by user\."
    r"|The tool call was denied\.|User rejected the tool call for `"
)


def count_requests(spans: Iterable[SpanFacts]) -> Counter[tuple[str, str]]:
    """Return how often models requested each tool call, by the call's tool and arguments (`call_key`)."""
    return Counter(
        call_key(request.name, request.arguments)
        for facts in spans
        if facts.role is Role.LLM
        for request in facts.talk.requests
    )


def is_rejection(text: str | None) -> bool:
    """Return whether the result of a tool call is a framework's report that a person rejected the call."""
    return text is not None and _REJECTION.match(text) is not None


def settle_approvals(spans: Sequence[SpanFacts]) -> Sequence[SpanFacts]:
    """Return the spans of a trace, corrected for tool calls that a person had to approve.

    - A call whose result is a rejection gets the status `skipped`.
    - Some frameworks report one call by two spans: the first ends when the call must wait for a person, the second is
      the execution. The first one is hidden (`NO_ITEM`).

    Args:
        spans: the spans of the trace, sorted by start. If nothing changes, the result is `spans` itself.
    """
    tools = [facts for facts in spans if facts.kind == CALL and facts.role is Role.TOOL]
    changed = {facts.span.span_id: _skipped(facts) for facts in tools if is_rejection(facts.item.get("result_summary"))}
    changed |= {facts.span.span_id: facts._replace(kind=NO_ITEM, role=Role.OTHER) for facts in _waiting(spans, tools)}
    return [changed.get(facts.span.span_id, facts) for facts in spans] if changed else spans


def _skipped(facts: SpanFacts) -> SpanFacts:
    item = {field: value for field, value in facts.item.items() if field not in ("error_class", "error_message")}
    return facts._replace(outcome=SpanOutcome(StepStatus.SKIPPED), item={**item, "status": str(StepStatus.SKIPPED)})


def _waiting(spans: Sequence[SpanFacts], tools: Sequence[SpanFacts]) -> Iterator[SpanFacts]:
    """Yield the spans of calls that had to wait for a person and were executed later, in another span.

    Tool spans without a call id form a group if they have the same tool and equal arguments. The surplus of a group is
    the number of its spans minus the number of such calls that models requested. It is 0 if models requested none.

    A span may be a wait if it has no result, and no model call began between it and the next span of the group: a call
    is executed right after its wait. The earliest of these spans are yielded, at most as many as the surplus.
    """
    tools = [facts for facts in tools if "tool_call_id" not in facts.item and "args_json" in facts.item]
    if all(_has_result(facts) for facts in tools):
        return
    requests = count_requests(spans)
    asked = [facts.span.start_us for facts in spans if facts.role is Role.LLM]
    same: dict[tuple[str, str], list[SpanFacts]] = defaultdict(list)
    for facts in tools if requests else ():
        same[call_key(facts.item["tool_name"], facts.item["args_json"])].append(facts)
    for call, reports in same.items():
        surplus = len(reports) - requests[call] if call in requests else 0
        waiting = [
            facts
            for facts, after in pairwise(reports)
            if not _has_result(facts) and bisect(asked, facts.span.start_us) == bisect(asked, after.span.start_us)
        ]
        yield from waiting[: max(surplus, 0)]


def _has_result(facts: SpanFacts) -> bool:
    return "result_summary" in facts.item or facts.outcome.status is not StepStatus.SUCCESS
