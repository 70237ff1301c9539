"""Let validators distinguish new input from documents that relab stored.

An earlier version may have stored a document that a newer rule rejects. The document must stay readable, so such a rule
applies to new input only.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationInfo

STORED: Final = {"is_stored": True}
"""The validation context of a stored document: `Model.model_validate(document, context=STORED)`.

A rule that rejects input that an earlier version accepted must not apply to it, so that it stays readable: such a rule
asks `is_stored` first.
"""


def is_stored(info: ValidationInfo) -> bool:
    """Return whether a validator that was called with `info` checks a stored document, and not new input."""
    return info.context == STORED
