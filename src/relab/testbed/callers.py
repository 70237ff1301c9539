"""Check requests without a token: programs on this machine may send such requests, but web pages may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relab.core.errors import ForbiddenError

OWN_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine in a `Host` header. A page can use another name that resolves to a loopback address."""


class PageRefusedError(ForbiddenError):
    """A request is rejected, because it has no token and may come from a web page.

    The request has headers that browsers send, or a `Host` header that does not name this machine.
    """

    code = "page_refused"


def refuse_pages(headers: Mapping[str, str], *, remedy: str) -> None:
    """Check that a request without a token comes from a program on this machine and not from a web page.

    Args:
        headers: the headers of the request, by their names in lower case.
        remedy: for the error: how the caller can send the request so that it is accepted.

    Raises:
        PageRefusedError: a web page sent the request, or the header `Host` does not name this machine.
    """
    # A page may use a host name that resolves to this machine, but cannot suppress the browser's own headers.
    host = headers.get("host", "").rpartition("@")[2].lower()
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    if name not in OWN_NAMES or "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        raise PageRefusedError("Only programs on this machine may send this request, not web pages.", remedy=remedy)
