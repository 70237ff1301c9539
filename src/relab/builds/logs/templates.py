"""Replace the numbers, digests and addresses in a line with `#`. The result is the template of the line.

If the logs of two builds contain the same message, both lines have the same template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from relab.builds.logs.models import BuildLine

_DIGITS: Final = re.compile(r"\d+")
_DIGEST: Final = re.compile(r"[a-f]{0,8}#[a-f#]{0,64}")


def template(text: str) -> str:
    """Return the text with `#` in place of each number, digest and address, and with single spaces."""
    return " ".join(mask_numbers(text).split())


def mask_numbers(text: str) -> str:
    """Return the text with `#` in place of each number, digest and address."""
    masked = _DIGITS.sub("#", text)
    # In two steps, because most lines have no number, and a pattern that starts with a digit is found fastest.
    return _DIGEST.sub("#", masked) if "#" in masked else masked


def templates(lines: Iterable[BuildLine]) -> frozenset[str]:
    """Return the distinct templates of the lines: their texts with `#` in place of numbers, digests and addresses."""
    return frozenset(template(line.text) for line in lines)
