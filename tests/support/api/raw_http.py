"""A client that writes bytes to a socket, to send requests that no HTTP library sends."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

RESPONSE_TIMEOUT_S = 30.0


class RawConnection:
    """One TCP connection to a server on this machine.

    Args:
        receive_buffer: bytes that the kernel may hold for a client that does not read; None for its default.
    """

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(RESPONSE_TIMEOUT_S)
        self._socket.connect(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, data: bytes) -> bool:
        """Send bytes; return False if the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_some(self, data: bytes) -> int:
        """Send as many bytes as the server takes within two seconds; return how many."""
        self._socket.settimeout(2.0)
        try:
            return self._socket.send(data)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return 0
        finally:
            self._socket.settimeout(RESPONSE_TIMEOUT_S)

    def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response: its status, its headers (names in lower case) and its body of declared length.

        Raises:
            AssertionError: the server closed the connection before the response was complete.
        """
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(data)
        head, _, body = data.partition(b"\r\n\r\n")
        status_line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        while len(body) < int(headers.get("content-length", "0")):
            body += self._more(data)
        return int(status_line.split(" ")[1]), headers, body

    def _more(self, so_far: bytes) -> bytes:
        received = self._socket.recv(65_536)
        assert received, f"the connection ended after {so_far[:200]!r}"
        return received

    def read_some(self) -> bytes:
        """Return the next bytes; empty if the server has closed the connection."""
        return self._socket.recv(65_536)

    def read_to_end(self) -> bytes:
        """Read until the server closes the connection."""
        data = b""
        try:
            while received := self._socket.recv(65_536):
                data += received
        except ConnectionResetError:
            pass
        return data

    def is_closed(self) -> bool:
        """Return whether the server has closed the connection, without waiting; received bytes are dropped."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(65_536):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self._socket.settimeout(RESPONSE_TIMEOUT_S)
        return True


def get(path: str = "/healthz", *fields: str, host: str | None = "127.0.0.1") -> bytes:
    """Return the bytes of a GET request."""
    named = [] if host is None else [f"Host: {host}"]
    return "\r\n".join([f"GET {path} HTTP/1.1", *named, *fields, "", ""]).encode("latin-1")
