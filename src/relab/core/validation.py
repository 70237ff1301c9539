"""Convert the errors of a Pydantic model to the problems of an `InvalidInputError`."""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationError

_MAX_PROBLEMS: Final = 20
_CLASS_NAME: Final = re.compile(r" or instance of \w+")


def plain_message(message: str) -> str:
    """Return a message of Pydantic without its prefix for errors of validators, and without names of classes."""
    return _CLASS_NAME.sub("", message.removeprefix("Value error, "))


def problems_of(error: ValidationError, *, root: str) -> tuple[tuple[str, str], ...]:
    """Return the first 20 problems as `(dotted field, message)` pairs, for `InvalidInputError.problems`.

    Args:
        error: the error; it has at least one problem.
        root: the name of the whole value, for problems that belong to no single field.
    """
    found = error.errors(include_url=False, include_input=False)[:_MAX_PROBLEMS]
    return tuple((".".join(map(str, item["loc"])) or root, plain_message(item["msg"])) for item in found)
