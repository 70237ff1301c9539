"""Send notices to receivers such as Slack, with limits of time and size, and interpret the responses."""

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
from relab.incidents.notices.message_text import one_line
from relab.incidents.notices.receivers import Receiver
from relab.incidents.transport.bodies import beginning_of_body
from relab.incidents.transport.clients import SingleUseClients

_MAX_RESPONSE_BYTES: Final = 4_096
_MAX_SHOWN: Final = 200
_LATER: Final = frozenset((408, 425, 429))
"""The 4xx status codes after which a request is retried; any other 4xx would be answered again."""


class DeliveryResult(StrEnum):
    """The result of sending a notice: accepted, to be retried later, or rejected for good."""

    TAKEN = "taken"
    LATER = "later"
    NEVER = "never"
    """The receiver rejected the notice, and would reject a retry, too."""


@dataclass(frozen=True, slots=True)
class DeliveryReply:
    """The result of sending a notice.

    Attributes:
        reason: why the receiver did not accept the notice, without secrets; empty if the notice was accepted.
        retry_after_s: the receiver's `Retry-After` in seconds; None if there is no valid one, or no retry.
    """

    result: DeliveryResult
    reason: str = ""
    retry_after_s: float | None = None


class NoticePoster:
    """Sends notices, each over a new connection.

    Args:
        clock: gives the current time, to interpret a date in `Retry-After`.
        within_s: the time limit until the last byte of the response, in seconds.

    Raises:
        ConfigurationError: the proxy or the certificates of the environment cannot be used.
    """

    def __init__(self, clock: Clock, *, within_s: float) -> None:
        self._clock = clock
        self._within_s = within_s
        try:
            # Receivers are on the Internet, so use the proxy of the environment. Follow no redirects: they could lead anywhere.
            self._clients = SingleUseClients(is_secure=True, trust_env=True, timeout=None)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            # Messages of other errors than ImportError may contain an address with a password.
            why = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}."
            raise ConfigurationError(
                f"Notices cannot be sent with the proxy or the certificates of the environment: {why}",
                remedy="Correct or unset HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR.",
            ) from None

    async def post(self, receiver: Receiver, body: Mapping[str, Any], *, key: str) -> DeliveryReply:
        """Send a notice and return the result; a failure is a reply, not an exception.

        Args:
            receiver: the receiver of the notice.
            body: sent as JSON.
            key: the idempotency key, by which receivers can recognize a retry.
        """
        headers = {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": key, "User-Agent": "relab"}
        url, content = receiver.url.get_secret_value(), canonical_json(body).encode()
        try:
            async with (
                asyncio.timeout(self._within_s),
                self._clients.client() as client,
                client.stream("POST", url, content=content, headers=headers) as response,
            ):
                said = b"" if response.is_success else await beginning_of_body(response, _MAX_RESPONSE_BYTES)
        except TimeoutError:
            return DeliveryReply(DeliveryResult.LATER, f"no answer within {self._within_s:g} s")
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            return DeliveryReply(
                DeliveryResult.LATER, one_line(receiver.without_secrets(f"{type(error).__name__}: {error}"), _MAX_SHOWN)
            )
        if response.is_success:
            return DeliveryReply(DeliveryResult.TAKEN)
        shown = one_line(receiver.without_secrets(said.decode("utf-8", "replace")), _MAX_SHOWN)
        reason = f"answered {response.status_code}{f': {shown}' if shown else ''}"
        if response.status_code >= 500 or response.status_code in _LATER:
            return DeliveryReply(DeliveryResult.LATER, reason, self._seconds(response.headers.get("Retry-After")))
        return DeliveryReply(DeliveryResult.NEVER, reason)

    def _seconds(self, header: str | None) -> float | None:
        """Return the seconds of a `Retry-After` header, which is a number or a date; None if it is neither."""
        if header is None:
            return None
        try:
            wanted = float(header)
        except ValueError:
            try:
                at = parsedate_to_datetime(header)
            except (ValueError, OverflowError):
                # A year or an offset from UTC may have any number of digits, and overflow.
                return None
            wanted = (at.replace(tzinfo=at.tzinfo or UTC) - EPOCH).total_seconds() - self._clock.now_us() / 1e6
        return max(wanted, 0.0) if math.isfinite(wanted) else None
