"""Send requests to the target and the action server at the same time, with limits of time and size.

A missing answer is a value (`AbsenceReason`), never an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from relab.core.errors import InvalidInputError
from relab.core.json import parse_json
from relab.incidents.models import AbsenceReason
from relab.incidents.probes.models import ProbeRequest, ProbeResponse, ProbeServer
from relab.incidents.transport.bodies import BodyTooLongError, encoding_of, whole_body
from relab.incidents.transport.clients import SingleUseClients
from relab.incidents.transport.clock_skew import clock_skew_us

HEALTH_PATH: Final = "/api/v1/health"
METRICS_PATH: Final = "/api/v1/metrics"
"""The paths at which a target reports its health, and the figures of its requests."""
_HEALTHY: Final = "healthy"
_ATTEMPTS: Final = 3
"""How many connections are tried for a request: if one worker hangs, another connection may reach another worker."""
_NOT_OFFERED: Final = frozenset({404, 405, 410, 501})
"""The statuses of a server that does not offer a path: another attempt would get the same answer."""
_MAX_CONNECTIONS: Final = 32
_STOP_TIMEOUT_S: Final = 1.0


class ProbeTransport:
    """Sends read-only requests, each over a new connection; URLs in answers are never requested.

    Args:
        target_url: the base URL of the target.
        actions_url: the base URL of the action server.
        token: the token for the action server; it is sent only there.
        transports: replacements of the network, for tests.
    """

    def __init__(
        self,
        target_url: str,
        actions_url: str,
        *,
        token: str | None = None,
        transports: Mapping[ProbeServer, httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        # Compressed content may expand to any size, so it is neither requested nor read.
        plain = {"Accept-Encoding": "identity"}
        headers = {
            ProbeServer.TARGET: plain,
            ProbeServer.ACTIONS: {**plain, "Authorization": f"Bearer {token}"} if token else plain,
        }
        urls = {ProbeServer.TARGET: target_url, ProbeServer.ACTIONS: actions_url}
        # Requests have complete URLs: a client with a base URL would parse it for each request.
        self._urls = {base: str(httpx.URL(url)).rstrip("/") for base, url in urls.items()}
        # A reused connection would reach the same worker each time, even one that hangs.
        self._clients = {
            base: SingleUseClients(
                is_secure=url.startswith("https:"),
                headers=headers[base],
                # `_attempt` limits the time of a whole attempt.
                timeout=None,
                transport=(transports or {}).get(base),
            )
            for base, url in urls.items()
        }
        # Limit the concurrent requests: the target may be overloaded.
        self._turns = {base: asyncio.Semaphore(_MAX_CONNECTIONS) for base in ProbeServer}

    async def together(self, asks: Sequence[ProbeRequest], within_s: float) -> dict[ProbeRequest, list[ProbeResponse]]:
        """Send requests at the same time, each as often as its `times` says, and return the responses by request.

        Args:
            asks: the requests, without duplicates.
            within_s: the time limit of all requests together, in seconds.

        Returns:
            `{request: responses}`, with one response per send, in order. If the time limit ends a request early, its
                last response reports a time-out and has no JSON.
        """
        answered: dict[ProbeRequest, list[ProbeResponse]] = {ask: [] for ask in asks}
        tasks = [asyncio.create_task(self._ask_all(ask, answered[ask]), name=f"looks {ask}") for ask in asks]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=within_s)
        finally:
            # Also if this call is cancelled: `asyncio.wait` does not cancel the tasks.
            late = [task for task in tasks if not task.done()]
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_STOP_TIMEOUT_S)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
        for ask, found in answered.items():
            if len(found) < ask.times:
                found.append(_absent(ask, AbsenceReason.TIMED_OUT, f"no complete answer within {within_s:g} s"))
        return answered

    async def _ask_all(self, ask: ProbeRequest, found: list[ProbeResponse]) -> None:
        for number in range(ask.times):
            if number:
                await asyncio.sleep(ask.pause_s)
            found.append(await self._ask(ask))

    async def _ask(self, ask: ProbeRequest) -> ProbeResponse:
        """Send a request and return the first answer, or the last failure if all attempts fail.

        If a status such as 404 shows that the server does not offer the path, there is no further attempt. While an
        attempt is slow, another attempt is sent over a new connection ("hedging").
        """
        attempts: set[asyncio.Task[tuple[ProbeResponse, bool]]] = set()
        last: ProbeResponse | None = None
        next_after_s = ask.within_s / _ATTEMPTS
        until_s = time.monotonic() + ask.within_s + next_after_s
        made = 0
        try:
            while time.monotonic() < until_s:
                if made < _ATTEMPTS:
                    attempts.add(asyncio.create_task(self._attempt(ask), name=f"look {ask}"))
                    made += 1
                elif not attempts:
                    break
                left_s = max(until_s - time.monotonic(), 0.0)
                done, attempts = await asyncio.wait(
                    attempts,
                    timeout=min(next_after_s, left_s) if made < _ATTEMPTS else left_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    last, is_final = task.result()
                    if is_final:
                        return last
        finally:
            for task in attempts:
                task.cancel()
            if attempts:
                await asyncio.wait(attempts)
        return last or _absent(ask, AbsenceReason.TIMED_OUT, f"no answer within {ask.within_s:g} s")

    async def _attempt(self, ask: ProbeRequest) -> tuple[ProbeResponse, bool]:
        """Send a request once; return the answer or the failure, and whether further attempts are useless."""
        try:
            async with asyncio.timeout(ask.within_s):
                status, raw, date = await self._read(ask)
        except (TimeoutError, httpx.TimeoutException):
            return _absent(ask, AbsenceReason.TIMED_OUT, f"no answer within {ask.within_s:g} s"), False
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return _absent(ask, AbsenceReason.REFUSED, f"{type(error).__name__}: {error}"[:200]), False
        document, problem = _document_of(ask, status, raw)
        if problem:
            return _absent(ask, AbsenceReason.UNREADABLE, problem), status in _NOT_OFFERED
        ahead_us = clock_skew_us(date, time.time_ns() // 1_000)
        return ProbeResponse(str(ask), document, at_s=time.monotonic(), ahead_us=ahead_us), True

    async def _read(self, ask: ProbeRequest) -> tuple[int, bytes | str, str | None]:
        """Send a request once; return the status, the body and the `Date` header of the response.

        The body is `bytes`. If the body is compressed or too long, the second value is a `str` with this reason.
        """
        async with (
            self._turns[ask.base],
            self._clients[ask.base].client() as client,
            client.stream("GET", f"{self._urls[ask.base]}/{ask.path.removeprefix('/')}") as response,
        ):
            date = response.headers.get("Date")
            if encoding := encoding_of(response):
                return response.status_code, f"the body is encoded as {encoding[:40]!r}, which was not requested", date
            try:
                return response.status_code, await whole_body(response), date
            except BodyTooLongError as error:
                return response.status_code, str(error), date


def _document_of(ask: ProbeRequest, status: int, raw: bytes | str) -> tuple[Any, str]:
    """Return the JSON of an answer and an empty text; if the answer is not usable, return None and the reason.

    Args:
        ask: the request.
        status: the status of the answer.
        raw: the body of the answer, or the reason why it was not read.
    """
    is_ok = status == httpx.codes.OK
    refused = f"answered {status}"
    if not is_ok and not (httpx.codes.is_server_error(status) and ask.path == HEALTH_PATH):
        return None, refused
    if isinstance(raw, str):
        return None, raw if is_ok else refused
    try:
        document = parse_json(raw)
    except InvalidInputError as error:
        return None, error.message[:200] if is_ok else refused
    return (document, "") if is_ok or _reports_bad_health(document) else (None, refused)


def _reports_bad_health(document: Any) -> bool:
    """Return whether the JSON of an answer is a target's own report that it is not healthy.

    Such a report often has the status 503. The field `health_status` distinguishes it from another error with this
    status, such as the error page of a proxy.
    """
    said = document.get("health_status") if isinstance(document, Mapping) else None
    return isinstance(said, str) and said not in {"", _HEALTHY}


def _absent(ask: ProbeRequest, absence: AbsenceReason, reason: str) -> ProbeResponse:
    return ProbeResponse(str(ask), None, absence, reason, at_s=time.monotonic())
