"""Texts that the outcome rules recognise: errors about a limit of steps, and answers that report a failure.

Keep both lists small. An answer that reports a failure is only used together with another sign, such as a failed call.
So an answer that merely mentions errors does not count as a failure. A short answer about a limit of steps is used alone.
"""

from __future__ import annotations

import re

MAX_ERROR_CHARS = 2_000
EDGE_CHARS = 400
"""An answer reports its own failure at its beginning or its end; the part between is content."""

STEP_LIMIT = re.compile(
    r"max(?:imum)?[ _-]?(?:number[ _]of[ _])?(?:allowed[ _])?(?:agent[ _]|tool[ _-]?call[ _]|function[ _-]?call[ _])?"
    r"(?:turns?|steps?|iterations?|rounds?|loops?|cycles?|handoffs?)(?:[ _]?count)?\b[^.\n]{0,40}?\b(?:exceeded|reached|hit)"
    r"|(?:reached|exceeded|hit)(?: the| its)? max(?:imum)?[ _-]?(?:number of )?(?:turns|steps|iterations|rounds|loops|cycles)"
    r"|(?:invocation|tool[ _-]?call|function[ _-]?call)s?[ _-]limit\b[^.\n]{0,40}?\b(?:exceeded|reached|hit)"
    r"|\bmax(?:imum)? number of llm calls\b[^.\n]{0,40}?\bexceeded|recursion[ _]limit|iteration limit|step limit|turn limit"
    r"|agent stopped due to (?:max|iteration|time)"
    r"|\bafter \d+ (?:turns|steps|iterations|rounds)\b|(?:Step|Turn|Iteration|Loop)s?Limit"
    r"|MaxTurns|MaxSteps|MaxIterations|GraphRecursionError|UsageLimitExceeded|LlmCallsLimitExceeded"
    r"|^max_(?:turns|steps|iterations)$",
    re.IGNORECASE,
)
"""Class names, messages and finish reasons of frameworks that stop an agent at its limit of steps."""


def is_step_limit(*texts: str | None) -> bool:
    """Return whether a text of an error (its class or message) says that the agent reached its limit of steps."""
    return any(text and STEP_LIMIT.search(text[:MAX_ERROR_CHARS]) for text in texts)


FILTERED = frozenset(
    (
        "content_filter", "content-filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content",
        "refusal", "guardrail_intervened",
    )
)  # fmt: skip
_TOOL_REQUESTED = frozenset(("tool_calls", "tool-calls", "tool_call", "tool_use", "function_call"))
ENDED = frozenset(("stop", "end_turn", "stop_sequence", "completed"))
"""Finish reasons of an answer that the model itself ended."""
CUT_OFF = frozenset(("length", "max_tokens", "max_output_tokens", "max-tokens"))
"""Finish reasons, in lower case."""


def plain_reason(finish_reason: str) -> str:
    """Return a finish reason in lower case, with `_` between the words of camel case: `endTurn` gives `end_turn`."""
    return _CAMEL.sub("_", finish_reason).casefold()


def is_tool_request(finish_reason: str) -> bool:
    """Return whether a model with this finish reason ended its answer to request a tool."""
    return plain_reason(finish_reason) in _TOOL_REQUESTED


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


_DOING = (
    r"(?:able|answer|access|book|cancel|check|complet|connect|continu|creat|determin|fetch|find|finish|found|get|help|load|look|obtain"
    r"|open|perform|process|provid|reach|read|receiv|retriev|return|search|send|sent|updat|verif)"
)
_TROUBLE = r"(?:errors?|issues?|problems?|difficult\w+|trouble|failures?|outages?)"

INABILITY = {
    "en": (
        r"\b(?:i|we)(?:'m| am|'re| are| was| were)(?: \w+)? (?:unable|not able) to\b",
        rf"\b(?:i|we)(?: \w+)? (?:could|can|did|have|was|were)(?:n't| not|not)(?: \w+)? {_DOING}",
        r"(?:^|[.!:;,\n]\s*|\b(?:but|was|were|am) )unable to \w+",
        r"\bcould(?:n't| not) be \w+",
        rf"\b(?:i|we)(?:'ve| have)? (?:failed to|encountered|ran into|hit|experienced)\b[^.\n]{{0,40}}\b(?:{_DOING}|{_TROUBLE})",
        rf"\b(?:there was|due to) an? (?:\w+ ){{0,3}}{_TROUBLE}\b",
        r"\b(?:is|are|was|were) (?:currently |temporarily |still )?(?:unavailable|not available|not responding|down)\b",
        r"\btry again (?:later|in an? )",
        r"\b(?:failed|keeps failing|timed out|did not work|didn't work)\b",
    ),
    "de": (
        r"\b(?:konnten?|kann|können)\b[^.\n]{0,80}\b(?:nicht|keine[nrs]?)\b",
        r"\b(?:nicht möglich|fehlgeschlagen|nicht verfügbar|nicht erreichbar)\b",
    ),
    "fr": (
        r"\bn'a(?:i|vons|it|ient)? pas (?:pu|réussi)\b",
        r"\bimpossible d(?:e|')",
        r"\bne (?:peux|pouvons) pas\b",
        r"\bindisponible\b",
    ),
    "es": (r"\bno (?:pude|pudimos|he podido|hemos podido|puedo|fue posible|se pudo|ha sido posible)\b",),
    "pt": (r"\bn[ãa]o (?:consegui|conseguimos|foi poss[íi]vel|pude|posso)\b",),
    "it": (r"\bnon (?:sono riuscit[oa]|è stato possibile|ho potuto|riesco|posso)\b",),
    "nl": (r"\bk(?:on|an|unnen|onden)\b[^.\n]{0,60}\b(?:niet|geen)\b",),
    "zh": ("无法|未能|暂时不可用",),
    "ja": ("できませんでした|取得できません|利用できません",),
    "ko": ("할 수 없|하지 못했",),
}
"""Patterns of answers that report a failure, by language."""

_INABILITY = re.compile("|".join(pattern for patterns in INABILITY.values() for pattern in patterns), re.IGNORECASE)
_CURLY_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


def find_inability(answer: str) -> str | None:
    """Return the words of an answer that say that the agent failed; None if there are no such words.

    Only the beginning and the end of the answer are searched.
    """
    edges = (answer,) if len(answer) <= 2 * EDGE_CHARS else (answer[:EDGE_CHARS], answer[-EDGE_CHARS:])
    for edge in edges:
        found = _INABILITY.search(edge.replace(_CURLY_APOSTROPHE, "'"))
        if found is not None:
            return edge[found.start() : found.end()]
    return None
