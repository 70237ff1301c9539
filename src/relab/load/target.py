"""The target of a load: resolve its host once, check the addresses, and send only there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from relab.load.errors import RemoteTargetError, UnreachableTargetError

CONNECT_TIMEOUT_S = 3.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """The service that gets a load: its host name, its port, and the IP addresses of the name when the load begins."""

    host: str
    port: int
    addresses: tuple[str, ...]


async def find_target(url: str, *, allow_remote: bool) -> Target:
    """Resolve the host name of a URL, and return it as the target of a load.

    Args:
        url: the URL of the service; without a port, the default port of its scheme is used.
        allow_remote: whether the target may be another machine.

    Raises:
        RemoteTargetError: an address of the host is not a loopback address, and `allow_remote` is False.
        UnreachableTargetError: the host name has no address.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableTargetError(f"{host!r} has no address: {error}.", remedy="Check the URL.") from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    remote = [address for address in addresses if not _is_here(address)]
    if remote and not allow_remote:
        raise RemoteTargetError(
            f"{host} is another machine ({remote[0]}); a load there may do harm.",
            remedy="If you may load this service, give --allow-remote.",
        )
    return Target(host, port, addresses)


async def check_listening(target: Target) -> None:
    """Check that the target accepts a connection: open one, and close it.

    Raises:
        UnreachableTargetError: no address of the target accepts a connection, each within three seconds.
    """
    reasons: list[str] = []
    for address in target.addresses:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, target.port)
        except TimeoutError:
            reasons.append(f"{address} does not answer within {CONNECT_TIMEOUT_S:g} s")
        except OSError as error:
            reasons.append(f"{address}: {error.strerror or error}")
        else:
            writer.close()
            return
    raise UnreachableTargetError(
        f"No server accepts connections at {target.host}:{target.port} ({'; '.join(reasons)}).",
        remedy="Start the service, or check host and port.",
    )


def _is_here(address: str) -> bool:
    # A link-local address ends with a percent sign and its interface.
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


class PinnedResolver(AbstractResolver):
    """A name resolver for aiohttp that returns only the addresses that the target had when the load began."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of the target, each with `port`, without a DNS query.

        With a `family` other than `AF_UNSPEC`, return only the addresses of this address family.

        Raises:
            OSError: `host` is not the target's name.
        """
        if host != self._target.host:
            raise OSError(f"{host} is not the target of this load")
        found = [(address, socket.AF_INET6 if ":" in address else socket.AF_INET) for address in self._target.addresses]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=int(socket.AI_NUMERICHOST)
            )
            for address, kind in found
            if family in {socket.AF_UNSPEC, kind}
        ]

    async def close(self) -> None:
        """Do nothing, because the resolver holds no resources."""
