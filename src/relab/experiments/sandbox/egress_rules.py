"""The allowlist of a sandbox's network: parse its rules, and recognize special IP addresses.

Special addresses are loopback, link-local and cloud metadata addresses, for example. A rule for a host name does not
permit them, even if the name resolves to them. Only a rule for `localhost` permits the loopback addresses.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

LOCALHOST: Final = "localhost"
"""The one name that always means the loopback addresses (RFC 6761, section 6.3)."""
DEFAULT_PORTS: Final = frozenset((80, 443))
_METADATA: Final = frozenset(
    ipaddress.ip_address(address) for address in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
)
"""Metadata addresses at which clouds hand out credentials, in addition to 169.254.169.254, which is link-local."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._*-]{1,253}))(?::(?P<port>\d{1,5}))?"
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class EgressRule:
    """A rule of the allowlist: one host that trials may reach.

    Attributes:
        host: a name (`example.com`), all names below a name (`*.example.com`), or an address.
        port: the permitted port; None permits the ports 80 and 443.
    """

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> EgressRule:
        """Parse a rule such as `example.com`, `*.example.com`, `example.com:8443`, `10.0.0.1` or `[::1]:80`.

        Raises:
            ValueError: the text has none of these forms.
        """
        found = split_authority(text.strip())
        if found is None or "*" in found[0].removeprefix("*."):
            raise ValueError(f"{text!r} is no host: a name, *.name or an address, with :port if it is not 80 or 443")
        return cls(*found)

    def covers(self, host: str, port: int) -> bool:
        """Return whether this rule permits connections to the host and port."""
        if port not in (DEFAULT_PORTS if self.port is None else {self.port}):
            return False
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def loopback_places(self) -> list[tuple[str, int]]:
        """Return the `(address, port)` pairs of the loopback addresses that this rule allows connections to.

        Programs connect to loopback addresses directly, without the configured proxy. So the runner must listen at each
        of these addresses inside the sandbox, and forward connections to the same address of this machine.

        `localhost` stands for 127.0.0.1 here. The list is empty if the rule's host is neither `localhost` nor a
        loopback address.
        """
        # Programs connect to loopback addresses without a proxy.
        address = address_of("127.0.0.1" if self.host == LOCALHOST else self.host)
        if address is None or not address.is_loopback:
            return []
        ports = sorted(DEFAULT_PORTS) if self.port is None else [self.port]
        return [(str(address), port) for port in ports]


def split_authority(text: str) -> tuple[str, int | None] | None:
    """Split `host[:port]` into host (in lower case) and port (None if missing); return None for any other text."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65_536:
        return None
    host = (found["v6"] or found["name"]).lower().rstrip(".")
    address = address_of(host)
    return (str(address) if address is not None else host, port) if host else None


def address_of(text: str) -> IpAddress | None:
    """Parse an IP address, ignoring a zone after `%`; return None for a name."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def is_special(address: IpAddress) -> bool:
    """Return whether an address is loopback, link-local, multicast, unspecified, reserved, or a cloud metadata address.

    IPv4 addresses inside IPv6 addresses (mapped, 6to4, NAT64) are checked as IPv4.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_special(inner)
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or address in _METADATA
    )
