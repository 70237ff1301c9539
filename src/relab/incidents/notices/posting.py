"""A request to a receiver of notices, within a bounded time and size, and what its answer means."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final

import httpx

from relab.core.clock import EPOCH, Clock
from relab.core.errors import ConfigurationError
from relab.core.json import canonical_json
from relab.incidents.fresh_clients import FreshClients
from relab.incidents.notices.receivers import Receiver
from relab.incidents.notices.texts import one_line

_MOST_READ: Final = 4_096
_MOST_SHOWN: Final = 200
_LATER: Final = frozenset((408, 425, 429))
"""Refusals that time changes; every other one of the fours is the same the next time."""


class Fate(StrEnum):
    """What became of a notice."""

    TAKEN = "taken"
    LATER = "later"
    NEVER = "never"
    """It is not taken, and the same again would not be."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request.

    Attributes:
        reason: why it was not taken; no secrets.
        retry_after_s: what the receiver asks for, if it does.
    """

    fate: Fate
    reason: str = ""
    retry_after_s: float | None = None


class Poster:
    """Sends notices, each by a connection of its own.

    Args:
        clock: some receivers say by a date when to come again.
        within_s: for the whole of a request, until the last byte of the answer.

    Raises:
        ConfigurationError: by the proxy or with the certificates that the environment names nothing can be sent.
    """

    def __init__(self, clock: Clock, *, within_s: float) -> None:
        self._clock = clock
        self._within_s = within_s
        try:
            # Receivers are out in the world: where a proxy leads there, it is used. What redirects could lead anywhere.
            self._clients = FreshClients(is_secure=True, trust_env=True, timeout=None)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            # Other words than those about what is not installed may repeat an address, and the password in it.
            why = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}."
            raise ConfigurationError(
                f"Notices cannot be sent by the proxy or with the certificates that the environment names: {why}",
                remedy="Mend or unset HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR.",
            ) from None

    async def post(self, receiver: Receiver, body: Mapping[str, Any], *, key: str) -> Reply:
        """Send a notice; whatever comes of it is a reply, and nothing is raised.

        Args:
            receiver: who is told.
            body: becomes JSON.
            key: the same for the same notice, for receivers that tell by it what they have already.
        """
        headers = {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": key, "User-Agent": "relab"}
        url, content = receiver.url.get_secret_value(), canonical_json(body).encode()
        try:
            async with (
                asyncio.timeout(self._within_s),
                self._clients.one() as client,
                client.stream("POST", url, content=content, headers=headers) as response,
            ):
                said = b"" if response.is_success else await _beginning(response)
        except TimeoutError:
            return Reply(Fate.LATER, f"no answer within {self._within_s:g} s")
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            return Reply(Fate.LATER, receiver.without_secrets(one_line(f"{type(error).__name__}: {error}", 200)))
        if response.is_success:
            return Reply(Fate.TAKEN)
        shown = one_line(receiver.without_secrets(said.decode("utf-8", "replace")), _MOST_SHOWN)
        reason = f"answered {response.status_code}{f': {shown}' if shown else ''}"
        if response.status_code >= 500 or response.status_code in _LATER:
            return Reply(Fate.LATER, reason, self._seconds(response.headers.get("Retry-After")))
        return Reply(Fate.NEVER, reason)

    def _seconds(self, header: str | None) -> float | None:
        """Return what a `Retry-After` asks for, which is seconds or a date; None if it is neither."""
        if header is None:
            return None
        try:
            wanted = float(header)
        except ValueError:
            try:
                at = parsedate_to_datetime(header)
            except (ValueError, OverflowError):
                # Years and offsets from UTC may have any number of digits.
                return None
            wanted = (at.replace(tzinfo=at.tzinfo or UTC) - EPOCH).total_seconds() - self._clock.now_us() / 1e6
        return max(wanted, 0.0) if math.isfinite(wanted) else None


async def _beginning(response: httpx.Response) -> bytes:
    found = bytearray()
    # As it comes: what is packed is not unpacked, to whatever size.
    async for part in response.aiter_raw():
        found += part
        if len(found) >= _MOST_READ:
            break
    return bytes(found[:_MOST_READ])
