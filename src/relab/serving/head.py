"""Check those parts of an HTTP request's head that the parser does not check: version, framing, host and target.

Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from relab.serving.limits import (
    BAD_FRAMING,
    BAD_TARGET,
    HEALTH_PATHS,
    HOST_DIFFERS,
    HOST_INVALID,
    HOST_MISSING,
    TOO_MANY_CONNECTIONS,
    UNKNOWN_CODING,
    UNKNOWN_VERSION,
    RequestRejectedError,
)

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def check_head(
    version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], *, is_health_only: bool = False
) -> None:
    """Check the head (version, target and headers) of an HTTP request.

    Args:
        version: the HTTP version, such as `1.1`.
        target: the request target, usually a path.
        headers: `(name, value)` pairs; the names must be in lower case.
        is_health_only: whether targets other than health checks are rejected.

    Raises:
        RequestRejectedError: the head is ambiguous or not supported, or the target is not allowed.
    """
    if version not in {"1.1", "1.0"}:
        raise RequestRejectedError(UNKNOWN_VERSION)
    hosts = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            if version == "1.0":
                raise RequestRejectedError(BAD_FRAMING)
            if value.strip().lower() != b"chunked":
                raise RequestRejectedError(UNKNOWN_CODING)
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise RequestRejectedError(HOST_MISSING)
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RequestRejectedError(HOST_INVALID)
    _check_target(target, hosts[0] if hosts else None)
    if is_health_only and target.partition(b"?")[0] not in HEALTH_PATHS:
        raise RequestRejectedError(TOO_MANY_CONNECTIONS)


def _check_target(target: bytes, host: bytes | None) -> None:
    if target[:1] == b"/" or target == b"*":
        return
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in {b"http", b"https"}:
        raise RequestRejectedError(BAD_TARGET)
    authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    # Access control uses the Host header, so the host in the target must equal it (RFC 9112, 3.2.2).
    if host is None or authority.lower() != host.lower():
        raise RequestRejectedError(HOST_DIFFERS)
