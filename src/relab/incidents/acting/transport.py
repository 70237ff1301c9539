"""Send requests to an action server, with a limit on the time and size of each, and classify their failures."""

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
    """Sends requests to one action server, each on a new connection.

    Args:
        url: the address of the server.
        token: the bearer token; without a token no request is sent.
        connect_s: the time limit for a connection.
        transport: replaces the network in tests.

    Raises:
        ConfigurationError: the address or the token is not valid.
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
        # A proxy from the environment must not see the token.
        self._clients = FreshClients(
            is_secure=address.scheme == "https",
            base_url=address,
            # `send` limits the total time: a time limit per read would not stop an answer that never ends.
            timeout=httpx.Timeout(None, connect=connect_s),
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            transport=transport,
        )

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, within_s: float, *, key: str | None = None
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Args:
            method: the HTTP method.
            path: the path with the query.
            body: is sent as JSON.
            within_s: the time limit until the last byte of the answer.
            key: the `Idempotency-Key`.

        Raises:
            DeniedError: there is no token.
            UnreachableError: the request was not sent.
            OutcomeUnknownError: the request may have been sent, but no complete answer came.
            UnreadableError: the answer is too long, or its status is 200 and its body is not JSON.
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
        # A refusal without JSON, for example from a proxy, is classified by its status.
        return None


def _address(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _no_address(url) from error
    if found.userinfo:
        # The client would send user and password instead of the token.
        raise ConfigurationError(
            f"The address of the action server ({found.scheme}://…@{found.host}) carries a user or a password.",
            remedy="Leave them out of ACTION_SERVER_URL; ACTION_SERVER_TOKEN alone says who asks.",
        )
    if found.scheme not in {"http", "https"} or not found.host or found.query or found.fragment:
        raise _no_address(url)
    return found


def _no_address(url: str) -> ConfigurationError:
    # The text before an @ may be a password.
    shown = f"…@{url.rpartition('@')[2]}" if "@" in url else url
    return ConfigurationError(
        f"{shown[:200]!r} is no address of an action server.", remedy="One is such as http://127.0.0.1:9000."
    )


async def _body(response: httpx.Response) -> bytes:
    found = bytearray()
    # Read raw bytes: decompressing an answer that is compressed without need could fill the memory.
    async for part in response.aiter_raw():
        found += part
        if len(found) > MOST_BYTES:
            raise UnreadableError(f"The answer of the action server is longer than {MOST_BYTES:,} bytes.")
    return bytes(found)
