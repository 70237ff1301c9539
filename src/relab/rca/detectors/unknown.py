"""unknown: errors that belong to no other category, so that a report can still name the place of the failure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation, Facts
from relab.rca.detectors.phrases import CONTENT_POLICY, CONTEXT_LENGTH, Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.signs import Sign, problem_of, signs
from relab.rca.evidence import Failure, RunView, last_name
from relab.rca.models import Category, Confidence, EvidenceKind

UNCLASSIFIED: Final = "unclassified_error"
GUARDRAIL_EVENT: Final = "guardrail_event"
VERDICT: Final = "verdict"
VAGUE_DETAILS: Final = frozenset({UNCLASSIFIED, GUARDRAIL_EVENT})
"""Details of problems that only say that something failed."""

_CONNECTION = Phrases(
    (
        phrase(
            "connection_error",
            "connection|econn|name or service|getaddrinfo|enotfound|unreachable|ssl|certificate",
            r"connection (?:refused|reset|aborted|error|closed)|\bECONN(?:REFUSED|RESET|ABORTED)\b"
            r"|\bENOTFOUND\b|getaddrinfo"
            r"|name or service not known|(?:network|host) (?:is )?unreachable|certificate verify failed"
            r"|ssl(?:v3)? (?:handshake|error)",
        ),
    )
)
_NOT_FOUND_CLASS = re.compile(r"not_?found|does_?not_?exist|no_?such", re.IGNORECASE)
_CONTEXT_CLASS = re.compile(r"context_?(?:length|window)|token_?limit|input_?too_?long", re.IGNORECASE)
_CONTENT_CLASS = re.compile(r"content_?(?:policy|filter|moderation)|safety_?error|moderation", re.IGNORECASE)
_CONNECTION_CLASS = re.compile(r"connect(?:ion)?_?(?:error|refused|reset|aborted)|^gaierror|^ssl_?error", re.IGNORECASE)

_VERDICT_CLASS = re.compile(r"_verdict_(?:fail|invalid)$")

_CLASS_DETAILS = (
    (_VERDICT_CLASS, VERDICT),
    (_CONTEXT_CLASS, "context_length"),
    (_CONTENT_CLASS, "content_filter"),
    (_CONNECTION_CLASS, "connection_error"),
    (_NOT_FOUND_CLASS, "not_found"),
)
_CODE_DETAILS = {404: "not_found", 410: "not_found", 407: "proxy_authentication", 413: "too_large"}


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find all errors of a run, including errors that other detectors explain better.

    Left out: guardrail events of a successful run, and an error of the run itself that names no kind of error.

    Values of `detail`: `upstream_error` (5xx), `not_found`, `context_length`, `content_filter`, `connection_error`,
    `proxy_authentication`, `too_large`, `verdict` (a step decided FAIL or INVALID, such as the step `judge` of a
    rollout), `guardrail_event`, and `unclassified_error` for the rest.
    """
    for failure, sign in signs(_read, view):
        if failure.kind is not EvidenceKind.GUARDRAIL_EVENT or not view.succeeded:
            yield problem_of(Category.UNKNOWN, failure, sign)


def _read(failure: Failure) -> Sign | None:
    for phrases in (CONTEXT_LENGTH, CONTENT_POLICY, _CONNECTION):
        match = phrases.find(failure.text)
        if match is not None:
            return Sign(Confidence.LOW if failure.is_hint else Confidence.MEDIUM, match.detail, match.where)
    if failure.kind is EvidenceKind.GUARDRAIL_EVENT:
        return Sign(Confidence.LOW, GUARDRAIL_EVENT)
    if failure.kind is EvidenceKind.RUN and failure.is_generic:
        return None
    name = last_name(failure.error_class or "")
    by_class = next((detail for pattern, detail in _CLASS_DETAILS if pattern.search(name)), None)
    return Sign(Confidence.MEDIUM, by_class) if by_class is not None else _read_code(failure)


def _read_code(failure: Failure) -> Sign:
    """Return the sign that the status code of a failure gives: the kind of failure (`detail`) and the confidence.

    The confidence is medium. It is low in three cases:

    - The code is absent or not known; `detail` is then `unclassified_error`.
    - The code was found only in the text of an output or result.
    - The code is 500, the error has no details, and it is not the error of a model call.
    """
    code, place, sure = failure.status_code, None, Confidence.MEDIUM
    if code is None:
        code, place = failure.text.status_code, failure.text.status_at
        sure = Confidence.LOW if failure.is_hint else Confidence.MEDIUM
    if code in _CODE_DETAILS:
        return Sign(sure, _CODE_DETAILS[code], place)
    if code is not None and 500 <= code < 600:
        # A 500 without details does not show the cause. If a model call failed with it, the cause is at the provider.
        is_vague = code == 500 and failure.is_generic and not failure.is_model_call
        return Sign(Confidence.LOW if is_vague else sure, "upstream_error", place)
    return Sign(Confidence.LOW, UNCLASSIFIED)


_MESSAGE: Final = re.compile(r"""["']message["']\s{0,3}:\s{0,3}(["'])(?P<message>(?:(?!\1).){1,400})\1""")
"""The message in an error that a provider answered as JSON, or as Python prints it."""


def _explain_content_filter(facts: Facts) -> Explanation | None:
    """Explain a request that a content policy refused; None if no text shows it."""
    said = facts.match(_MESSAGE, "message") or facts.error()
    if said is None:
        return None
    return facts.explanation(
        f"{facts.subject} was refused: {said}",
        "Find the text in the request that the policy refuses: often it comes from a page or a document that a tool returned. "
        "Shorten or filter such texts before they reach the model, and catch this error so that the agent can try another way",
    )


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain which call or step failed, with which arguments and which error.

    Return None if no text shows the problem, or if the problem names neither a call nor a step.
    """
    facts = Facts(problem, view)
    if problem.detail == "content_filter":
        return _explain_content_filter(facts)
    error, name, arguments = facts.error(), facts.field("error_class"), facts.short_arguments()
    if error is None or facts.source is None:
        return None
    field = problem.quotes[0].field
    if problem.detail == VERDICT:
        return facts.explanation(
            f"{facts.subject} decided {name}{f': {error}' if name != error else ''}",
            "This is a decision, and no fault of the step. After a FAIL, change what was measured; after an INVALID, remove "
            "the named obstacle and measure again.",
        )
    if field == "status":
        what = f"{facts.subject} failed{f' with {name}' if name else ''}, and the run has no text of an error"
    elif field == "status_code":
        what = f"{facts.subject} answered with the status code {error}"
    elif name:
        what = f"{facts.subject} raised {name}{f': {error}' if name != error else ''}"
    else:
        what = f"{facts.subject} answered {error}"
    if arguments is not None:
        what += f"; its arguments were {arguments}"
        fix = f"Call {facts.subject} with these arguments outside of the agent: if it fails again, the cause is in the tool or behind it"
    else:
        fix = f"Repeat {facts.subject} with the same input: if it fails again, the cause is in it or behind it"
    return facts.explanation(what, f"{fix}. Let the agent tell the user what failed, or try another way.")


DESCRIPTOR = CategoryDescriptor(
    category=Category.UNKNOWN,
    detect=detect,
    title="Unknown",
    cause="an error of no known kind",
    clause="{subject} failed",
    explain=explain,
    names=re.compile(
        r"\bunknown (?:root )?(?:category|cause|failure|reason)\b"
        r"|\b(?:category|cause|reason)\b[^.]*\bunknown\b"
    ),
    checks=(
        "Read the quoted error together with the log of the component that reported it",
        "Repeat the step with the same input and see whether it fails again",
    ),
    actions=(
        action(
            "process",
            "high",
            "Investigate the failed step",
            "Reproduce the step at which the run broke, and find what the quoted error stands for.",
        ),
        action(
            "code_change",
            "medium",
            "Give the error a class of its own",
            "Raise a specific error class or code for this failure, so that the next one is recognised.",
        ),
    ),
    is_general=True,
    checks_by_detail={
        VERDICT: ("Compare the quoted reason with the figures that were measured, and with the limits for them",),
    },
    causes_by_detail={
        "upstream_error": "an error of the service behind it",
        "not_found": "something that does not exist",
        "context_length": "more input than the model's context holds",
        "content_filter": "a content policy",
        "connection_error": "a failed connection",
        "proxy_authentication": "a proxy that requires authentication",
        "too_large": "a request that is too large",
        VERDICT: "a verdict other than PASS",
        GUARDRAIL_EVENT: "a guardrail",
    },
)
