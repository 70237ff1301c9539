"""Find the client of a request: the peer of the connection, or the client that a trusted proxy names. Pure functions.

A proxy on the same machine connects from a loopback address even if its client is remote, so a request with any sign of
a proxy does not count as local. A proxy that adds no header is detected only if an operator lists it in
`RELAB_HTTP__TRUSTED_PROXIES`.
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
        # Content delivery networks and tunnels: Akamai, Cloudflare, Fastly, Fly; RFC 8586 defines CDN-Loop for all.
        "true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "cf-ray", "fastly-client-ip", "fly-client-ip", "cdn-loop",
    }
)  # fmt: skip
"""Lower-case names of the headers that proxies add; a program that connects directly does not send them."""
_FORWARDED_PREFIX: Final = "x-forwarded"
"""The prefix of X-Forwarded-For, -Host, -Proto, -Port, -Server, -Prefix, -Ssl and other headers that proxies invent."""

_MAX_HOPS: Final = 50
_PAIR: Final = re.compile(
    r'\s*([!#$%&\'*+.^_`|~\w-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*(?:(;)(?!\s*(?:,|$))|(?:;\s*)?(?:,|$))', re.ASCII
)
"""A pair of a `Forwarded` header. The last group is `;` if another pair of the same element follows.

RFC 7239 allows an element to end with a semicolon.
"""


def source_of(peer: str | None, headers: Iterable[tuple[str, str]], trusted: Sequence[Network] = ()) -> Source:
    """Return the source of a request: the address of its client, and whether a proxy forwarded it.

    Args:
        peer: the address of the other end of the connection; None for a Unix socket.
        headers: `(name, value)` pairs in the order of the request; names in any case.
        trusted: the networks of trusted proxies. If `peer` is not in them, the client is `peer`. If `peer` is in them,
            the client is the right-most address in the forwarding headers that is not a trusted proxy.
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
    """Return whether an address is a loopback address, such as 127.0.0.1; True for None (a Unix socket)."""
    if address is None:
        return True
    found = _parse(address)
    return found is not None and found.is_loopback


def _named_client(seen: dict[str, list[str]], trusted: Sequence[Network]) -> str | None:
    """Return the client address in `X-Forwarded-For` or `Forwarded`.

    None if both headers are missing, if they name different clients, or if the address cannot be read.

    Args:
        seen: the forwarding headers, `{name in lower case: values}`.
        trusted: the networks of trusted proxies; their own addresses are skipped.
    """
    named = []
    if "x-forwarded-for" in seen:
        named.append(_rightmost(_split(seen["x-forwarded-for"]), trusted))
    if "forwarded" in seen:
        named.append(_rightmost(_hops(", ".join(seen["forwarded"])), trusted))
    # A proxy that writes only one of the headers forwards the other from the client, which may have forged it.
    return named[0] if len(set(named)) == 1 else None


def _rightmost(hops: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """Return the client's address: the last address in `hops` that is not a trusted proxy.

    Only the last 50 hops are searched, from the end. If all of them are trusted proxies, return the first of them.
    Return None if `hops` is empty, or if the search meets a malformed address.
    """
    found = None
    for hop in reversed(hops[-_MAX_HOPS:]):
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
    """Return the `for` value of each element of a `Forwarded` header; "" for an element without `for`.

    Parsing stops at a malformed element: it becomes "", and the elements after it are left out.
    """
    hops: list[str] = []
    current, at = "", 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            return [*hops, ""]
        name, value, more = pair.groups()
        if name.lower() == "for":
            current = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if not more:
            hops.append(current)
            current = ""
        at = pair.end()
    return hops


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket reports an IPv4 client as an IPv4-mapped IPv6 address.
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(text: str | None, networks: Sequence[Network]) -> bool:
    address = _parse(text) if text is not None and networks else None
    return address is not None and any(address in network for network in networks)


def _shown(name: str) -> str:
    """Return a header's name in its usual spelling, such as `X-Real-Ip`, cut to 60 characters for a message."""
    return "-".join(part.capitalize() for part in name.split("-"))[:60]
