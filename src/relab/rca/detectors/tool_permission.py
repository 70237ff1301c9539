"""tool_permission: the caller is not authenticated, or not authorised for the action."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from relab.rca.detectors import rate_limited
from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation, Facts
from relab.rca.detectors.phrases import CONTENT_POLICY, Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.signs import ErrorRule, Sign, problem_of, signs
from relab.rca.evidence import Failure, RunView
from relab.rca.models import Category

_CREDENTIAL = (
    r"(?:api[ _-]?key|(?:access |auth\w* |bearer |refresh |api |security |session )token|credentials?"
    r"|client secret|jwt)"
)

WORDING = Phrases(
    (
        phrase(
            "blocked",
            "robots|captcha|bot |blocked",
            r"robots\.txt|\bcaptcha\b|bot (?:detection|protection)|(?:request|access|ip|you) (?:has |have |was "
            r"|were )?"
            r"(?:been )?blocked",
        ),
        phrase(
            "authorization",
            "permission|privilege|eacces|eperm|errno 13|not permitted",
            r"permission[ _]?denied|\bpermission error|\bEACCES\b|\bEPERM\b|\[errno 13\]|operation not permitted"
            r"|insufficient[ _](?:permission|privilege)|\b(?:missing|lacks?|without|no|need\w*|requires?) "
            r"(?:the )?(?:required )?.{0,30}\bpermissions?\b(?! to (?:be|have))"
            r"|not have (?:the )?(?:\w+ )?permission|\bpermission to [^.\n]{1,80} (?:was |is |has been )denied",
        ),
        phrase(
            "authorization",
            "scope|privilege|access|allowed to",
            r"insufficient[ _]scope|missing (?:required )?(?:oauth )?scope|\baccess (?:is |was "
            r"|has been )?denied\b|\baccessdenied\b"
            r"|insufficient access|not have access|not allowed to (?:access|perform|use|call|read|write|delete"
            r"|execute)",
        ),
        phrase(
            "authentication",
            "key|token|credential|jwt|secret",
            rf"(?:invalid|incorrect|expired|missing|wrong|revoked|malformed|no valid|bad) (?:or (?:expired"
            rf"|missing) )?{_CREDENTIAL}"
            rf"|{_CREDENTIAL}[^.\n]{{0,40}}\b(?:is|was|has|have|are)? ?(?:been )?(?:expired|invalid|revoked|missing"
            rf"|not valid|not found)"
            r"|\btoken (?:has |is |was )?(?:expired|revoked)\b|\bexpired token\b|invalid_api_key|invalid_token"
            r"|bad credentials",
        ),
        phrase(
            "authentication",
            "authenticat|login|sign in|sign-in",
            r"authentication[ _](?:failed|failure|required|error|is required)|not authenticated|(?:un"
            r"|could not be )authenticated"
            r"|(?:login|sign[- ]in) (?:is )?required",
        ),
        phrase(
            None,
            "authoriz|authoris",
            r"\bunauthori[sz]ed\b|\bnot authori[sz]ed\b|authori[sz]ation (?:failed|denied|required)",
        ),
        phrase(
            "authorization",
            "forbidden",
            r"\b403\b.{0,10}forbidden|^\W*forbidden\b(?!\W*(?:field|input|extra))|:\s*forbidden\W*$",
        ),
    )
)

RULE = ErrorRule(
    codes={401: "authentication", 403: "authorization"},
    classes=re.compile(
        r"permission_?(?:error|denied)|^(?:tool_?)?permissions?$|access_?denied|unauthori[sz]ed|^forbidden|forbidden_?error"
        r"|authentication_?(?:error|failed|exception)|authori[sz]ation_?(?:error|failed|exception)|^unauthenticated"
        r"|^auth_?(?:error|exception)|invalid_?(?:api_?key|token|credentials)|(?:expired_?token|token_?expired)"
        r"|insufficient_?(?:scope|permission|privilege)",
        re.IGNORECASE,
    ),
    phrases=WORDING,
    guard_types=re.compile(
        r"permission|authori[sz]|authenticat|access[ _-]?(?:control|denied)|\brbac\b", re.IGNORECASE
    ),
)


def _is_look_alike(failure: Failure) -> bool:
    """Return whether a rate limit, a content policy or a proxy, and not a missing permission, explains a rejection.

    The result is false for every failure with the status code 401.
    """
    if failure.status_code == 401:
        return False
    text = failure.text
    if failure.status_code in (407, 429) or text.status_code in (407, 429):
        return True
    return rate_limited.WORDING.found_in(text) or CONTENT_POLICY.found_in(text)


def _detail_of_class(failure: Failure) -> str | None:
    name = (failure.error_class or "").casefold()
    if "authentic" in name or "token" in name or "key" in name or "credential" in name:
        return "authentication"
    return "authorization" if "permission" in name or "forbidden" in name or "denied" in name else None


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find failed authentication and missing permissions, by the status codes 401 and 403, error classes and wordings.

    Values of `detail`: `authentication` (the caller's identity), `authorization` (the caller's rights), `blocked`
    (robots are rejected, for example by a captcha).
    """
    for failure, sign in signs(_read, view):
        yield problem_of(Category.TOOL_PERMISSION, failure, sign)


def _read(failure: Failure) -> Sign | None:
    sign = RULE.read(failure)
    if sign is None or _is_look_alike(failure):
        return None
    return sign if sign.detail is not None else replace(sign, detail=_detail_of_class(failure))


_RIGHT = re.compile(
    r"(?:scopes?|permissions?|privileges?|roles?)(?: (?:is|are|of|named|required))*[:= ]+['\"`\[]*(?P<right>[a-z][\w-]{0,60}[.:/][\w.:/*-]{1,100}|(?-i:[A-Z][A-Z_]{3,}))"
    r"|(?:required?s?|missing|needs?|lacks?)(?: the| a)?(?: required)? ['\"`]?(?P<other>[a-z][\w-]{0,60}[.:/][\w.:/*-]{1,100})['\"`]? (?:scope|permission|privilege|role)"
    r"|not authorized to perform:? (?P<action>[\w:*-]+)",
    re.IGNORECASE,
)
_RESOURCE = re.compile(
    r"(?:permission denied|access (?:is )?denied|forbidden|not permitted)[^\n'\"/]{0,60}[:'\" ]+(?P<resource>/[^\s'\",;]{1,200})"
    r"|(?:on|for|to) (?:the )?(?:resource|bucket|table|relation|schema|database|file|folder|path|url|index|project|repository)[:= ]{1,3}"
    # In "access to the database is denied", the word there is a verb and not a name.
    r"(?!(?:is|was|are|were|has|had|to|be|by|for|from|of|on|in|with|that|which|denied|not|and|or|because|failed)\b)['\"`]?(?P<other>[^\s'\"`,;]{1,200})"
    r"|(?:relation|table|bucket|schema|database) ['\"`](?P<third>[\w.-]{1,100})['\"`]",
    re.IGNORECASE,
)


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain which right was missing for which resource, as far as the error names them.

    Return None if the problem has neither a text nor a status code.
    """
    facts = Facts(problem, view)
    right = facts.match(_RIGHT, "right") or facts.match(_RIGHT, "other") or facts.match(_RIGHT, "action")
    resource = facts.match(_RESOURCE, "resource") or facts.match(_RESOURCE, "other") or facts.match(_RESOURCE, "third")
    status, arguments = facts.field("status_code"), facts.arguments()
    error = facts.error()
    if error is None and status is None:
        return None
    said = f" with status {status}" if status else ""
    said += f": {error}" if error else ""
    what = [f"{facts.subject} was refused{said}"]
    if right:
        what.append(f"the missing right is {right}")
    if resource:
        what.append(f"the resource is {resource}")
    if arguments:
        what.append(f"its arguments were {arguments}")
    if problem.detail == "authentication":
        fix = f"Renew or set the credentials that {facts.subject} uses; a repetition with the same ones cannot succeed"
    elif problem.detail == "blocked":
        fix = f"The site blocks programs: use its API, or leave it out of what {facts.subject} may read"
    else:
        of = f" {right}" if right else " the right that this call needs"
        on = f" for {resource}" if resource else ""
        fix = f"Grant the identity of {facts.subject}{of}{on}, and no more; or keep the agent from asking for it"
    return facts.explanation("; ".join(what), fix)


DESCRIPTOR = CategoryDescriptor(
    category=Category.TOOL_PERMISSION,
    detect=detect,
    title="Tool Permission",
    cause="missing permission",
    clause="{subject} was refused permission",
    explain=explain,
    names=re.compile(
        r"tool[-_ ]*permission|\bpermissions?\b|\bunauthori[sz]ed\b|\bforbidden\b"
        r"|\baccess (?:was |is )?denied\b"
    ),
    checks=(
        "Repeat the call with the agent's credentials outside the agent",
        "Check that the credentials are valid and carry the scopes or roles that the tool requires",
    ),
    actions=(
        action(
            "config_change",
            "high",
            "Fix credentials and permissions of the tool",
            "Renew expired credentials, and grant the agent's identity the least permission that the call needs.",
        ),
        action(
            "code_change",
            "medium",
            "Check access before the run starts",
            "Probe the tools that a run depends on at its start, so that it fails early and names what is missing.",
        ),
    ),
    is_external=True,
)
