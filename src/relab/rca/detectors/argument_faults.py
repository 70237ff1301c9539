"""Read from a validation error which argument of a tool is wrong, and how.

The errors are those of pydantic (1 and 2, as text, JSON or Python's repr), JSON Schema validators, zod, DSPy, Python's
own `TypeError`, and those that tools write in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

MAX_TEXT_CHARS: Final = 20_000
MAX_ERROR_CHARS: Final = 1_500
MAX_PATHS: Final = 100
"""The maximum number of paths that are read; a hostile text may have thousands without an error around them."""
MAX_FAULTS: Final = 5
"""The maximum number of arguments that a report names; a validator may list hundreds."""


class FaultKind(StrEnum):
    """How an argument is wrong: missing, not allowed, or with a wrong value; or the called tool does not exist."""

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    INVALID = "invalid"
    UNKNOWN_TOOL = "unknown_tool"


@dataclass(frozen=True, slots=True)
class ArgumentFault:
    """A wrong argument that an error text names.

    Attributes:
        kind: how the argument is wrong.
        name: the name of the argument; for `UNKNOWN_TOOL`, the name of the tool. It has its path (`items.0.id`) only if
            the text writes it so. In an error as JSON or Python's repr, it is the last name of the path.
        start: the index in the text at which the name begins.
        end: the index in the text after the name.
        demand: the part of the text that states the expected value; None without one.
        is_nested: whether the argument is a part of another argument, such as `items.0.id` of `items`.
    """

    kind: FaultKind
    name: str
    start: int
    end: int
    demand: str | None = None
    is_nested: bool = False


_KINDS: Final[Mapping[str, FaultKind]] = {
    "missing": FaultKind.MISSING,
    "missing_argument": FaultKind.MISSING,
    "missing_keyword_only_argument": FaultKind.MISSING,
    "value_error.missing": FaultKind.MISSING,
    "extra_forbidden": FaultKind.UNEXPECTED,
    "unexpected_keyword_argument": FaultKind.UNEXPECTED,
    "unrecognized_keys": FaultKind.UNEXPECTED,
    "value_error.extra": FaultKind.UNEXPECTED,
}
_NAME: Final = r"[A-Za-z_$][\w$.\[\]-]{0,99}"
_QUOTED: Final = rf"['\"`](?P<name>{_NAME})['\"`]"

# pydantic: the argument on a line of its own, the message with its type on the next one.
_PYDANTIC: Final = re.compile(
    rf"^[ \t]*(?P<name>{_NAME})[ \t]*\r?\n[ \t]+(?P<demand>[^\n\[(]{{3,200}}?) ?[\[(]type=(?P<type>[\w.]{{1,60}})",
    re.MULTILINE,
)
# The fields of one error of a list, as JSON or as Python prints it.
_PATH: Final = re.compile(
    r"['\"](?:loc|path|instancePath)['\"]\s{0,20}:\s{0,20}[\[(]?\s{0,20}(?P<path>[^\s\])}][^\])}]{0,299}?)\s{0,20}(?:[\])]|,\s{0,20}['\"]\w{1,60}['\"]\s{0,20}:|\})"
)
_TYPE: Final = re.compile(r"['\"](?:type|code|keyword)['\"]\s*:\s*['\"](?P<type>[\w.]{1,60})['\"]")
_MESSAGE: Final = re.compile(
    r"['\"](?:msg|message)['\"]\s*:\s*(?P<quote>['\"])(?P<demand>(?:(?!(?P=quote)).){3,200})(?P=quote)"
)
_KEYS: Final = re.compile(r"['\"]keys['\"]\s*:\s*\[\s*['\"](?P<name>[^'\"]{1,100})['\"]")
_PART: Final = re.compile(r"['\"/]?([\w$-]{1,100})['\"]?")

# "Invalid tool input" names no tool.
_NO_TOOL: Final = r"(?!(?:name|input|argument|parameter|param|arg|call|schema|output|response|result|use|choice|type|config|definition|error|usage|message|id)s?\b)"

_WORDS: Final = (
    # Python
    (
        FaultKind.MISSING,
        re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (?P<names>'[^\n]{1,300})"),
    ),
    (FaultKind.UNEXPECTED, re.compile(rf"unexpected keyword arguments? {_QUOTED}")),
    # DSPy
    (FaultKind.UNEXPECTED, re.compile(rf"\bArg (?P<name>{_NAME}) is not in the tool's args")),
    (FaultKind.INVALID, re.compile(rf"\bArg (?P<name>{_NAME}) is invalid: (?P<demand>[^\n]{{3,200}})")),
    # JSON Schema validators
    (FaultKind.MISSING, re.compile(rf"{_QUOTED} is a required property")),
    (FaultKind.MISSING, re.compile(rf"(?:must have |missing )required property:? {_QUOTED}")),
    (FaultKind.UNEXPECTED, re.compile(rf"additional properties[^\n]{{0,60}}\({_QUOTED}", re.IGNORECASE)),
    (
        FaultKind.INVALID,
        re.compile(
            r"(?P<demand>is not of type ['\"]\w+['\"]|is not one of \[[^\]\n]{1,200}\])[\s\S]{0,600}?"
            rf"On instance\[['\"](?P<name>{_NAME})['\"]\]"
        ),
    ),
    # Tools and frameworks, in words
    (
        FaultKind.UNKNOWN_TOOL,
        re.compile(
            rf"(?:unknown|no such|invalid|unrecogni[sz]ed|undefined) (?:tool|function)(?: name)?(?:: ?['\"`]?| ['\"`]| {_NO_TOOL})(?P<name>{_NAME})"
            rf"|(?:tool|function) (?:named )?['\"`]?(?P<other>{_NAME})['\"`]? (?:was )?(?:not found|does not exist|is not (?:defined|registered|available|a valid))",
            re.IGNORECASE,
        ),
    ),
    (
        FaultKind.MISSING,
        re.compile(
            rf"(?:missing|lacks)(?: a| the)?(?: required| mandatory)? (?:field|argument|parameter|property|key|input)s?:? ['\"`]?(?P<name>{_NAME})"
            rf"|(?:field|argument|parameter|property|key|input) ['\"`]?(?P<other>{_NAME})['\"`]? (?:is|was) (?:a )?(?:required|missing|not provided|mandatory)"
            rf"|['\"`](?P<third>{_NAME})['\"`] (?:is|was) (?:a )?(?:required|missing|not provided|mandatory)",
            re.IGNORECASE,
        ),
    ),
    (
        FaultKind.UNEXPECTED,
        re.compile(
            rf"(?:unexpected|unknown|unrecogni[sz]ed|unsupported) (?:field|argument|parameter|property|key|input)s?:? ['\"`]?(?P<name>{_NAME})",
            re.IGNORECASE,
        ),
    ),
    (
        FaultKind.INVALID,
        re.compile(
            rf"(?:field|argument|parameter|property|key|input) ['\"`]?(?P<name>{_NAME})['\"`]? (?P<demand>must be [^\n.;]{{2,100}})"
            rf"|invalid (?:value|type) for ['\"`]?(?P<other>{_NAME})['\"`]?",
            re.IGNORECASE,
        ),
    ),
)
_WHOLE: Final = frozenset(("args", "arguments", "body", "input", "kwargs", "query", "path"))
"""The first part of a path that stands for all arguments, as in FastAPI's `["body", "city"]`."""
_NO_NAMES: Final = frozenset(
    ("is", "was", "are", "for", "in", "the", "and", "not", "or", "to", "of", "error", "required", "missing")
)
_UNDEFINED: Final = re.compile(r"received undefined|\bRequired\b|field required", re.IGNORECASE)


def argument_faults(text: str) -> list[ArgumentFault]:
    """Return the wrong arguments that an error text names: at most `MAX_FAULTS`, and each name once.

    Only the first `MAX_TEXT_CHARS` characters are read.
    """
    text = text[:MAX_TEXT_CHARS]
    for read in (_pydantic, _objects, _sentences):
        found: dict[str, ArgumentFault] = {}
        for fault in read(text):
            found.setdefault(fault.name, fault)
            if len(found) == MAX_FAULTS:
                break
        if found:
            return list(found.values())
    return []


def _pydantic(text: str) -> Iterator[ArgumentFault]:
    for match in _PYDANTIC.finditer(text):
        kind = _KINDS.get(match["type"], FaultKind.INVALID)
        is_nested = _has_path(match["name"])
        yield ArgumentFault(kind, match["name"], *match.span("name"), match["demand"].strip(), is_nested)


def _has_path(name: str) -> bool:
    return "." in name or "[" in name


def _objects(text: str) -> Iterator[ArgumentFault]:
    paths = list(islice(_PATH.finditer(text), MAX_PATHS))
    for number, path in enumerate(paths):
        # The fields of an error are around its path: from the brace before it to that of the next error.
        earliest, last = max(path.start() - MAX_ERROR_CHARS, 0), path.end() + MAX_ERROR_CHARS
        first = max(text.rfind("{", earliest, path.start()), earliest)
        after = text.rfind("{", path.end(), paths[number + 1].start()) if number + 1 < len(paths) else -1
        around = text[first : min(after, last) if after >= 0 else last]
        keys = _KEYS.search(around)
        if keys is not None:
            start, end = keys.span("name")
            yield ArgumentFault(FaultKind.UNEXPECTED, keys["name"], first + start, first + end)
            continue
        type_, message = _TYPE.search(around), _MESSAGE.search(around)
        parts = list(_PART.finditer(path["path"]))
        if not parts or (type_ is None and message is None):
            continue
        # The last part is the argument, and a number is its place in a list.
        named = next((part for part in reversed(parts) if not part[1].isdigit()), parts[-1])
        demand = message["demand"] if message is not None else None
        kind = _KINDS.get(type_["type"] if type_ is not None else "", FaultKind.INVALID)
        if kind is FaultKind.INVALID and demand is not None and _UNDEFINED.search(demand):
            kind = FaultKind.MISSING
        start = path.start("path") + named.start(1)
        is_nested = len(parts) > 1 + (parts[0][1] in _WHOLE)
        yield ArgumentFault(kind, named[1], start, start + len(named[1]), demand, is_nested)


def _sentences(text: str) -> Iterator[ArgumentFault]:
    for kind, pattern in _WORDS:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            if groups.get("names") is not None:
                yield from _list_of_names(kind, match)
                continue
            group = next((name for name in ("name", "other", "third") if groups.get(name)), None)
            if group is not None and match[group].lower() not in _NO_NAMES:
                start = match.start(group)
                name = match[group].rstrip(".")
                is_nested = kind is not FaultKind.UNKNOWN_TOOL and _has_path(name)
                yield ArgumentFault(kind, name, start, start + len(name), groups.get("demand"), is_nested)


def _list_of_names(kind: FaultKind, match: re.Match[str]) -> Iterator[ArgumentFault]:
    for name in re.finditer(r"'([^']{1,100})'", match["names"]):
        start = match.start("names") + name.start(1)
        yield ArgumentFault(kind, name[1], start, start + len(name[1]))
