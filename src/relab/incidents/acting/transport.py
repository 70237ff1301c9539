"""Requests to an action server, each within a bounded time and size, and what became of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from relab.core.errors import ConfigurationError, MalformedBodyError
from relab.core.json import JsonValue, parse_json
from relab.incidents.acting.answers import Answer
from relab.incidents.acting.errors import DeniedError, OutcomeUnknownError, UnreachableError, UnreadableError
from relab.incidents.fresh_clients import FreshClients
from relab.incidents.server_clocks import ahead_us

MOST_BYTES: Final = 4 * 1024 * 1024
_TOKEN: Final = re.compile(r"[!-~]{1,1000}")
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout)


class Transport:
    """Sends requests to one action server, each by a connection of its own.

    Args:
        url: where it is.
        token: who asks; without one nothing is sent.
        connect_s: for how long a connection may take.
        transport: another one than the network, in tests.

    Raises:
        ConfigurationError: the address or the token cannot be one.
    """

    def __init__(
        self, url: str, token: str | None, *, connect_s: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise ConfigurationError(
                "The token for the action server is empty or has characters that no token has.",
                remedy="Ask for one where the action server runs.",
            )
        self._is_known = token is not None
        address = _address(url)
        # A proxy of the environment has no business with the token.
        self._clients = FreshClients(
            is_secure=address.scheme == "https",
            base_url=address,
            # `send` times the whole: each part of an answer may come in time, and the last one never.
            timeout=httpx.Timeout(None, connect=connect_s),
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            transport=transport,
        )

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, within_s: float, *, key: str | None = None
    ) -> Answer:
        """Send a request and return what was answered, whatever it says.

        Args:
            method: of HTTP.
            path: with the query.
            body: becomes JSON.
            within_s: for the whole, until the last byte of the answer.
            key: the `Idempotency-Key`.

        Raises:
            DeniedError: there is no token.
            UnreachableError: the request was not sent.
            OutcomeUnknownError: it was, perhaps, and no whole answer came.
            UnreadableError: the answer is too long, or no JSON although it says that all is well.
        """
        if not self._is_known:
            raise DeniedError(
                "There is no token for the action server: actions can neither be looked up nor done.",
                remedy="Set ACTION_SERVER_TOKEN.",
            )
        headers = {"Idempotency-Key": key} if key is not None else {}
        try:
            async with (
                asyncio.timeout(within_s),
                self._clients.one() as client,
                client.stream(method, path, json=body, headers=headers) as response,
            ):
                raw = await _body(response)
        except _NEVER_SENT as error:
            raise UnreachableError(f"The action server cannot be reached: {type(error).__name__}.") from error
        except TimeoutError as error:
            raise OutcomeUnknownError(f"The action server did not answer within {within_s:g} s.") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise OutcomeUnknownError(f"The connection to the action server broke: {type(error).__name__}.") from error
        return Answer(
            response.status_code,
            _document(response.status_code, raw),
            response.headers.get("Retry-After"),
            ahead_us(response.headers.get("Date"), time.time_ns() // 1_000),
        )


def _document(status: int, raw: bytes) -> JsonValue:
    try:
        return parse_json(raw)
    except MalformedBodyError as error:
        if status == 200:
            raise UnreadableError("The answer of the action server is no JSON.") from error
        # Whoever refuses without words, a proxy perhaps, is understood by the status.
        return None


def _address(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _no_address(url) from error
    if found.userinfo:
        # The client would send them in the place of the token.
        raise ConfigurationError(
            f"The address of the action server ({found.scheme}://…@{found.host}) carries a user or a password.",
            remedy="Leave them out of ACTION_SERVER_URL; ACTION_SERVER_TOKEN alone says who asks.",
        )
    if found.scheme not in {"http", "https"} or not found.host or found.query or found.fragment:
        raise _no_address(url)
    return found


def _no_address(url: str) -> ConfigurationError:
    # What stands before an @ may be a password.
    shown = f"…@{url.rpartition('@')[2]}" if "@" in url else url
    return ConfigurationError(
        f"{shown[:200]!r} is no address of an action server.", remedy="One is such as http://127.0.0.1:9000."
    )


async def _body(response: httpx.Response) -> bytes:
    found = bytearray()
    # As it comes: what is packed although nobody asked for that is not unpacked, to whatever size.
    async for part in response.aiter_raw():
        found += part
        if len(found) > MOST_BYTES:
            raise UnreadableError(f"The answer of the action server is longer than {MOST_BYTES:,} bytes.")
    return bytes(found)
