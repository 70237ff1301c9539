"""Opaque cursors for lists in pages. A cursor is the sort key of a page's last item, encoded as URL-safe text."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from relab.core.errors import InvalidInputError, MalformedBodyError
from relab.core.json import canonical_json, parse_json

Key = TypeVar("Key")

NUMBER_AND_ID: Final[TypeAdapter[tuple[int, str]]] = TypeAdapter(tuple[Annotated[int, Field(ge=0, lt=2**63)], str])
"""The shape of a sort key: a number, such as a time or a count, and an id.

The number is limited so that a forged cursor does not bring an out-of-range number to the database.
"""


class InvalidCursorError(InvalidInputError):
    """The text is not a cursor that the requested list has returned as `next_cursor`."""

    code = "invalid_cursor"


def encode_cursor(key: tuple[object, ...]) -> str:
    """Return the cursor for the sort key of a page's last item."""
    return base64.urlsafe_b64encode(canonical_json(list(key)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, shape: TypeAdapter[Key]) -> Key:
    """Return the sort key that `encode_cursor` encoded as `cursor`.

    `shape` is the type of the list's sort keys, such as `NUMBER_AND_ID`.

    Raises:
        InvalidCursorError: the text is not a cursor, or its sort key has another type.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        return shape.validate_python(tuple(parse_json(raw)), strict=True)  # type: ignore[arg-type]
    except (UnicodeEncodeError, binascii.Error, MalformedBodyError, ValidationError, TypeError) as error:
        raise InvalidCursorError(
            "cursor is not valid.",
            problems=(("cursor", "is not a cursor of this list"),),
            remedy="Use `next_cursor` of the page before, unchanged.",
        ) from error
