"""Parse strict JSON and write canonical JSON.

Strict parsing is necessary for safety. SQLite stores some values, such as NUL and infinity, that PostgreSQL rejects, so
they must not reach a database. With duplicate keys, two parsers may read different values from the same text.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import sys
from typing import TypeAlias, TypeGuard

import jiter

from relab.core.errors import MalformedBodyError

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"


# A number literal overflows a double only if it has an exponent of three digits or a very long mantissa.
# Two patterns, because each begins with one set of characters, which is searched twice as fast.
_LONG_EXPONENT = re.compile(rb"[eE]\+?\d{3}")
_LONG_DIGITS = re.compile(rb"\d\d{199}")
_MIN_LONG_DIGITS = 200
_NUL_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_MAX_VALUE = sys.float_info.max


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; True and False are not numbers, as in JSON."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_json(raw: bytes, what: str = "The body") -> JsonValue:
    """Parse UTF-8 JSON and return its value. The message of an error begins with `what`, the name of the source.

    These are rejected, besides invalid JSON:

    - nesting deeper than 200
    - duplicate keys
    - NUL characters and lone surrogates
    - NaN, infinities, and numbers beyond the range of a double

    Raises:
        MalformedBodyError: the JSON is rejected; the message names the position (line and column, or field).
    """
    try:
        value: JsonValue = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise MalformedBodyError(f"{what} is not valid JSON: {_fault(raw, error)}.") from error
    # Both checks visit the complete tree, so they run only if the bytes contain a sign of such a value.
    if b"\\u0000" in raw:
        _refuse_nul(value, what)
    if _LONG_EXPONENT.search(raw) or (len(raw) >= _MIN_LONG_DIGITS and _LONG_DIGITS.search(raw)):
        _refuse_infinity(value, what)
    return value


def replace_nul(raw: bytes) -> bytes:
    """Return JSON in which each escaped NUL character is replaced by U+FFFD, because `parse_json` rejects NUL.

    Use it where the sender of a rejected document would not correct it and send it again: the document would be lost.
    """
    # An even number of backslashes before the escape are escaped backslashes.
    return _NUL_ESCAPE.sub(rb"\1\\ufffd", raw) if b"\\u0000" in raw else raw


def _fault(raw: bytes, error: ValueError) -> str:
    """Return the parser's message about invalid JSON, or a clearer one about NaN, an infinity, or a byte order mark."""
    if raw.startswith(codecs.BOM_UTF8):
        return "a byte order mark (BOM) at line 1 column 1; save the text as UTF-8 without one"
    try:
        jiter.from_json(raw, allow_inf_nan=True, catch_duplicate_keys=True)
    except ValueError:
        return str(error)
    return f"NaN or an infinity at {str(error).partition(' at ')[2]}; write null in its place"


def parse_own_json(raw: bytes) -> JsonValue:
    """Parse JSON that relab has written, and return its value.

    Such JSON may be nested deeper than `parse_json` accepts, because relab puts accepted values into objects of its
    own.

    Raises:
        MalformedBodyError: the text is not valid JSON, for example because the file was truncated.
    """
    try:
        value: JsonValue = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError(f"The body is not valid JSON: {error}.") from error
    return value


def _walk(value: JsonValue) -> list[tuple[str, JsonValue]]:
    """Return all keys and all scalars in a JSON value, as `(dotted path, key)` and `(dotted path, scalar)` pairs.

    For a scalar, the path is its own. For a key, the path is that of the object with this key. An empty path is
    replaced by `body`.
    """
    found: list[tuple[str, JsonValue]] = []
    # Not recursive, because the value may be deeply nested.
    stack: list[tuple[str, JsonValue]] = [("", value)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            for key, child in node.items():
                found.append((path or "body", key))
                stack.append((f"{path}.{key}" if path else key, child))
        elif isinstance(node, list):
            stack.extend((f"{path}.{index}" if path else str(index), child) for index, child in enumerate(node))
        else:
            found.append((path or "body", node))
    return found


def _refuse_nul(value: JsonValue, what: str) -> None:
    for path, scalar in _walk(value):
        if isinstance(scalar, str) and "\x00" in scalar:
            field = path.replace("\x00", "\\u0000")
            raise MalformedBodyError(
                f"{what} holds a NUL character (\\u0000) in the field {field}.",
                problems=((field, "must not contain NUL (\\u0000)"),),
                remedy="Remove the character; no database can store it as text.",
            )


def _refuse_infinity(value: JsonValue, what: str) -> None:
    # A loop of its own: the paths that `_walk` returns would take twice the time, and memory for each scalar.
    stack: list[JsonValue] = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, (int, float)) and not -_MAX_VALUE <= node <= _MAX_VALUE:
            raise MalformedBodyError(
                f"{what} holds a number beyond the range of a double.",
                problems=(("body", "a number is out of range"),),
            )


def depth_of(value: object) -> int:
    """Return how deep lists and objects are nested in a JSON value: 0 for a scalar, 1 for a list of scalars."""
    depth, nodes = 0, [value]
    # Not recursive, because the value may be deeply nested.
    while containers := [node for node in nodes if isinstance(node, dict | list)]:
        depth += 1
        nodes = [child for node in containers for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def whole(value: object) -> object:
    """Return a float without a fraction as an int, because JSON has one number type; return other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def equal_json(first: JsonValue, second: JsonValue) -> bool:
    """Return whether two JSON values are equal. Numbers are compared by value: 1 equals 1.0, but not true or "1"."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(equal_json(first[name], second[name]) for name in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(equal_json, first, second))
    if is_number(first) or is_number(second):
        return is_number(first) and is_number(second) and first == second
    return first == second


def canonical_json(value: object) -> str:
    """Return compact JSON with sorted keys. Equal values give equal text, except for numbers: 1 and 1.0 give two texts.

    Raises:
        ValueError: the value contains NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 digest of a value's canonical JSON, as `sha256:` and hex."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()
