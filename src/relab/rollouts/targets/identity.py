"""The identity of flags that are changed over HTTP: one target has one lease, however its URL is written."""

from __future__ import annotations

import hashlib
import posixpath
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1"})


def flag_identity(url: str) -> str:
    """Return the name of the flags that are changed by requests to `url`: the normal form of this URL.

    The normal form has the host in lower case, `localhost` instead of 127.0.0.1 and ::1, always a port, and a path
    without superfluous slashes, dots and escapes. The query may hold a credential and names are shown, so a digest
    replaces the query.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if host in _THIS_MACHINE:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
    query = "" if not parts.query else f"?{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}"
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}{quote(path, safe='/$')}{query}"
