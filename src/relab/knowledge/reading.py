"""Parse a runbook's file: YAML front matter for the responder, followed by Markdown for people."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)

from relab.core.validation import plain_message
from relab.core.yaml_source import YamlReader, YamlSource, nearest
from relab.knowledge.errors import RunbookError
from relab.knowledge.models import (
    CAUSE_PATTERN,
    UNNAMED,
    Expectation,
    FactCondition,
    FactValue,
    Operator,
    Risk,
    Runbook,
    RunbookAction,
)

MAX_BYTES: Final = 262_144
FENCE: Final = "---"
_READER: Final = YamlReader(RunbookError, max_bytes=MAX_BYTES)
_OPERATORS: Final = tuple(operator.value for operator in Operator)
_MAX_PROBLEMS: Final = 50

# A text of one line, which a table or a terminal can show.
_LINE_PATTERN: Final = r"^[^\x00-\x1f\x7f]+$"
_NAME_PATTERN: Final = r"^[A-Za-z][^\x00-\x1f\x7f{}]*$"
_ACTION_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$"
_RULES: Final = {
    CAUSE_PATTERN: "must be a word of at most 100 lowercase letters, digits and _, such as cache_down",
    _LINE_PATTERN: "must be one line without control characters",
    _NAME_PATTERN: "must be a name such as pool.used_pct: it begins with a letter, and has no braces or control characters",
    _ACTION_PATTERN: "must be a name such as restart-worker, of at most 100 letters, digits, _, . and -",
}
"""For each pattern of a field, its rule in words."""
_FIELDS_MESSAGE: Final = "must have fields, each written as `name: value`"
_MESSAGES: Final = {
    "missing": "is REQUIRED and missing",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "string_type": "must be a text",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "model_type": _FIELDS_MESSAGE,
    "dict_type": _FIELDS_MESSAGE,
}
"""The messages for some of Pydantic's types of errors, whose own messages use terms of Python."""
Line = Annotated[str, Field(min_length=1, max_length=300, pattern=_LINE_PATTERN)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NAME_PATTERN)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Text = Annotated[str, Field(strict=True, max_length=1_000)]
Value = StrictBool | Number | Text
# Parameters go to an external server, for which 3 and 3.0 may differ.
Parameter = StrictBool | StrictInt | Number | Text

Part = TypeVar("Part")
Many = Annotated[tuple[Part, ...], Field(max_length=100)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Condition(_Part):
    fact: Name
    at_least: Number | None = None
    at_most: Number | None = None
    is_: Value | None = Field(None, alias="is")
    is_not: Value | None = None

    @model_validator(mode="after")
    def _has_one_operator(self) -> Self:
        if len(self._given()) != 1:
            given = " and ".join(self._given()) or "none"
            raise ValueError(f"must have exactly one of {', '.join(_OPERATORS)}, not {given}")
        return self

    def _given(self) -> list[str]:
        return [name for name in _OPERATORS if self._value(name) is not None]

    def _value(self, operator: str) -> FactValue | None:
        value: FactValue | None = getattr(self, "is_" if operator == "is" else operator)
        return value

    def condition(self) -> FactCondition:
        (operator,) = self._given()
        value = self._value(operator)
        assert value is not None, "the operator was given"
        return FactCondition(self.fact, Operator(operator), value)


class _Expectation(_Condition):
    likely: Probability
    otherwise: Probability


class _Action(_Part):
    action: Annotated[str, Field(pattern=_ACTION_PATTERN)]
    parameters: Annotated[dict[Line, Parameter], Field(max_length=50)] = Field(default_factory=dict)
    why: Annotated[str, Field(max_length=1_000)] = ""


def _is_a_cause(cause: str) -> str:
    if cause == UNNAMED:
        raise ValueError(f"{UNNAMED!r} is reserved for incidents that no runbook describes")
    return cause


class _FrontMatter(_Part):
    cause: Annotated[str, Field(pattern=CAUSE_PATTERN), AfterValidator(_is_a_cause)]
    title: Line
    prior: Annotated[Number, Field(gt=0, le=1_000)] = 1.0
    risk: Risk
    symptoms: Annotated[Many[Line], Field(min_length=1)]
    looks: Many[Name] = ()
    requires: Many[_Condition] = ()
    expects: Annotated[Many[_Expectation], Field(min_length=1)]
    actions: Many[_Action] = ()
    mended: Many[_Condition] = ()
    sheds: bool = False


def read_runbook(path: Path) -> Runbook:
    """Read and parse the file of a runbook.

    Raises:
        RunbookError: the file cannot be read, or is not a valid runbook. The error has file, line and field of each
            mistake.
    """
    return _parse_unchanged(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of a runbook's file without parsing it.

    Raises:
        RunbookError: the file does not exist, cannot be read, is too large, or is not UTF-8.
    """
    return _READER.read_text(path)


def parse_runbook(text: str, source: str) -> Runbook:
    """Parse a runbook: YAML between two lines of `---`, then Markdown.

    Args:
        text: the content of a file.
        source: the name of the file in messages.

    Raises:
        RunbookError: the text is not a valid runbook; the error lists file, line and field of each mistake.
    """
    path = Path(source)
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise _READER.problem(path, 1, f"is larger than {MAX_BYTES:,} bytes")
    front_matter, body = _split(text.removeprefix("\ufeff"), path)
    read = _READER.parse(front_matter, path, first_line=2)
    try:
        given = _FrontMatter.model_validate(read.value)
    except ValidationError as error:
        raise _explain(error, read) from error
    return Runbook(
        cause=given.cause,
        title=given.title,
        symptoms=given.symptoms,
        expects=tuple(Expectation(each.condition(), each.likely, each.otherwise) for each in given.expects),
        looks=given.looks,
        actions=tuple(RunbookAction(each.action, each.parameters, each.why) for each in given.actions),
        mended=tuple(each.condition() for each in given.mended),
        risk=given.risk,
        prior=given.prior,
        requires=tuple(each.condition() for each in given.requires),
        sheds=given.sheds,
        text=body,
        source=source,
        lines={**read.lines(), "": 1, "text": front_matter.count("\n") + 4},
    )


# A responder reads its folder again before each decision, when hardly a file has changed. The largest folder fits.
_parse_unchanged = functools.lru_cache(maxsize=1_024)(parse_runbook)


def _split(text: str, path: Path) -> tuple[str, str]:
    """Split a runbook's text into `(front matter without its fences, Markdown body)`.

    Lines end at LF or CRLF only, as in Markdown, not at Unicode line separators.

    Raises:
        RunbookError: the first line is not a fence, or no line closes the front matter. The error names the file `path`.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != FENCE:
        raise _READER.problem(path, 1, f"has no front matter; the first line of a runbook is {FENCE}")
    end = next((number for number, line in enumerate(lines) if number and line.rstrip() == FENCE), None)
    if end is None:
        raise _READER.problem(path, len(lines), f"its front matter has no end; a line {FENCE} closes it")
    return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]).strip()


def _explain(error: ValidationError, read: YamlSource) -> RunbookError:
    found: dict[str, list[str]] = {}
    errors = error.errors(include_url=False)
    outer = {item["loc"][:length] for item in errors for length in range(len(item["loc"]))}
    for item in errors:
        if item["type"] == "too_short" and item["loc"] in outer:
            # The list has entries, but none of them is valid.
            continue
        found.setdefault(read.place(_field(item["loc"])), []).append(_message(item))
    # pydantic reports a value of a union type once for each type of the union.
    problems = [
        (place, messages[0] if len(messages) == 1 else "must be true, false, a number or a text of 1,000 characters")
        for place, messages in found.items()
    ]
    first = ": ".join(problems[0])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return RunbookError(f"{first}{more}.", problems=tuple(problems[:_MAX_PROBLEMS]))


def _field(loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """Return the path of a field in the file: pydantic's `loc` without the type names that it adds for a union."""
    kinds = ("bool", "int", "float", "str", "constrained-str")
    return tuple(part for index, part in enumerate(loc) if index < len(loc) - 1 or part not in kinds)


def _message(item: Any) -> str:
    kind = item["type"]
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    if kind == "extra_forbidden":
        known = _known(item["loc"][:-1])
        return f"is not a known field{nearest(str(item['loc'][-1]), known) or _of(known)}"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "string_pattern_mismatch":
        return _RULES[item["ctx"]["pattern"]]
    message = plain_message(item["msg"])
    return message[:1].lower() + message[1:]


def _of(known: Sequence[str]) -> str:
    return f"; the fields are {', '.join(known)}"


def _known(loc: Sequence[str | int]) -> list[str]:
    parts: dict[str, type[_Part]] = {
        "requires": _Condition,
        "expects": _Expectation,
        "actions": _Action,
        "mended": _Condition,
    }
    model = parts.get(str(loc[0]), _FrontMatter) if loc else _FrontMatter
    return [found.alias or name for name, found in model.model_fields.items()]
