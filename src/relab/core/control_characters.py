"""Escape control characters in texts for people, so that a terminal shows them instead of executing them."""

from __future__ import annotations

import re
from typing import Final

_C0: Final = r"\x00-\x08\x0b-\x1f"
"""The ASCII control characters except for tabs and line feeds."""
_C1: Final = r"\x7f-\x9f"
_BIDI: Final = r"\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c"
"""Characters that make a terminal show text in another order."""
_SEPARATORS: Final = r"\u2028\u2029"
"""Characters that some terminals and programs treat as line ends."""
SURROGATES: Final = range(0xD800, 0xE000)
"""Stand for bytes of file names and arguments that are not UTF-8; such a byte could begin a control sequence."""
_BEYOND_C0: Final = rf"{_C1}{_BIDI}{_SEPARATORS}\ud800-\udfff"
_TEXT: Final = re.compile(f"[{_C0}{_BEYOND_C0}]")
_JSON: Final = re.compile(f"[{_BEYOND_C0}]")


def escape_text(text: str) -> str:
    """Return a text with its control characters replaced by their hexadecimal codes; line feeds and tabs stay."""
    return _TEXT.sub(_code, text)


def escape_json(text: str) -> str:
    """Replace the control characters in a JSON text by JSON escapes; the text still represents the same value.

    Control characters below 0x20 are not replaced, because `json.dumps` has already escaped them.
    """
    return _JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
