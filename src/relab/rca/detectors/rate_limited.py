"""rate_limited: a tool or a model provider rejected a request because of a rate limit, a quota or overload."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation, Facts
from relab.rca.detectors.phrases import Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.signs import ErrorRule, Sign, problem_of, signs
from relab.rca.evidence import Failure, RunView
from relab.rca.models import Category

WORDING = Phrases(
    (
        phrase(
            "quota",
            "quota",
            r"insufficient_quota|exceeded your (?:current |monthly |daily )?quota"
            r"|(?<!disk )(?<!storage )quota\b.{0,60}\b(?:exceeded|exhausted|reached|used up)"
            r"|(?:exceed\w*|exhausted|reached|over)\b.{0,30}(?<!disk )(?<!storage )\bquota\b",
        ),
        phrase(
            "overloaded",
            "overloaded|capacity",
            r"overloaded_error|\b(?:server|model|engine|service|api|provider|it)\b.{0,30}\boverloaded\b|^overloaded\b"
            r"|\bat capacity\b.{0,60}(?:try again|retry)",
        ),
        phrase(
            "retry_after",
            "retry|try again",
            r"\b(?:rate|too many|throttl|429)\w*\b.{0,200}\b(?:retry[- _]after\b|(?:try again|retry) (?:in|after) \d)"
            r"|\bretry[-_ ]after(?:[-_](?:ms|seconds))?['\"]?\s*[:=]\s*['\"]?\d",
        ),
        phrase(
            None,
            "rate|ratelimit",
            r"\brate[ _-]?limit\w*(?:['\"]|\b).{0,60}\b(?:reached|exceeded|hit|error|surpassed|violat\w+)"
            r"|rate_limit_(?:error|exceeded)|(?:exceed\w*|reached|hit|over|due to|because of"
            r"|triggered)\b.{0,40}\brate[ _-]?limit"
            r"|\b(?:been|being|is|are|were|was|got) (?:temporarily )?rate[ -]limited|^rate[ -]limited\b"
            r"|secondary rate limit",
        ),
        phrase(None, "too many|toomany", r"too ?many ?requests"),
        phrase(None, "throttl", r"\bthrottl(?:ed|ing)(?:exception|error)?\b"),
        phrase(
            "quota",
            "exhausted",
            r"resource_?(?: has been )?exhausted",
        ),
        phrase(None, "abuse detection", r"abuse detection mechanism"),
    )
)
"""The wording of OpenAI, Anthropic, Google, AWS, Azure and GitHub in their API references."""

_NOT_RATE = re.compile(
    # gRPC also reports RESOURCE_EXHAUSTED for large messages and for lack of memory.
    r"received message larger|message.{0,20}too large|out of memory|no space left"
    r"|rate[ _-]?limit\w*['\"]? (?:must|should|parameter|argument|option|is not a valid)",
    re.IGNORECASE,
)

RULE = ErrorRule(
    codes={429: None, 529: "overloaded"},
    classes=re.compile(
        r"rate_?limit|too_?many_?requests|throttl|resource_?exhausted|quota_?exceeded|insufficient_?quota|overloaded"
        r"|^slow_?down|provisioned_?throughput_?exceeded|request_?limit_?exceeded",
        re.IGNORECASE,
    ),
    phrases=WORDING,
    guard_types=re.compile(r"rate[ _-]?limit|throttl|quota", re.IGNORECASE),
)


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find requests that were rejected because of a rate limit, a quota or overload.

    The signs are the status codes 429 and 529, error classes, and typical wordings of providers. Values of `detail`:
    `retry_after` (the error states when to retry), `quota`, `overloaded`.
    """
    for failure, sign in signs(_read, view):
        yield problem_of(Category.RATE_LIMITED, failure, sign)


def _read(failure: Failure) -> Sign | None:
    if failure.status_code != 429 and _NOT_RATE.search(failure.text.masked):
        return None
    return RULE.read(failure)


_NUMBER = r"\d{1,15}(?:,\d{3}){0,4}"
_SECONDS = r"\d{1,15}(?:\.\d{1,9})?"
# A number is a waiting time if it has a unit or follows "in" or "after": "retry 5 of 5" is a count.
_WAIT = re.compile(
    rf"(?:please )?(?:try again|retry|wait)\b[^.\n\d]{{0,20}}?\b{_SECONDS}\s?(?:ms|s|sec\w{{0,6}}|min\w{{0,5}}|m|h|hours?)\b"
    rf"|(?:try again|retry|wait) (?:in|after|for) {_SECONDS}\b(?!\.\d| ?(?:attempts?|tries|times|retries|more|requests?)\b)"
    rf"|retry[-_](?:after|delay)\w{{0,10}}['\"]?\s{{0,5}}[:=]?\s{{0,5}}['\"]?{_SECONDS}\s?s?"
    rf"|retry ?(?:after|delay)['\"]?\s{{0,5}}[:=]\s{{0,5}}['\"]?{_SECONDS}\s?s?",
    re.IGNORECASE,
)
_PER = r"\s{0,5}(?:[\w-]{1,40} )?(?:per|/) ?\w{1,20}"
_LIMIT = re.compile(
    rf"[\w-]{{1,40}} per (?:second|sec|minute|min|hour|day|month)[^:.\n]{{0,20}}: limit[: ]{{0,5}}{_NUMBER}"
    rf"(?:, used[: ]{{0,5}}{_NUMBER})?(?:, requested[: ]{{0,5}}{_NUMBER})?"
    # "rate limit: 429" names a status, "limit: 429 per minute" does not.
    rf"|(?:limit(?: of)?|quota)\s{{0,5}}[:=]?\s{{0,5}}(?:{_NUMBER}\b{_PER}|(?!(?:429|503|529)\b){_NUMBER}\b)"
    rf"|\b{_NUMBER} requests? (?:per|/|in) ?[\d ]{{0,10}}\w{{1,20}}",
    re.IGNORECASE,
)


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain the error by the status code, the limit and the waiting time that it names.

    Return None if it names none of them.
    """
    facts = Facts(problem, view)
    status, limit, wait = facts.field("status_code"), facts.match(_LIMIT), facts.match(_WAIT)
    parts = [f"{facts.subject} got the status {status}" if status else f"{facts.subject} was rejected"]
    if limit:
        parts.append(f"the limit is {limit}")
    if wait:
        parts.append(f"the answer says when to come back: {wait}")
    if not (status or limit or wait):
        return None
    first = (
        f"Wait as long as the answer says ({wait}), then repeat the request"
        if wait
        else "Repeat the request with exponential back-off and jitter"
    )
    second = (
        f"Stay below the limit ({limit}): count the requests of all processes that use this key in one place, and let them wait"
        if limit
        else "Limit the requests in flight of all processes that use this key"
    )
    return facts.explanation("; ".join(parts), f"{first}, instead of ending the run. {second}.")


DESCRIPTOR = CategoryDescriptor(
    category=Category.RATE_LIMITED,
    detect=detect,
    title="Rate Limited",
    cause="rate limiting",
    clause="{subject} was rate limited",
    explain=explain,
    names=re.compile(r"\brate[-_ ]*limit|\bthrottl|\btoo many requests\b|\bquotas?\b"),
    checks=(
        "Compare the request rate at the time of the failure with the limit that the provider documents",
        "Check quota usage and other clients of the same key in the provider's console",
    ),
    actions=(
        action(
            "code_change",
            "high",
            "Back off and retry on rate limits",
            "Retry with exponential back-off and jitter, honour Retry-After, and cap the calls in flight per provider.",
        ),
        action(
            "config_change",
            "medium",
            "Review rate limits and quotas",
            "Request a higher limit, spread the load over time, or cache answers that repeat.",
        ),
    ),
    is_external=True,
)
