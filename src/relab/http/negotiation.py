"""Content negotiation by the `Accept` header (RFC 9110, section 12.5.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence

MAX_RANGES = 50
"""The maximum number of media ranges that are read from a header; browsers send about eight."""


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """Return the offered media type that the client prefers; the first one if the client has no preference.

    Args:
        accept: the value of the header `Accept`; None if the request has no such header.
        offered: media types such as `text/html`; the first one is the default.
    """
    ranges = [found for item in (accept or "").split(",")[:MAX_RANGES] if (found := _range(item)) is not None]
    # `max` returns the first of several equal ones.
    return max(offered, key=lambda media: _quality(media, ranges))


def _range(item: str) -> tuple[str, float] | None:
    """Parse `item`, one element of an `Accept` header; return `(media range, quality value from 0 to 1)`.

    Return None if the element is malformed. A quality value out of range counts as 0.
    """
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
    """Return the quality (preference, 0 to 1) that an `Accept` header gives to a media type; 0 without a match.

    Args:
        media: a media type such as `text/html`.
        ranges: `(media range, quality)` of the header; the most specific matching range decides.
    """
    for wanted in (media, f"{media.partition('/')[0]}/*", "*/*"):
        found = [quality for given, quality in ranges if given == wanted]
        if found:
            return found[0]
    return 0.0
