"""Escape control characters in texts for people, so that a terminal shows them instead of executing them."""

from __future__ import annotations

from typing import Final

_C1: Final = range(0x7F, 0xA0)
_BIDI: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
"""Characters that make a terminal show text in another order."""
_SEPARATORS: Final = (0x2028, 0x2029)
"""Characters that some terminals and programs treat as line ends."""
SURROGATES: Final = range(0xD800, 0xE000)
"""Stand for bytes of file names and arguments that are not UTF-8; such a byte could begin a control sequence."""
_TEXT: Final = {code: f"\\x{code:02x}" for code in (*range(32), *_C1) if chr(code) not in "\n\t"} | {
    code: f"\\u{code:04x}" for code in (*_BIDI, *_SEPARATORS, *SURROGATES)
}
_JSON: Final = {code: f"\\u{code:04x}" for code in (*_C1, *_BIDI, *_SEPARATORS, *SURROGATES)}


def escape_text(text: str) -> str:
    """Return a text with its control characters replaced by their hexadecimal codes; line feeds and tabs stay."""
    return text.translate(_TEXT)


def escape_json(text: str) -> str:
    """Replace the control characters in a JSON text by JSON escapes; the text still represents the same value.

    Control characters below 0x20 are not replaced, because `json.dumps` has already escaped them.
    """
    return text.translate(_JSON)
