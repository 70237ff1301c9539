"""Which of several forms of an answer a client would rather have, by its `Accept` (RFC 9110, section 12.5.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence

MOST_RANGES = 50
"""Of a header; browsers send about eight."""


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type that is wanted most; the first one offered if none is, or all are alike.

    Args:
        accept: the header; None: the client says nothing.
        offered: media types such as `text/html`, the one that is given by default first.
    """
    ranges = [found for item in (accept or "").split(",")[:MOST_RANGES] if (found := _range(item)) is not None]
    # `max` keeps the first of those that are wanted alike.
    return max(offered, key=lambda media: _quality(media, ranges))


def _range(item: str) -> tuple[str, float] | None:
    """Return a media range and how much it is wanted; None if it is none."""
    media, *parameters = (part.strip().lower() for part in item.split(";"))
    if media.count("/") != 1:
        return None
    weights = [part.partition("=")[2] for part in parameters if part.partition("=")[0].strip() == "q"]
    try:
        quality = float(weights[0]) if weights else 1.0
    except ValueError:
        return None
    return media, quality if 0.0 <= quality <= 1.0 else 0.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return what the most specific range that fits says; 0 where none does."""
    for wanted in (media, f"{media.partition('/')[0]}/*", "*/*"):
        found = [quality for given, quality in ranges if given == wanted]
        if found:
            return found[0]
    return 0.0
