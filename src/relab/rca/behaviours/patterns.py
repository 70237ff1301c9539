"""Regular expressions whose time is linear in the length of the text, for any expression and any text.

They run on the Rust crate `regex`, which pydantic contains. It has no backreferences and no look-around, and it limits
the size of a compiled expression. Python's own engine could take exponential time for expressions such as `(a+)+$`.
"""

from __future__ import annotations

import functools
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import SchemaError, SchemaValidator, core_schema

MAX_PATTERN_CHARS: Final = 1_000
MAX_TEXT_CHARS: Final = 200_000
"""Of a longer text, only this number of characters is searched."""


def check_pattern(pattern: str) -> str:
    """Return the pattern if it is a valid regular expression.

    Raises:
        ValueError: it cannot be compiled; the message says why.
    """
    try:
        _compiled(pattern)
    except SchemaError as error:
        lines = str(error).splitlines()
        said = lines[-1].strip().removeprefix("error: ").removeprefix("SchemaError: ")
        raise ValueError(f"is not a regular expression of linear time: {said}") from error
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_CHARS), AfterValidator(check_pattern)]
"""A regular expression in the syntax of the Rust crate `regex`, found anywhere in a text."""


def find(pattern: str, text: str | None) -> tuple[int, int] | None:
    """Return the position `(start, end)` of the first line in which a pattern matches.

    If the pattern matches the text but no single line, for example because the match extends over two lines, return the
    position of the text's first line. Return None without a match, or if the text is None or empty. Only the first
    `MAX_TEXT_CHARS` characters are searched.
    """
    if not text:
        # An empty text cannot be quoted.
        return None
    searched, compiled = text[:MAX_TEXT_CHARS], _compiled(pattern)
    if not compiled.isinstance_python(_encodable(searched)):
        return None
    start = 0
    for line in searched.split("\n"):
        if line and compiled.isinstance_python(_encodable(line)):
            return start, start + len(line)
        start += len(line) + 1
    return 0, max(searched.find("\n"), 1)


def _encodable(text: str) -> str:
    """Return the text with `?` in place of lone surrogates, which the engine for regular expressions rejects."""
    return text if text.isascii() else text.encode(errors="replace").decode()


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
