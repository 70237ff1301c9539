"""Recognise images, sounds, videos and files in messages and tool results, and replace their data with short texts.

A timeline shows the text, such as `[image]`, because it cannot show the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import jiter

from relab.telemetry.otlp.text import as_text

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
        kind: the part's type, with `_` in place of `-`; empty if the part has no type.
    """
    wrapped = next((part[key] for key in _WRAPPED if isinstance(part.get(key), dict)), None)
    found = _KINDS.get(kind) if wrapped is None else "file"
    if found != "file":
        return found
    named = part if wrapped is None else wrapped
    given = next((value for key in _TYPES if isinstance(value := named.get(key), str)), "")
    return next((known for known in _KNOWN if given.startswith(known)), found)


_EMBEDDED: Final = re.compile(r"[\"']data[\"']|base64|\"(?:type\": ?\"text|isError|is_error|structuredContent)\"")
"""Signs of a text that may be JSON of a medium, of a part of a message or of a result of MCP."""
_PRINTED: Final = re.compile(r"type='(image|audio|file)' \w+='[^']{200,}'(?: \w+=(?:'[^']{0,1000}'|None))*")
"""A medium that a tool of the OpenAI Agents SDK returned, as Python prints it."""
_MIN_DATA_CHARS: Final = 200
"""A shorter value is shown: it may be the address or the name of a medium."""


def content_text(content: Any) -> str | None:
    """Return the content of a message or of a tool result as text; None if `content` is None.

    - A text part becomes its text.
    - A medium (image, sound, video or file) whose part contains the data becomes `[image]`, `[audio]`, `[video]` or
      `[file]`.
    - A list of such parts becomes one line for each part. This includes the content of an MCP result.
    - Any other text is returned unchanged, and any other value as JSON.
    """
    given = content
    if isinstance(content, str):
        if _EMBEDDED.search(content) is None:
            return content
        printed = _PRINTED.fullmatch(content)
        if printed is not None:
            return f"[{printed[1]}]"
        given = _parsed(content) if content.startswith(("{", "[")) else None
    if isinstance(given, dict) and isinstance(given.get("content"), list) and _is_mcp_result(given):
        return content_text(given["content"]) if given["content"] else as_text(content)
    parts = given if isinstance(given, list) else [given]
    has_medium = any(map(_medium_with_data, parts))
    is_plain = isinstance(content, list) or has_medium or all(map(_is_text, parts))
    # A list that has strings but no medium is a value of the tool, so it stays JSON.
    lines = [part if has_medium and isinstance(part, str) else _line(part) for part in parts] if is_plain else [None]
    return as_text(content) if None in lines or not parts else "\n".join(line for line in lines if line is not None)


_OF_RESULTS: Final = frozenset(("isError", "is_error", "structuredContent", "structured_content"))
_BESIDE_RESULTS: Final = frozenset(("content", "_meta", "meta", "data", "resultType", "result_type"))
_OF_TEXTS: Final = frozenset(("type", "text", "annotations", "meta", "_meta", "id"))


def _is_mcp_result(value: Mapping[str, Any]) -> bool:
    """Return whether an object that has a field `content` is an MCP tool result, and has no other fields than MCP's."""
    return not _OF_RESULTS.isdisjoint(value) and value.keys() <= _OF_RESULTS | _BESIDE_RESULTS


def _is_text(part: Any) -> bool:
    """Return whether a message part is a text part without other content."""
    return isinstance(part, dict) and part.get("type") == "text" and part.keys() <= _OF_TEXTS


def _line(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, dict) else None
    medium = _medium_with_data(part)
    return f"[{medium}]" if medium is not None else text if isinstance(text, str) else None


def _medium_with_data(part: Any) -> str | None:
    if not isinstance(part, dict):
        return None
    kind = part.get("type") or part.get("kind")
    medium = medium_of(part, kind.replace("-", "_") if isinstance(kind, str) else "")
    return medium if medium is not None and _holds_data(part) else None


def _holds_data(part: Mapping[str, Any]) -> bool:
    inner = [value for item in part.values() if isinstance(item, dict) for value in item.values()]
    return any(isinstance(value, str) and len(value) >= _MIN_DATA_CHARS for value in (*part.values(), *inner))


def _parsed(text: str) -> Any:
    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False)
    except ValueError:
        return None
