"""The types of the values of flags; check whether a JSON value has a type, and whether two scalars are equal."""

from __future__ import annotations

import sys
from typing import Literal

from relab.core.json import is_number

ValueType = Literal["boolean", "string", "number", "object"]


def fits(value: object, value_type: ValueType) -> bool:
    """Return whether a JSON value has the given type; a number must also fit into a double."""
    if value_type == "boolean":
        return isinstance(value, bool)
    if value_type == "number":
        return is_number(value) and abs(value) <= sys.float_info.max
    return isinstance(value, str if value_type == "string" else dict)


def is_scalar(value: object) -> bool:
    """Return whether a value is a text, a finite number or a boolean."""
    return fits(value, "string") or fits(value, "number") or fits(value, "boolean")


def same(one: object, other: object) -> bool:
    """Return whether two scalars are equal. 1 and 1.0 are equal; 1 and true are not, and 1 and the text "1" are not."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
