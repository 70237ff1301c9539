"""Field types that validate the URLs in plans.

A URL must consist of visible ASCII characters, because reports and shell commands show it.
"""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

_VISIBLE: Final = re.compile(r"[!-~]*")
"""Visible ASCII characters; `urlsplit` drops line ends without an error."""


def _require_visible(text: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise ValueError("must have visible ASCII characters only; write others as %XX")
    return text


def _check_url(url: str) -> str:
    parts = urlsplit(_require_visible(url))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be http://HOST[:PORT]/PATH or https://…")
    if parts.username is not None:
        raise ValueError("must be without a user name; give an Authorization header")
    _ = parts.port  # raises for an invalid port
    return url


def _check_base(url: str) -> str:
    parts = urlsplit(_check_url(url))
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment")
    return url.rstrip("/")


HttpUrl = Annotated[str, Field(max_length=2_000), AfterValidator(_check_url)]
"""An HTTP URL of a plan."""
BaseUrl = Annotated[str, Field(max_length=2_000), AfterValidator(_check_base)]
"""An HTTP URL that paths are appended to; it is without a slash at its end."""
UrlPath = Annotated[str, Field(pattern=r"^/", max_length=2_000), AfterValidator(_require_visible)]
"""A path below a `BaseUrl`."""
