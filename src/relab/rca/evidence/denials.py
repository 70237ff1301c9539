"""Find the places of a text that deny a kind of error: "0 permission errors", "no rate limit was hit"."""

from __future__ import annotations

import re
from collections.abc import Iterator

_KIND = (
    r"(?:permission|access|auth\w*|schema|validation|argument|input|tool(?:[ -]call)?|api|http|network|connect(?:ion)?"
    r"|read|request|query|search|server|client|rate[ _-]?limit(?:ing)?|quota|time-?out|prompt|planner|agent"
    r"|missing|unknown|unexpected|invalid|expired|required|content|policy|[45]\d\d|other|further|more|such|single|new)"
)
"""Words that stand between "no" and the error: a kind of error, or "other". Any other word may begin another sentence."""
_TROUBLE = (
    r"(?:errors?|failures?|exceptions?|violations?|time-?outs?|rate[ _-]?limits?|rate[ -]?limiting|throttling"
    r"|(?:regression|drift|loop)s?|(?:permission|access)[ _]denied|deadlines? exceeded|quota exceeded"
    r"|(?:iteration|recursion|step) limit|empty (?:search |query |retrieval )?(?:results?|retrievals?)"
    r"|(?:missing|unknown|unexpected|invalid|expired)(?: required| keyword)?"
    r" (?:tool|function|field|arg(?:ument)?|param(?:eter)?|propert|key|token|credential)(?:s|y|ies)?"
    r"|[45]\d\ds?(?: forbidden| unauthori[sz]ed| too many requests| gateway time-?out)?)(?!\w)"
)
_THING = rf"(?:{_KIND} (?:(?:or|and|nor) )?){{0,4}}?{_TROUBLE}"
_ACTOR = (
    r"(?:(?:of (?:the|these|them|our) ?)?(?:\w+ )?(?:requests?|calls?|tools?|quer(?:y|ies)|steps?|tasks?|jobs?|connections?"
    r"|search(?:es)?|retrievals?|operations?|one|them) )"
)
_ENDED = (
    r"(?:timed[ -]out|throttled|rate[ -]limited|overloaded|exceeded|surpassed|reached|hit|exhausted|triggered|detected"
    r"|stuck in a loop|denied|blocked|expired|revoked|invalid|missing)\b"
)
"""What a limit, a request or a key suffers; no rule needs "not" before one of these words ("must not be missing" has "be")."""

_MAY_DENY = re.compile(r"\b(?:no|none|nothing|not|never|zero|0|without|false)\b|n't", re.IGNORECASE)
"""Each denial contains one of these words; most texts have none of them."""

_DENIALS = (
    # For example "0 timeouts", "no sign of a rate limit", "without any permission errors", "not due to a loop".
    rf"\b(?:no|zero|(?<!\S)(?<!code )(?<!status )0|without|not)"
    rf"(?: (?:sign|evidence|trace|case|instance)s? of| due to| because of| caused by)?(?: (?:a|an|any|the))? {_THING}"
    rf"(?!['\"]?\s*[:=]\s*[1-9])"
    # For example "never hit the rate limit", "did not see any 429", "without running into a timeout".
    rf"|(?:\b(?:not|never|without)|n't)(?: (?!be )\w+)? (?:saw|see\w*|find|found|hit\w*|reach\w*|exceed\w*|observ\w+"
    rf"|encounter\w*|trigger\w*|into|get|got|gett?ing|rais\w+|caus\w+|report\w*)(?: (?:a|an|any|the|its|our))? {_THING}"
    # For example "checked for permission errors and found none".
    rf"|\bfor (?:a |an |any |the )?{_THING},? (?:and|but) (?:found|saw) (?:none|nothing|no)\b"
    # For example "none of the requests timed out", "no request was throttled".
    rf"|\b(?:no|none|zero) {_ACTOR}(?:was |were |has |have |had )?(?:been )?(?:{_ENDED}|returned empty)"
    # For example "the rate limit was not exceeded", "not timed out".
    rf"|(?:\b(?:not|never)|n't)(?: (?:yet|even|been|ever))? {_ENDED}"
    # For example a count of 0 after "permission errors", or false after "rate_limit_exceeded".
    r"|(?<![a-z])(?:(?:errors|failures|exceptions|violations|time-?outs|regressions?|drift)['\"]?\s*[:=]\s*(?:0|none)"
    r"|(?:exceeded|reached|hit|detected|timed out)['\"]?\s*[:=]\s*(?:no|none|false))(?=\s*(?:[,;.)\]}\n]|$))"
)
_DENIAL = re.compile(_DENIALS, re.IGNORECASE)


def denied_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield `(start, end)` of each place with a denial of an error, such as "no timeouts".

    Such a place is no sign of the error that it names. The places are in order and do not overlap.
    """
    if _MAY_DENY.search(text) is None:
        return
    yield from (match.span() for match in _DENIAL.finditer(text))
