"""Where a request comes from: directly from its peer, or through a proxy. Pure.

A proxy on the same machine connects from a loopback address whatever its own client is, so a request that shows any
sign of a proxy is not local. A proxy that adds no header can only be named by an operator (`RELAB_HTTP__TRUSTED_PROXIES`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from relab.access.models import Source

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

FORWARDING_HEADERS: Final = frozenset(
    {
        # RFC 7239 and RFC 9110.
        "forwarded", "via",
        # Proxies and load balancers: nginx, Apache, Envoy, Rackspace, F5, IIS.
        "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "x-remote-addr", "x-originating-ip",
        "x-proxyuser-ip", "x-original-forwarded-for", "x-original-host", "x-envoy-external-address", "x-proxied-by",
        # Content delivery networks and tunnels: Akamai, Cloudflare, Fastly, Fly, and what RFC 8586 has them all send.
        "true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "cf-ray", "fastly-client-ip", "fly-client-ip", "cdn-loop",
    }
)  # fmt: skip
"""Names of headers, in lower case, that proxies add and that a program which connects directly does not send."""
_FORWARDED_PREFIX: Final = "x-forwarded"
"""X-Forwarded-For, -Host, -Proto, -Port, -Server, -Prefix, -Ssl, and whatever a proxy makes up beside these."""

_MOST_HOPS: Final = 50
_PAIR: Final = re.compile(r'\s*([!#$%&\'*+.^_`|~\w-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*(;|,|$)', re.ASCII)


def source_of(peer: str | None, headers: Iterable[tuple[str, str]], trusted: Sequence[Network] = ()) -> Source:
    """Return where a request comes from.

    Args:
        peer: the address of the other end of the connection; None for a Unix socket.
        headers: names in any case, and values, in the order of the request.
        trusted: the proxies whose word about their client is taken: the right-most address that is not theirs.
    """
    seen: dict[str, list[str]] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in FORWARDING_HEADERS or lowered.startswith(_FORWARDED_PREFIX):
            seen.setdefault(lowered, []).append(value)
    sign = f"it has the header {_shown(next(iter(seen)))}" if seen else None
    if not _is_in(peer, trusted):
        return Source(peer, sign)
    return Source(_named_client(seen, trusted), sign or f"{peer} is in RELAB_HTTP__TRUSTED_PROXIES")


def is_loopback(address: str | None) -> bool:
    """Return whether an address is of this machine; so is a Unix socket (None), whose file permissions are the guard."""
    if address is None:
        return True
    found = _parse(address)
    return found is not None and found.is_loopback


def _named_client(seen: dict[str, list[str]], trusted: Sequence[Network]) -> str | None:
    """Return the client that the proxies name; None if they name none, or if the two headers contradict each other.

    A proxy that writes one of them hands the other one on as its client has sent it.
    """
    named = []
    if "x-forwarded-for" in seen:
        named.append(_rightmost(_split(seen["x-forwarded-for"]), trusted))
    if "forwarded" in seen:
        named.append(_rightmost(_hops(", ".join(seen["forwarded"])), trusted))
    return named[0] if len(set(named)) == 1 else None


def _rightmost(hops: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """Return the last address that is not a proxy's: everything before it was written by strangers."""
    found = None
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = _parse(_without_port(hop))
        if address is None:
            return None
        found = str(address)
        if not _is_in(found, trusted):
            return found
    return found


def _split(values: Sequence[str]) -> list[str]:
    return [item.strip() for item in ",".join(values).split(",")]


def _hops(text: str) -> list[str]:
    """Return the `for` of each element of a `Forwarded` header; "" where an element has none, or cannot be read."""
    hops: list[str] = []
    current, at = "", 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            return [*hops, ""]
        name, value, end = pair.groups()
        if name.lower() == "for":
            current = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if end != ";":
            hops.append(current)
            current = ""
        at = pair.end()
    return hops or [""]


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # What a socket of both families calls a client of the older one.
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(text: str | None, networks: Sequence[Network]) -> bool:
    address = _parse(text) if text is not None and networks else None
    return address is not None and any(address in network for network in networks)


def _shown(name: str) -> str:
    """Return a header's name as people write it, cut to a length fit for a message."""
    return "-".join(part.capitalize() for part in name.split("-"))[:60]
