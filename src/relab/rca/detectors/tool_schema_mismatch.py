"""tool_schema_mismatch: a tool rejected the agent's arguments, or does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from relab.rca.detectors import rate_limited
from relab.rca.detectors.argument_advice import explain, schema_gaps
from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.phrases import CONTENT_POLICY, CONTEXT_LENGTH, Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.signs import ErrorRule, Sign, problem_of, signs
from relab.rca.evidence import Failure, Quotation, RunView, is_generic_message, last_name
from relab.rca.models import Category, Confidence, EvidenceKind
from relab.telemetry.models import GuardrailEvent, ToolCall

UNKNOWN_TOOL = "unknown_tool"
"""The detail of a call of a tool that does not exist."""

_NAME = r"['\"`][\w.\[\]-]*['\"`]"
_KIND = r"(?:field|param(?:eter)?|argument|property|key|input|attribute)s?"

WORDING = Phrases(
    (
        phrase(
            UNKNOWN_TOOL,
            "tool|function",
            r"\b(?:unknown|unrecogni[sz]ed|undefined|no such|nonexistent|invalid) (?:tool|function)(?! (?:arg"
            r"|param|input|call))\b"
            rf"|\b(?:tool|function) (?:named )?(?:{_NAME}|[\w.-]+) (?:was )?(?:not found|does not exist"
            rf"|is not (?:defined|registered|available|a valid))"
            r"|is not a valid tool|malformed_function_call",
        ),
        phrase(
            "missing_field",
            "missing|required|not provided",
            rf"missing (?:\d+ )?(?:a |the |following )*(?:required )?(?:positional |keyword-only |keyword )?{_KIND}\b"
            rf"|missing \d+ required|\b{_KIND} (?:is |are )?required\b|{_NAME} is (?:a )?required"
            rf"|\b{_KIND} ['\"`]?[\w.\[\]-]{{1,60}}['\"`]? (?:is|are|was) required"
            rf"|is a required property"
            rf"|required {_KIND}\b.{{0,80}}(?:missing|required|not provided|absent|empty)"
            rf"|\b{_KIND}\b.{{0,40}}\b(?:is|was|were|are) (?:missing|not provided)",
        ),
        phrase(
            "unexpected_argument",
            "unexpected|unknown|unrecogni|unsupported|additional|extra|takes|not in the tool",
            rf"unexpected keyword arg\w*|\b(?:unexpected|unknown|unrecogni[sz]ed|unsupported) (?:keyword )?{_KIND}\b"
            rf"|additional properties|extra (?:inputs?|fields?) (?:are |is )?(?:not permitted|forbidden"
            rf"|not allowed)|extra_forbidden"
            r"|takes (?:from )?\d+ (?:to \d+ )?positional arguments? but|takes no (?:keyword )?arguments"
            r"|\barg [\w.-]{1,60} is not in the tool's args",
        ),
        phrase(
            "invalid_json",
            "json",
            r"(?:arguments?|tool (?:input|call)|function call)\b.{0,60}\b(?:not|invalid|malformed|decod\w+"
            r"|pars\w+)\b.{0,30}\bjson"
            r"|(?:invalid|malformed|not valid|bad|parse|parsing|decode"
            r"|decoding)\b.{0,20}\bjson\b.{0,60}\b(?:arguments?|tool|function)\b",
        ),
        phrase(
            "wrong_type",
            "type|input should be|expected|valid|is not one of",
            r"is not of type|input should be (?:a |an )?(?:valid|less|greater|'|one|\w+ or)"
            r"|value is not a valid|\btype=\w+, input_"
            r"|is not valid under any of the given schemas|is not one of \[|invalid type for"
            r"|expected (?:type )?(?:a |an )?['\"]?(?:str(?:ing)?|int(?:eger)?|number|float|bool(?:ean)?|list"
            r"|array|dict|object)\b"
            r".{0,20}\b(?:got|received|found)\b",
        ),
        phrase(
            None,
            "validation|schema|argument|param|parse|contract|arg ",
            r"(?:arguments?|parameters?|tool(?: call)?|input|request"
            r"|schema) (?:failed )?(?:schema )?validation(?: error| failed|\b)"
            r"|\bvalidation errors? (?:for|in|on) (?!output|response|result)|(?:does not|doesn't"
            r"|not) match (?:the |its )?(?:\w+ )?schema"
            r"|invalid (?:tool |function |request )?(?:arguments?|parameters?|params|input schema)|(?:failed"
            r"|failing) schema validation"
            r"|schema (?:mismatch|violation|error)|could not parse (?:tool |function )?(?:arguments|input)"
            r"|failed to parse (?:tool |function )?(?:arguments|input)|(?:arguments|parameters) (?:are|is"
            r"|were) invalid|\barg [\w.-]{1,60} is invalid:",
        ),
    )
)
"""Wording of pydantic, JSON Schema, DSPy, Python's own argument errors, OpenAPI servers and tool-calling frameworks."""

_OUTPUT = re.compile(
    r"\b(?:output|response|result|completion)s? (?:failed |did not pass |does not pass )?(?:schema )?"
    r"(?:validation|pars\w+)"
    r"|\b(?:output|response|result|completion)\b.{0,20}\b(?:does not|did not|doesn't|failed to) "
    r"(?:match|conform|pass|validate)"
    r"|validation (?:errors? )?(?:for|of|in|on) (?:the )?(?:\w+ )?(?:output|response|result)|output ?parser",
    re.IGNORECASE,
)
"""Wording of a failed validation of outputs; this category is about inputs only."""

_STATING_CLASSES = re.compile(
    r"^(?:tool_?)?(?:schema|input|argument|args|parameter|request)s?_?(?:validation|schema|mismatch)\w*(?:error"
    r"|exception)?$"
    r"|invalid_?(?:tool_?)?(?:arguments?|params?|parameters?|tool_?call)|missing_?(?:required_?)?(?:param\w*"
    r"|argument|field)"
    r"|(?:unknown|invalid)_?(?:tool|function)|(?:tool|function)_?not_?found|tool_?input_?\w*error|^schema_?error",
    re.IGNORECASE,
)
_VALIDATION_WORD = re.compile(r"\bvalidation\b", re.IGNORECASE)
_VALIDATION_CLASS = re.compile(r"validation_?(?:error|exception)|^unprocessable", re.IGNORECASE)

RULE = ErrorRule(
    codes={},
    classes=_STATING_CLASSES,
    phrases=WORDING,
    guard_types=re.compile(
        r"^(?!.*(?:output|response|result)).*(?:schema|(?:argument|arg|input|param\w*|tool)[ _-]?validation)",
        re.IGNORECASE,
    ),
)


def _is_look_alike(failure: Failure) -> bool:
    """Return whether a failure has another reason than rejected arguments, such as a missing right or a time limit."""
    text = failure.text
    if failure.status_code in (401, 403, 404, 407, 408, 429):
        return True
    if CONTEXT_LENGTH.found_in(text) or CONTENT_POLICY.found_in(text) or rate_limited.WORDING.found_in(text):
        return True
    return _OUTPUT.search(text.masked) is not None


def _read(failure: Failure) -> Sign | None:
    """Return the sign that a call failed because of its arguments; None without such a sign."""
    if _is_look_alike(failure):
        return None
    sign = RULE.read(failure)
    if isinstance(failure.source, GuardrailEvent):
        return sign
    validates = failure.error_class is not None and bool(_VALIDATION_CLASS.search(last_name(failure.error_class)))
    if sign is None:
        return _read_without_words(failure, validates=validates)
    # A code or class alone is no proof: 400 and `ValidationError` have many other reasons.
    if _code_of_call(failure) in (400, 422) or validates or failure.error_class == "TypeError":
        # Code or class gives high confidence only if the wording comes from an error message.
        return replace(sign, confidence=Confidence.MEDIUM if failure.is_hint else Confidence.HIGH)
    return sign


def _code_of_call(failure: Failure) -> int | None:
    """Return the reported HTTP status code of a failed call; None for a failed step.

    The status code of a step is from a model's provider: it is about the request to the model, and not about the
    arguments of a tool.
    """
    return None if failure.kind is EvidenceKind.STEP else failure.status_code


def _read_without_words(failure: Failure, *, validates: bool) -> Sign | None:
    """Return the sign that a tool rejected its arguments, for a failure whose wording does not show this.

    The sign is the status code or the error class; None if neither is a sign. `validates` states whether the error
    class is one of validation errors, such as `ValidationError`.
    """
    code = _code_of_call(failure)
    if code is None:
        code = failure.text.status_code
    if code == 422 or (validates and code == 400):
        return Sign(Confidence.MEDIUM)
    is_generic = is_generic_message(_VALIDATION_WORD.sub("", failure.text.masked))
    if validates:
        return Sign(Confidence.MEDIUM if is_generic else Confidence.LOW)
    return Sign(Confidence.LOW) if code == 400 and is_generic else None


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find calls that a tool rejected because of their arguments, and calls of unknown tools.

    Failed calls without an argument that the tool's schema requires are found too.

    Values of `detail`: `missing_field`, `unexpected_argument`, `wrong_type`, `invalid_json`, `unknown_tool`.
    """
    for failure, sign in signs(_read, view):
        yield problem_of(Category.TOOL_SCHEMA_MISMATCH, failure, sign)
    for failure in view.call_failures:
        call = failure.source
        if isinstance(call, ToolCall) and schema_gaps(call) and _read(failure) is None and not _is_look_alike(failure):
            problem = problem_of(Category.TOOL_SCHEMA_MISMATCH, failure, Sign(Confidence.MEDIUM, "missing_field"))
            sent = Quotation(EvidenceKind.TOOL_CALL, call, "args_json")
            yield replace(problem, quotes=(*problem.quotes, sent))


DESCRIPTOR = CategoryDescriptor(
    category=Category.TOOL_SCHEMA_MISMATCH,
    detect=detect,
    title="Tool Schema Mismatch",
    cause="schema validation error",
    clause="{subject} rejected its arguments",
    explain=explain,
    advice_opening="Review and update tool argument schemas to match current API contract",
    names=re.compile(r"\bschemas?\b|tool[-_ ]*schema"),
    checks=(
        "Review tool call logs for detailed error traces",
        "Check external service status and API documentation",
    ),
    actions=(
        action(
            "code_change",
            "high",
            "Update tool schema validation",
            "Review and update tool argument schemas to match current API contract, "
            "and validate arguments against them before the call is made.",
        ),
        action(
            "monitoring",
            "medium",
            "Watch for changes of tool contracts",
            "Compare the schema that the agent is given with the one that the tool publishes, and alert "
            "on a difference.",
        ),
    ),
)
