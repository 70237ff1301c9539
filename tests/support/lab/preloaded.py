"""`lab` commands in processes of their own that need not load everything anew.

A command takes a tenth of a second; loading its libraries takes seconds, and tests start hundreds of commands. So one
process loads them once and forks for each command, which then runs as `python -m relab` does: its own arguments,
environment, folder, standard streams and exit code. What starting itself does is tested with real starts, by
`tests/architecture/test_start.py` and by everything that uses `support.lab.process`.

Linux and other systems with `fork` only, as the product's own sandboxes.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_MAX_REQUEST = 4 * 1_048_576
_ANSWER = 12
"""Characters of each number that is answered: the process's id, then its exit code."""
_LIBRARIES = (
    "alembic.autogenerate", "alembic.command", "duckdb", "httpx", "psycopg", "rich.live", "rich.progress",
    "scipy.special", "scipy.stats", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "uvicorn",
)  # fmt: skip
_PACKAGES = (
    "api",
    "cli",
    "core",
    "experiments",
    "flags",
    "jobs",
    "knowledge",
    "load",
    "rca",
    "stats",
    "storage",
    "telemetry",
)
_STARTS_WITHIN_S = 120.0


def run_command(
    arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path, stdin: bytes = b"", within_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `lab` with these arguments to its end, whatever its exit code; warnings are errors in it.

    Where the environment has settings of Python that this process has not, which are read at the start alone, it
    is a real start.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    if any(name.startswith("PYTHON") and os.environ.get(name) != value for name, value in environment.items()):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "relab", *arguments],
            env=environment,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            timeout=within_s,
            check=False,
        )
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        command = Command(arguments, environment=environment, cwd=cwd, streams=(source, out, err))
        try:
            code = command.wait(within_s)
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGKILL)
            command.wait(within_s)
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())


class Command:
    """`lab` at work in a process of its own, and of its own session.

    Args:
        arguments: after `lab`.
        environment: all of it.
        cwd: the folder that it is started in.
        streams: its standard input, output and error.
    """

    def __init__(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path, streams: Sequence[IO[bytes]]
    ) -> None:
        self._arguments = list(arguments)
        self._code: int | None = None
        request = {"arguments": self._arguments, "environment": dict(environment), "cwd": str(cwd)}
        body = json.dumps(request).encode()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(_server())
        fds = [file.fileno() for file in streams]
        socket.send_fds(self._connection, [len(body).to_bytes(4, "big")], fds)
        self._connection.sendall(body)
        self.pid = self._read(_STARTS_WITHIN_S)

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal, if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, within_s: float) -> int:
        """Return its exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended within this time.
        """
        if self._code is None:
            self._code = self._read(within_s)
            self._connection.close()
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9."""
        self.send_signal(signal.SIGKILL)

    def _read(self, within_s: float) -> int:
        if not select.select([self._connection], [], [], within_s)[0]:
            raise subprocess.TimeoutExpired(self._arguments, within_s)
        answer = self._connection.recv(_ANSWER)
        assert len(answer) == _ANSWER, "the process that runs commands has ended"
        return int(answer)


@functools.cache
def _server() -> str:
    """Start the process that forks, once, and return the path of its socket; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="relab-lab-")
    path = f"{folder.name}/socket"
    tests = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "support.lab.preloaded", path],
        env={**os.environ, "PYTHONPATH": tests},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(folder.cleanup)
    atexit.register(process.wait, _STARTS_WITHIN_S)
    # Without a writer of its standard input it ends, also when this process was killed.
    atexit.register(process.stdin.close)
    with process.stdout as ready:
        assert ready.readline() == b"ready\n", "the process that runs commands did not start"
    return path


class _Forks:
    """The process that has everything loaded: forks for each request and tells its end."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(path)
        self._listening.listen()
        self._waiting: dict[int, socket.socket] = {}
        self._ended, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = woken
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(woken)

    def serve(self) -> Sequence[str] | None:
        """Serve until standard input ends; in the process of a command, return its arguments."""
        with selectors.DefaultSelector() as ready:
            for source in (self._listening.fileno(), self._ended, sys.stdin.fileno()):
                ready.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fd == sys.stdin.fileno():
                        return None
                    if key.fd == self._ended:
                        os.read(self._ended, 4_096)
                        self._tell_ends()
                    else:
                        arguments = self._fork()
                        if arguments is not None:
                            return arguments

    def _fork(self) -> Sequence[str] | None:
        connection, _ = self._listening.accept()
        header, fds, _, _ = socket.recv_fds(connection, 4, 3)
        size = int.from_bytes(header, "big")
        assert size <= _MAX_REQUEST, size
        with connection.makefile("rb") as body:
            request = json.loads(body.read(size))
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._become(request, fds)
            arguments: list[str] = request["arguments"]
            return arguments
        for fd in fds:
            os.close(fd)
        connection.sendall(_answer(pid))
        self._waiting[pid] = connection
        return None

    def close(self) -> None:
        """Serve no more."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self._ended, self._woken):
            os.close(fd)
        self._listening.close()

    def _become(self, request: Mapping[str, Any], fds: Sequence[int]) -> None:
        self.close()
        for connection in self._waiting.values():
            connection.close()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        os.setsid()
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])

    def _tell_ends(self) -> None:
        while self._waiting:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._waiting.pop(pid) as connection:
                try:
                    connection.sendall(_answer(os.waitstatus_to_exitcode(status)))
                except BrokenPipeError:
                    # Whoever asked has given up waiting.
                    continue


def _answer(number: int) -> bytes:
    return str(number).rjust(_ANSWER).encode()


def _load() -> None:
    import relab

    for package in _PACKAGES:
        found = importlib.import_module(f"relab.{package}")
        for module in pkgutil.walk_packages(found.__path__, f"relab.{package}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    for name in ("relab.bootstrap", *_LIBRARIES):
        importlib.import_module(name)
    assert relab.__version__
    from relab.charts.pages import vega

    vega()


def main() -> None:
    _load()
    # Nothing of it is garbage: commands need not look, nor copy the pages on which objects are counted.
    gc.collect()
    gc.freeze()
    forks = _Forks(sys.argv[1])
    print("ready", flush=True)
    arguments = forks.serve()
    if arguments is None:
        # Nor is it worth while to take them apart here.
        os._exit(0)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    sys.argv = ["relab", *arguments]
    try:
        runpy.run_module("relab", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    # What an interpreter does at its end, without taking all those libraries apart, which would take the longest.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
