"""The client of a supervisor's API on its Unix socket, for all processes that may open the socket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError
from relab.testbed.errors import NotAnsweringError, NotRunningError, StartError

_RESPONSE_TIMEOUT_S: Final = 60.0
_MAX_SHOWN: Final = 200
_KINDS: Final[Mapping[int, type[RelabError]]] = {404: NotFoundError, 409: ConflictError, 422: InvalidInputError}
"""Errors by HTTP status; any other status is an `UnavailableError`."""


class SupervisorClient:
    """A client of one supervisor. Close it, or use it as a context manager.

    Args:
        socket: the supervisor's socket, in the folder of the testbed.
        within_s: time limit for each request.
    """

    def __init__(self, socket: Path, *, within_s: float = _RESPONSE_TIMEOUT_S) -> None:
        self._socket = socket
        self._name = socket.parent.name
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket), verify=False),
            base_url="http://supervisor",
            timeout=within_s,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the supervisor."""
        self._client.close()

    def ask(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, str | float | bool] | None = None
    ) -> dict[str, Any]:
        """Send a request and return the JSON object in its answer.

        Args:
            method: the HTTP method.
            path: the path of the route, such as `/components`.
            body: JSON to send; None to send no body.
            params: the query of the request.

        Raises:
            NotRunningError: no supervisor listens on the socket.
            NotAnsweringError: the supervisor does not answer in time, or its answer is not valid.
            StartError: a component does not become ready.
            InvalidInputError, NotFoundError, ConflictError, UnavailableError: the supervisor rejects the request; the
                error has the answer's message and remedy.
        """
        if not self._socket.exists():
            # httpcore leaves its socket open if it cannot connect, so do not try.
            raise self._not_running()
        try:
            answer = self._client.request(method, path, json=body, params=params)
        except httpx.ConnectError as error:
            raise self._not_running() from error
        except httpx.TransportError as error:
            raise NotAnsweringError(f"The supervisor of {self._name} does not answer: {error!r}.") from error
        try:
            found: dict[str, Any] = answer.json()
            if answer.is_success:
                return found
            problem = found["error"]
            message, remedy = str(problem["message"]), problem["remedy"]
        except (ValueError, KeyError, TypeError) as error:
            raise NotAnsweringError(
                f"The supervisor of {self._name} answers {answer.status_code}: {answer.text[:_MAX_SHOWN]}"
            ) from error
        if "component" in problem:
            raise StartError(message, component=problem["component"], log_tail=problem["log_tail"], remedy=remedy)
        raise _KINDS.get(answer.status_code, UnavailableError)(message, remedy=remedy)

    def _not_running(self) -> NotRunningError:
        return NotRunningError(
            f"The testbed {self._name} is not running.", remedy=f"lab testbed up --name {self._name}"
        )
