"""Recognise images, sounds, videos and files among the parts of a message; their content is no text to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_KINDS: Final = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "file": "file",
    "file_url": "file",
    "input_file": "file",
    "media": "file",
    "blob": "file",
    "uri": "file",
    "binary": "file",
}
_WRAPPED: Final = ("inline_data", "inlineData", "file_data", "fileData")
"""Parts of Gemini: the only key is the kind of the part."""
_TYPES: Final = ("modality", "mime_type", "mimeType", "media_type", "mediaType")
_KNOWN: Final = ("image", "audio", "video")


def medium_of(part: Mapping[str, Any], kind: str) -> str | None:
    """Return `image`, `audio`, `video` or `file` for a part that holds or names such a medium; None for other parts.

    Args:
        part: the part of a message.
        kind: the part's type, with `_` in place of `-`; empty if the part has none.
    """
    wrapped = next((part[key] for key in _WRAPPED if isinstance(part.get(key), dict)), None)
    found = _KINDS.get(kind) if wrapped is None else "file"
    if found != "file":
        return found
    named = part if wrapped is None else wrapped
    given = next((value for key in _TYPES if isinstance(value := named.get(key), str)), "")
    return next((known for known in _KNOWN if given.startswith(known)), found)
