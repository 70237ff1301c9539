"""JSON paths in the syntax of chaostoolkit's library (jsonpath2), limited to the part that scenarios need.

Supported are `$`, `.name`, `["name"]`, `.*`, `[*]`, `[2]`, `[-1]` and filters, for example
`[?(@.error_rate < 1 and @.state = "up")]`. A filter tests each value that the path before it selects, not the items of
this value; `@` is the tested value. Operators are `=`, `!=`, `<`, `<=`, `>`, `>=`, `and`, `or`.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Step = Callable[[Any], list[Any]]
Test = Callable[[Any], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>\[\?\(|\)\]|<=|>=|!=|\.\.|[$@.\[\]*=<>()])
    )""",
    re.VERBOSE,
)
_ORDERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS: Final = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed JSON path.

    Attributes:
        steps: one function for each segment of the path. It takes a value, and returns the list of values that the
            segment selects in it.
    """

    steps: tuple[Step, ...]

    def find(self, value: Any) -> list[Any]:
        """Return all values in `value` that match the path, in the order in which they occur in `value`."""
        return _walk(self.steps, value)


def parse_path(text: str) -> JsonPath:
    """Parse a JSON path and return it.

    Raises:
        ValueError: the text is not a path, or uses syntax that is not supported.
    """
    reader = _Reader(text)
    reader.take("$")
    steps = reader.steps()
    reader.end()
    return JsonPath(steps)


def _walk(steps: tuple[Step, ...], value: Any) -> list[Any]:
    found = [value]
    for step in steps:
        found = [each for one in found for each in step(one)]
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def steps(self) -> tuple[Step, ...]:
        found: list[Step] = []
        while self._peek() in {".", "[", "[?("}:
            mark = self._next()
            if mark == ".":
                found.append(self._member())
            elif mark == "[":
                found.append(self._subscript())
                self.take("]")
            else:
                test = self._either()
                self.take(")]")
                found.append(_kept(test))
        return tuple(found)

    def take(self, mark: str) -> None:
        if self._peek() != mark:
            raise self._wrong(f"{mark!r} is expected")
        self._at += 1

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._peek()!r} is not understood here")

    def _member(self) -> Step:
        if self._peek() == "*":
            self._at += 1
            return _children
        if self._token()[0] != "name":
            raise self._wrong("a name or * is expected")
        return _child(self._next())

    def _subscript(self) -> Step:
        kind, text = self._token()
        if text == "*":
            self._at += 1
            return _children
        if kind == "string":
            return _child(json.loads(self._next()))
        if kind == "number" and re.fullmatch(r"-?\d+", text):
            return _item(int(self._next()))
        raise self._wrong('a number, "a name" or * is expected')

    def _either(self) -> Test:
        tests = [self._both()]
        while self._peek() == "or":
            self._at += 1
            tests.append(self._both())
        return lambda value: any(test(value) for test in tests)

    def _both(self) -> Test:
        tests = [self._comparison()]
        while self._peek() == "and":
            self._at += 1
            tests.append(self._comparison())
        return lambda value: all(test(value) for test in tests)

    def _comparison(self) -> Test:
        self.take("@")
        steps = self.steps()
        mark = self._peek()
        if mark not in {"=", "!=", *_ORDERS}:
            return lambda value: bool(_walk(steps, value))
        self._at += 1
        compared, literal = _comparer(mark), self._literal()
        return lambda value: any(compared(found, literal) for found in _walk(steps, value))

    def _literal(self) -> Any:
        kind, token = self._token()
        if kind in {"string", "number"}:
            return json.loads(self._next())
        if token in _WORDS:
            return _WORDS[self._next()]
        raise self._wrong('a number, "a text", true, false or null is expected')

    def _token(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _peek(self) -> str:
        kind, token = self._token()
        return "" if kind == "string" else token

    def _next(self) -> str:
        token = self._token()[1]
        self._at += 1
        return token

    def _wrong(self, said: str) -> ValueError:
        return ValueError(f"the path {self._text!r}: {said} (part {self._at + 1})")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"the path {text!r}: {text[at:][:20]!r} is not understood here")
        found.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        at = match.end()
    return found


def _child(name: str) -> Step:
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else []


def _item(index: int) -> Step:
    return lambda value: [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else []


def _kept(test: Test) -> Step:
    return lambda value: [value] if test(value) else []


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _comparer(mark: str) -> Callable[[Any, Any], bool]:
    if mark in {"=", "!="}:
        return lambda found, literal: bool((found == literal) is (mark == "="))
    order = _ORDERS[mark]

    def compare(found: Any, literal: Any) -> bool:
        # A value that is not a number fails every order comparison.
        return isinstance(found, int | float) and isinstance(literal, int | float) and bool(order(found, literal))

    return compare
