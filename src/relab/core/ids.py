"""Identifiers: relab generates UUIDv7; identifiers chosen by users are validated text."""

from __future__ import annotations

import re
from typing import Annotated

import uuid_utils
from pydantic import AfterValidator, Field

MAX_ID_LENGTH = 200
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")


def new_id() -> str:
    """Return a new UUIDv7 as text: unique, and sortable by creation time."""
    return str(uuid_utils.uuid7())


def check_id(value: str) -> str:
    """Return `value` if it can be used as an id, including in URLs.

    Raises:
        ValueError: the value is empty, longer than 200 characters, `.` or `..`, or contains a slash or a control
            character.
    """
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        raise ValueError(f"an id has 1 to {MAX_ID_LENGTH} characters, not {len(value)}")
    if "/" in value:
        raise ValueError("an id must not contain '/'")
    if value in {".", ".."}:
        raise ValueError(f"{value!r} cannot be an id: URLs cannot carry it")
    if _CONTROL_CHARACTER.search(value):
        raise ValueError("an id must not contain control characters")
    return value


ExternalId = Annotated[
    str,
    AfterValidator(check_id),
    Field(
        json_schema_extra={
            "minLength": 1,
            "maxLength": MAX_ID_LENGTH,
            "pattern": r"^[^/\u0000-\u001f\u007f-\u009f]+$",
        }
    ),
]
"""An id chosen by a user: 1 to 200 characters, no slash, no control characters."""
