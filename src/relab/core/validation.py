"""Convert the errors of a Pydantic model to the problems of an `InvalidInputError`."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

_MAX_PROBLEMS: Final = 20


def problems_of(error: ValidationError, *, root: str) -> tuple[tuple[str, str], ...]:
    """Return the first 20 problems as `(dotted field, message)` pairs, for `InvalidInputError.problems`.

    Args:
        error: the error; it has at least one problem.
        root: the name of the whole value, for problems that belong to no single field.
    """
    found = error.errors(include_url=False, include_input=False)[:_MAX_PROBLEMS]
    return tuple((".".join(map(str, item["loc"])) or root, item["msg"]) for item in found)
