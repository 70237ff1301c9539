"""Send requests to an action server, with limits on the time and size of each answer, and turn failures into errors."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from relab.core.errors import ConfigurationError, MalformedBodyError
from relab.core.json import JsonValue, parse_json
from relab.incidents.actions.errors import DeniedError, OutcomeUnknownError, UnreachableError, UnreadableError
from relab.incidents.actions.responses import ServerResponse
from relab.incidents.transport.bodies import BodyTooLongError, whole_body
from relab.incidents.transport.clients import SingleUseClients
from relab.incidents.transport.clock_skew import clock_skew_us

_TOKEN: Final = re.compile(r"[!-~]{1,1000}")
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout)


class Transport:
    """Sends requests to one action server (the service that executes repairs), each on a new connection.

    Args:
        url: the address of the server.
        token: the bearer token; if it is None, `send` raises `DeniedError`.
        connect_s: the time limit for a connection, in seconds.
        transport: replaces the network in tests.

    Raises:
        ConfigurationError: the address or the token is not valid.
    """

    def __init__(
        self, url: str, token: str | None, *, connect_s: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise ConfigurationError(
                "The token for the action server is empty or contains an invalid character.",
                remedy="Create one on the machine of the action server.",
            )
        self._is_known = token is not None
        address = _address(url)
        # A proxy from the environment must not see the token.
        self._clients = SingleUseClients(
            is_secure=address.scheme == "https",
            base_url=address,
            # `send` limits the total time: a time limit per read would not stop an answer that never ends.
            timeout=httpx.Timeout(None, connect=connect_s),
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            transport=transport,
        )

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, within_s: float, *, key: str | None = None
    ) -> ServerResponse:
        """Send a request to the action server and return the answer; an HTTP error status raises no exception.

        Args:
            method: the HTTP method.
            path: the path with the query.
            body: sent as JSON; None to send no body.
            within_s: the time limit until the last byte of the answer, in seconds.
            key: the `Idempotency-Key`; None to send none.

        Raises:
            DeniedError: there is no token.
            UnreachableError: the request was not sent.
            OutcomeUnknownError: the request may have been sent, but no complete answer came.
            UnreadableError: the answer is too long, or has status 200 and no JSON.
        """
        if not self._is_known:
            raise DeniedError(
                "There is no token for the action server: the responder cannot read or request actions.",
                remedy="Set ACTION_SERVER_TOKEN.",
            )
        headers = {"Idempotency-Key": key} if key is not None else {}
        try:
            async with (
                asyncio.timeout(within_s),
                self._clients.client() as client,
                client.stream(method, path, json=body, headers=headers) as response,
            ):
                raw = await whole_body(response)
        except BodyTooLongError as error:
            raise UnreadableError(f"The answer of the action server is too long: {error}.") from error
        except _NEVER_SENT as error:
            raise UnreachableError(f"The action server cannot be reached: {type(error).__name__}.") from error
        except TimeoutError as error:
            raise OutcomeUnknownError(f"The action server did not answer within {within_s:g} s.") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise OutcomeUnknownError(f"The connection to the action server broke: {type(error).__name__}.") from error
        return ServerResponse(
            response.status_code,
            _document(response.status_code, raw),
            response.headers.get("Retry-After"),
            clock_skew_us(response.headers.get("Date"), time.time_ns() // 1_000),
        )


def _document(status: int, raw: bytes) -> JsonValue:
    try:
        return parse_json(raw)
    except MalformedBodyError as error:
        if status == 200:
            raise UnreadableError("The answer of the action server is not JSON.") from error
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
            f"The address of the action server ({found.scheme}://…@{found.host}) contains a user or a password.",
            remedy="Remove them from ACTION_SERVER_URL; the responder authenticates with ACTION_SERVER_TOKEN only.",
        )
    if found.scheme not in {"http", "https"} or not found.host or found.query or found.fragment:
        raise _no_address(url)
    return found


def _no_address(url: str) -> ConfigurationError:
    # The text before an @ may be a password.
    shown = f"…@{url.rpartition('@')[2]}" if "@" in url else url
    return ConfigurationError(
        f"{shown[:200]!r} is not the address of an action server.", remedy="Write it as http://127.0.0.1:9000."
    )
