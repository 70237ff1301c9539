"""Convert values that Python printed (`repr`) to JSON values.

Some instrumentations export the `repr` of arguments and results, instead of JSON.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Any, Final

MAX_CHARS = 200_000
MAX_DEPTH = 50
"""The maximum length and depth: longer texts, and values that are nested deeper, are not read."""

_MEMBER: Final = re.compile(r"<[A-Za-z_][\w.]*: ('[^'\\\n]*'|\"[^\"\\\n]*\"|-?\d+)>")
"""A member of an enumeration, such as `<ChatRole.USER: 'user'>`."""
_OPAQUE: Final = re.compile(r"<[A-Za-z_][\w.]*(?: [^<>\n]*)? at 0x[0-9a-fA-F]+>")
"""An object that prints only its address."""


def read_printed(text: str) -> Any:
    """Return, as a JSON value, the value whose `repr` is `text`. Nothing in the text is executed.

    - An object `Name(field=value)` becomes a dictionary of its fields; arguments without a name are left out.
    - A member of an enumeration becomes its value.
    - An object that prints only its address becomes None.
    - Tuples and sets become lists, and bytes become text.
    - Names such as `inf` and `nan`, and constants that JSON does not have (complex numbers, `...`), become None.
    - A number beyond the range of a double, such as `1e999`, becomes the text `inf`; a negative one becomes None.

    Return None if the text is no Python expression, is longer than `MAX_CHARS`, or is nested deeper than `MAX_DEPTH`.
    """
    if len(text) > MAX_CHARS:
        return None
    plain = _OPAQUE.sub("None", _MEMBER.sub(r"\1", text))
    try:
        return _value(_parsed(plain).body, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # If an instrumentation cut the text, it is no valid expression.
        return None


def _parsed(text: str) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except SystemError:
        # CPython before 3.11.8 raises it when garbage is collected meanwhile and a finaliser parses source too, for
        # example one that logs a traceback (gh-106905). The garbage is gone now.
        return ast.parse(text, mode="eval")


def _value(node: ast.expr, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(item, depth + 1) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_constant(key.value): _value(value, depth + 1) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.Call):
        return {word.arg: _value(word.value, depth + 1) for word in node.keywords if word.arg is not None}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand, depth + 1)
        return -inner if isinstance(inner, int | float) else None
    return None


def _constant(value: Any) -> Any:
    """Return a constant of Python as a JSON value.

    Bytes and infinity become text. Other constants that JSON does not have become None.
    """
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        # An escape in the text may stand for a lone surrogate, which JSON cannot encode.
        return value.encode(errors="replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, int) else None
