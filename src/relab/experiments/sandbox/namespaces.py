"""Test a sandbox's network namespace from outside, and open listening sockets inside of it.

To create a socket in a network namespace, a process must enter this namespace and the user namespace that owns it. A
process with threads, such as the runner, cannot enter a user namespace. So this module also runs as a program, as a
helper process without threads. For each request the helper forks a child. The child enters the namespaces, listens, and
sends its sockets to the runner.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from relab.experiments.sandbox.process import MARKER, Child
from relab.experiments.sandbox.protocol import Listener, NetworkMode, SandboxError

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_NS_GET_USERNS: Final = 0xB701
"""The request of ioctl_ns(2) for the user namespace that owns a namespace."""
_IP_FREEBIND: Final = 15
"""The option of ip(7) to bind an address that does not exist yet: the sandbox's loopback device may not be up."""
_IPV6_FREEBIND: Final = 78
_MAX_MESSAGE: Final = 4_096
_MAX_PORTS: Final = 64
_RESPONSE_TIMEOUT_S: Final = 10.0

Closer = Callable[[], None]


def check_egress(pid: int) -> dict[str, Any]:
    """Perform the egress self-test on the network namespace of a process; return its result as JSON.

    The test passes if the namespace differs from the runner's and has no route except to the loopback device.

    Returns:
        `{performed: True, method, interfaces, routes, passed}`. `routes` has the names of the network devices, other
            than loopback, to which the namespace has a route. If the namespace cannot be read: `{performed: False,
            method, reason}`.
    """
    method = "interfaces and routes of the trial's network namespace, read from the kernel"
    process = Path(f"/proc/{pid}")
    try:
        is_apart = (process / "ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
        devices = [line.split(":")[0].strip() for line in (process / "net/dev").read_text().splitlines()[2:]]
        routes = [line.split()[0] for line in (process / "net/route").read_text().splitlines()[1:] if line.strip()]
        with contextlib.suppress(FileNotFoundError):
            routes += [line.split()[-1] for line in (process / "net/ipv6_route").read_text().splitlines()]
    except OSError as error:
        reason = f"the trial's network namespace cannot be read: {error.strerror}"
        return {"performed": False, "method": method, "reason": reason}
    outward = sorted({device for device in routes if device != "lo"})
    return {
        "performed": True,
        "method": method,
        "interfaces": devices,
        "routes": outward,
        "passed": is_apart and not outward,
    }


def enforcement_of(network: NetworkMode) -> str:
    """Return the name of the mechanism that enforces the network mode `network`, which must not be `full`."""
    return "network_namespace_and_proxy" if network is NetworkMode.ALLOWLIST else "network_namespace"


def exit_code_of(status: int) -> int:
    """Convert the exit status of a sandbox's first process to an exit code; 128 + n (signal n) becomes -n."""
    return 128 - status if 128 < status <= 128 + 64 else status


def with_ports(environment: Mapping[str, str], ports: Mapping[int, int]) -> dict[str, str]:
    """Return the environment with every `{port:<n>}` in its values replaced by the real port.

    `ports` is `{intended port: real port}` for each service of the runner; the intended port is the `<n>`.
    """
    replaced = dict(environment)
    for port, real in ports.items():
        mark = f"{{port:{port}}}"
        replaced = {name: value.replace(mark, str(real)) for name, value in replaced.items()}
    return replaced


def listen_here(listeners: Sequence[Listener]) -> tuple[list[Closer], dict[int, int]]:
    """Start services for sandboxes that share this machine's network, each on a free port of this machine.

    Returns:
        The functions that stop the services, and `{Listener.port of a service: port that is really used}`.
    """
    with contextlib.ExitStack() as undo:
        sockets = [undo.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in listeners]
        ports = {
            listener.port: listening.getsockname()[1] for listener, listening in zip(listeners, sockets, strict=True)
        }
        closers = _serve_all(listeners, sockets)
        undo.pop_all()
    return closers, ports


def _serve_all(listeners: Sequence[Listener], sockets: Sequence[socket.socket]) -> list[Closer]:
    """Start services on listening sockets; return the functions that stop the services.

    If a service cannot be started, the earlier ones are stopped and all sockets are closed.
    """
    closers: list[Closer] = []
    with contextlib.ExitStack() as undo:
        for listening in sockets:
            undo.callback(listening.close)
        undo.callback(call_all, closers)
        for listener, listening in zip(listeners, sockets, strict=True):
            closers.append(listener.serve(listening))
        undo.pop_all()
    return closers


def call_all(closers: list[Closer]) -> None:
    """Call the functions that stop a sandbox's services, in reverse order, and empty the list.

    If a function raises an exception, the other functions are called even so. At the end the last exception is raised.
    """
    with contextlib.ExitStack() as stack:
        for close in closers:
            stack.callback(close)
        closers.clear()


class SandboxNetworks:
    """Starts services in the network namespaces of sandboxes.

    A helper process opens the listening sockets; it is started on first use.

    Args:
        run_id: the id of the run. The helper's environment contains it, so that the helper can be identified.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._lock = threading.Lock()
        self._helper: tuple[Child, socket.socket] | None = None

    def serve(self, pid: int, listeners: Sequence[Listener]) -> list[Closer]:
        """Start services in the network namespace of the process `pid`; return the functions that stop the services.

        Raises:
            SandboxError: the namespace cannot be entered, or a port is taken.
        """
        if not listeners:
            return []
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxError(f"the network of the sandbox cannot be opened: {error.strerror}") from error
        try:
            with self._lock:
                sockets = self._ask(namespace, [(listener.address, listener.port) for listener in listeners])
        finally:
            os.close(namespace)
        return _serve_all(listeners, sockets)

    def close(self) -> None:
        """End the helper process that enters the sandboxes' network namespaces."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._helper is not None:
            child, channel = self._helper
            self._helper = None
            channel.close()
            child.end(0)
            child.close()

    def _ask(self, namespace: int, places: list[tuple[str, int]]) -> list[socket.socket]:
        if self._helper is not None and self._helper[0].wait(0) is not None:
            self._end()
        if self._helper is None:
            self._helper = self._start()
        channel = self._helper[1]
        try:
            socket.send_fds(channel, [json.dumps(places).encode()], [namespace])
            answer, fds, _, _ = socket.recv_fds(channel, _MAX_MESSAGE, _MAX_PORTS)
        except OSError as error:
            # A new helper is started next time, so that a late answer is not taken for the answer to another request.
            self._end()
            raise SandboxError(f"the helper that listens inside of sandboxes does not answer: {error}") from error
        if answer != b"ok" or len(fds) != len(places):
            for fd in fds:
                os.close(fd)
            raise SandboxError(f"cannot listen inside of the sandbox: {answer.decode(errors='replace') or 'no answer'}")
        return [socket.socket(fileno=fd) for fd in fds]

    def _start(self) -> tuple[Child, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_RESPONSE_TIMEOUT_S)
        with theirs, Path(os.devnull).open("r+b") as nowhere:
            child = Child(
                [sys.executable, "-P", "-s", "-m", __name__, str(theirs.fileno())],
                cwd=None,
                environment={
                    MARKER: f"relab-namespaces-{self._run_id}",
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
                stdin=nowhere.fileno(),
                stdout=nowhere.fileno(),
                stderr=nowhere.fileno(),
                pass_fds=(theirs.fileno(),),
            )
        return child, ours


def _listen(namespace: int, places: Sequence[tuple[str, int]]) -> list[socket.socket]:
    """Move this process into a network namespace for good; return sockets that listen in it.

    Args:
        namespace: the file descriptor of the namespace.
        places: the IP addresses and ports to listen on.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(fd: int, kind: int) -> None:
        if libc.setns(fd, kind) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    # The owner of another user's namespace cannot be read; root needs to enter only the network namespace.
    with contextlib.suppress(OSError):
        owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
        if os.fstat(owner).st_ino != Path("/proc/self/ns/user").stat().st_ino:
            enter(owner, _CLONE_NEWUSER)
    enter(namespace, _CLONE_NEWNET)
    sockets = []
    for address, port in places:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            listening.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        listening.bind((address, port))
        listening.listen(128)
        sockets.append(listening)
    return sockets


def _answer(channel: socket.socket, namespace: int, places: Sequence[tuple[str, int]]) -> None:
    try:
        sockets = _listen(namespace, places)
    except OSError as error:
        channel.send((error.strerror or str(error)).encode())
    else:
        socket.send_fds(channel, [b"ok"], [listening.fileno() for listening in sockets])


def main(channel: socket.socket) -> None:
    """Open listening sockets in network namespaces on request, until the runner closes the socket `channel`.

    A request contains the file descriptor of a network namespace, and the addresses to listen on.
    """
    while True:
        request, fds, _, _ = socket.recv_fds(channel, _MAX_MESSAGE, 1)
        if not request:
            return
        # A process cannot return from another network namespace, so a child answers the request.
        child = os.fork()
        if child == 0:
            try:
                _answer(channel, fds[0], json.loads(request))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
