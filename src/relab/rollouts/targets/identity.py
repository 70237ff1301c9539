"""Derive the name of flags from the URL at which they are changed.

Different spellings of a URL give the same name. Rollouts lease flags by this name, so the flags have only one lease.
"""

from __future__ import annotations

import hashlib
import posixpath
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1"})


def flag_identity(url: str) -> str:
    """Return a name for the flags that are changed at `url`: the URL in a normal form.

    URLs with the same scheme, host, port, path and query have the same name, for example with and without the default
    port. A digest replaces the query, because a query may contain a credential.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if host in _THIS_MACHINE:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
    # The query may hold a credential, and names are shown.
    query = "" if not parts.query else f"?{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}"
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}{quote(path, safe='/$')}{query}"
