"""The types of JSON values, as flags tell them apart."""

from __future__ import annotations

import sys
from typing import Literal, TypeGuard

ValueType = Literal["boolean", "string", "number", "object"]


def fits(value: object, value_type: ValueType) -> bool:
    """Return whether a value is of a type."""
    if value_type == "boolean":
        return isinstance(value, bool)
    if value_type == "number":
        return is_number(value) and abs(value) <= sys.float_info.max
    return isinstance(value, str if value_type == "string" else dict)


def is_scalar(value: object) -> bool:
    """Return whether a value is a text, a finite number or a boolean."""
    return fits(value, "string") or fits(value, "number") or fits(value, "boolean")


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number: in Python a boolean is one as well, to everybody else it is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: object, other: object) -> bool:
    """Return whether two scalars are the same: 1 is 1.0, and is neither true nor "1"."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
