"""Reserve the ports of a testbed, so that its servers can stop and start again on the same ports.

The supervisor binds each port itself, but does not listen. A server can still bind the port, and listen, if it sets the
same socket option: SO_REUSEPORT for a port that several workers share, SO_REUSEADDR for any other port. While no server
listens, connections are refused.

Without this, the kernel could use the port of a stopped server for an outgoing connection. The server could not start
again then, and a client on this machine that retries could even be connected to itself.
"""

from __future__ import annotations

import socket

import psutil

from relab.testbed.errors import StartError
from relab.testbed.layout import HOST


class HeldPort:
    """A port on loopback that stays reserved for a server of the testbed until this object is closed.

    Args:
        port: the number of the port; 0 to let the kernel choose one.
        shared: whether several processes will listen on the port, with SO_REUSEPORT.

    Attributes:
        port: the number of the port.

    Raises:
        StartError: the port is in use.
    """

    def __init__(self, port: int = 0, *, shared: bool = False) -> None:
        if port:
            _check_free(port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        option = socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR
        self._socket.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            raise _taken(port) from error
        self.port = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Release the reserved port."""
        self._socket.close()


def _check_free(port: int) -> None:
    # Binding with SO_REUSEPORT succeeds even if another process shares the port; only listening without it fails.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            raise _taken(port) from error


def _taken(port: int) -> StartError:
    return StartError(
        f"Port {port} of {HOST} is in use.",
        remedy="Stop the program that uses it, or choose other ports with --port-base.",
    )


def listens(pid: int, port: int) -> bool:
    """Return whether the process with this pid itself listens on a TCP port, on any IPv4 address.

    Return False if the process does not exist or cannot be read.
    """
    try:
        found = psutil.Process(pid).net_connections("tcp4")
    except (psutil.Error, OSError):
        return False
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in found)
