"""A client for the calls of the Docker Engine API that the container sandbox needs, over the engine's Unix socket.

Reference: https://docs.docker.com/reference/api/engine/. The calls name no API version, because an engine rejects a
version that is too old or too new for it. So the engine uses its default version; all calls exist since 1.24.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

DEFAULT_SOCKET: Final = Path("/var/run/docker.sock")
_RESPONSE_TIMEOUT_S: Final = 60.0


class EngineError(Exception):
    """A call of the Docker Engine failed.

    Attributes:
        status: the HTTP status; 0 without a response, for example because the engine was not reached.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DockerEngine:
    """A client of a Docker Engine; it opens a connection per call, so it is thread-safe.

    Args:
        socket_path: the engine's socket; None for the socket that DOCKER_HOST names or, if it is not set,
            `DEFAULT_SOCKET`.
    """

    def __init__(self, socket_path: Path | None = None) -> None:
        given = os.environ.get("DOCKER_HOST", "")
        usual = Path(given.removeprefix("unix://")) if given.startswith("unix://") else DEFAULT_SOCKET
        self.socket_path = socket_path or usual

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request to the engine; return the parsed JSON of the response, None for an empty or non-JSON response.

        Args:
            method: the HTTP method.
            path: the path, without API version.
            query: the parameters of the query.
            body: the body, which is sent as JSON.

        Raises:
            EngineError: the engine cannot be reached, rejects the request, or sends invalid JSON.
        """
        connection = _Connection(self.socket_path)
        try:
            response = _request(connection, method, path, query, body)
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.socket_path, error) from error
        finally:
            connection.close()
        if not raw or not response.getheader("Content-Type", "").startswith("application/json"):
            return None
        try:
            return json.loads(raw)
        except ValueError as error:
            raise EngineError(0, f"the Docker Engine at {self.socket_path} sent invalid JSON: {error}") from error

    def exists(self, container: str, path: str) -> bool:
        """Return whether the container with this id has a file at `path`.

        Raises:
            EngineError: the request failed.
        """
        try:
            self.call("HEAD", f"/containers/{container}/archive", {"path": path})
        except EngineError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def attach(self, container: str) -> socket.socket:
        """Attach to a container's standard input, output and error; return the socket of the combined stream.

        Raises:
            EngineError: the request failed.
        """
        connection = _Connection(self.socket_path)
        query = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        try:
            _request(connection, "POST", f"/containers/{container}/attach", query, None, headers)
            stream = connection.sock.dup()
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.socket_path, error) from error
        finally:
            # The HTTP connection has read no bytes of the stream, because the container has not been started yet.
            connection.close()
        stream.settimeout(None)
        return stream

    def waiter(self, container: str) -> Waiter:
        """Start to wait for the next exit of a container; return the waiter, which reports the exit.

        An exit after this method has returned is not missed.

        Raises:
            EngineError: the request failed.
        """
        connection = _Connection(self.socket_path)
        try:
            response = _request(connection, "POST", f"/containers/{container}/wait", {"condition": "next-exit"}, None)
            connection.sock.settimeout(None)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _unreachable(self.socket_path, error) from error
        except EngineError:
            connection.close()
            raise
        return Waiter(connection, response)


class Waiter:
    """Waits for the end of one container."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def status(self) -> int:
        """Wait for the container's end; return the exit status that the engine reports.

        Raises:
            EngineError: the engine closed the connection, or could not start the container.
        """
        try:
            answer = json.loads(self._response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EngineError(0, f"the Docker Engine does not say how the container ended: {error}") from error
        problem = (answer.get("Error") or {}).get("Message")
        if problem:
            raise EngineError(0, problem)
        status: int = answer["StatusCode"]
        return status

    def close(self) -> None:
        """Stop waiting. If another thread waits in `status`, it gets an EngineError."""
        if self._connection.sock is not None:
            # `shutdown` wakes a thread that is reading; `close` alone does not.
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=_RESPONSE_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _request(
    connection: _Connection,
    method: str,
    path: str,
    query: Mapping[str, str] | None,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str] | None = None,
) -> http.client.HTTPResponse:
    target = quote(path, safe="/:@") + (f"?{urlencode(query)}" if query else "")
    sent = {"Content-Type": "application/json", **(headers or {})}
    connection.request(method, target, body=None if body is None else json.dumps(body).encode(), headers=sent)
    response = connection.getresponse()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raw = response.read()
        try:
            message = json.loads(raw)["message"]
        except (ValueError, KeyError, TypeError):
            message = raw.decode(errors="replace").strip() or response.reason
        raise EngineError(response.status, message)
    return response


def _unreachable(path: Path, error: Exception) -> EngineError:
    return EngineError(0, f"the Docker Engine at {path} does not answer: {error}")
