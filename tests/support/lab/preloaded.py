"""`lab` and other modules in separate processes that share one loading of the libraries.

A command takes a tenth of a second, loading its libraries takes seconds, and the tests start hundreds of processes. So one
process loads the libraries once and forks for each start. The forked process then runs as `python -m MODULE` does, with its
own arguments, environment, folder, standard streams and exit code. The processes of pytest-xdist are forks of it too and
share it (`xdist_processes.py`); a test process without pytest-xdist starts one of its own. Real starts are tested by `tests/architecture/test_start.py`,
by the workers that `lab serve` starts, and by each `LabProcess` with `fresh`.

This works on Linux and other systems with `fork`, as the sandboxes of the product.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import relab

_MAX_REQUEST = 4 * 1_048_576
_ANSWER = 12
"""The characters of each number in a response: first the process id, then the exit code."""
_LIBRARIES = (
    "alembic.autogenerate", "alembic.command", "duckdb", "httpx", "psycopg", "rich.live", "rich.progress",
    "scipy.special", "scipy.stats", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "uvicorn",
)  # fmt: skip
_LEFT_OUT = (".migrations", ".__main__", ".testbed.target", ".training.dqn", ".training.environment")
"""Parts of the names of modules that are not loaded: programs, those whose libraries may start threads, and those that
need the extra `[rl]`."""
_START_TIMEOUT_S = 120.0
_WITHOUT_LIBRARIES = "--without-libraries"
_PR_SET_CHILD_SUBREAPER = 36
_IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""The warnings that Python ignores by default."""


def run_command(
    arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path, stdin: bytes = b"", within_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `lab` with these arguments to its end, whatever its exit code; warnings are errors in it.

    The command starts a new interpreter if the environment needs one (see `can_fork`).

    Raises:
        subprocess.TimeoutExpired: the command took longer, and was killed.
    """
    if not can_fork(environment):
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


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a fork behaves like a new interpreter: `PYTHON` variables are read only at a real start."""
    return all(not name.startswith("PYTHON") or os.environ.get(name) == value for name, value in environment.items())


class ForkServerError(RuntimeError):
    """The process that forks has ended, so the state of its children is unknown."""


class Command:
    """A module that runs as a program in its own process and its own session.

    Args:
        arguments: the command line after the module's name.
        environment: the whole environment of the process.
        cwd: the folder in which it is started.
        streams: its standard input, output and error.
        module: the module to run as `__main__`, or "-c" to run the code that is the last argument.
        strict: whether warnings are errors in it.
        open_files: its soft and hard limit of open files; None keeps the limit of this process.
        group: the process group that it joins, in the session of the process that forks; None: a new session.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        streams: Sequence[IO[Any]],
        module: str = "relab",
        strict: bool = True,
        open_files: int | None = None,
        group: int | None = None,
    ) -> None:
        self.args = [module, *arguments]
        self._code: int | None = None
        request = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "cwd": str(cwd),
            "strict": strict,
            "open_files": open_files,
            "group": group,
        }
        body = json.dumps(request).encode()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(_shared or _own_server())
        fds = [file.fileno() for file in streams]
        socket.send_fds(self._connection, [len(body).to_bytes(4, "big")], fds)
        self._connection.sendall(body)
        self.pid = self._read(_START_TIMEOUT_S)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, within_s: float | None = _START_TIMEOUT_S) -> int:
        """Wait until the process ends and return its exit code, negative for a signal; None waits without a limit.

        Raises:
            subprocess.TimeoutExpired: the process has not ended within this time.
        """
        if self._code is None:
            self._code = self._read(within_s)
            self._connection.close()
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this process, but not to its children, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        try:
            self.send_signal(signal.SIGKILL)
        except ForkServerError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _read(self, within_s: float | None) -> int:
        if not select.select([self._connection], [], [], within_s)[0]:
            raise subprocess.TimeoutExpired(self.args, within_s or 0)
        answer = self._connection.recv(_ANSWER)
        if len(answer) != _ANSWER:
            raise ForkServerError("the process that runs commands has ended")
        return int(answer)


_shared: str | None = None


def share(path: str) -> None:
    """Use the forking process with this socket, which another process has started, from now on."""
    global _shared  # noqa: PLW0603 a property of the process
    _shared = path


@functools.cache
def _own_server() -> str:
    return start_server()


def start_server(*, loads: bool = True) -> str:
    """Start a forking process and return the path of its socket; the process ends with this one.

    Args:
        loads: whether it loads the libraries, or each of its forks those that it uses.
    """
    folder = tempfile.TemporaryDirectory(prefix="relab-lab-")
    path = f"{folder.name}/socket"
    tests = Path(__file__).parents[2]
    # It loads the same relab as this process, whichever way that was found.
    python_path = os.pathsep.join(map(str, (Path(relab.__file__).parents[1], tests, tests.parent)))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "support.lab.preloaded", path, *([] if loads else [_WITHOUT_LIBRARIES])],
        env={**os.environ, "PYTHONPATH": python_path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        # Its own group, to survive Ctrl-C in a terminal and report the ends of its children. Not its own session:
        # sandboxes in this process would kill it as an orphan of a trial.
        process_group=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(folder.cleanup)
    atexit.register(process.wait, _START_TIMEOUT_S)
    # The process ends when its standard input is closed, also if this process was killed.
    atexit.register(process.stdin.close)
    with process.stdout as ready:
        assert ready.readline() == b"ready\n", "the process that runs commands did not start"
    return path


class _Forks:
    """The process that has loaded the libraries: it forks for each request and reports the end of each fork."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(path)
        self._listening.listen()
        self._waiting: dict[int, socket.socket] = {}
        self._ended, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = woken
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(woken)
        if sys.platform == "linux":
            # Adopt what a killed process leaves behind, and reap it when it ends: in a container no other process may do so.
            assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    def serve(self) -> Mapping[str, Any] | None:
        """Fork for requests until standard input ends, then return None; in a forked process, return its request.

        Forks that still run at the end are asked to end (SIGTERM): a killed test process has left them.
        """
        with selectors.DefaultSelector() as ready:
            for source in (self._listening.fileno(), self._ended, sys.stdin.fileno()):
                ready.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fd == sys.stdin.fileno():
                        for pid in self._waiting:
                            os.kill(pid, signal.SIGTERM)
                        return None
                    if key.fd == self._ended:
                        os.read(self._ended, 4_096)
                        self._report_ends()
                    else:
                        request = self._fork()
                        if request is not None:
                            return request

    def _fork(self) -> Mapping[str, Any] | None:
        connection, _ = self._listening.accept()
        header, fds, _, _ = socket.recv_fds(connection, 4, 3)
        size = int.from_bytes(header, "big")
        assert size <= _MAX_REQUEST, size
        with connection.makefile("rb") as body:
            request: dict[str, Any] = json.loads(body.read(size))
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._become(request, fds)
            return request
        for fd in fds:
            os.close(fd)
        connection.sendall(_answer(pid))
        self._waiting[pid] = connection
        return None

    def close(self) -> None:
        """Close the socket and restore the handling of signals."""
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
        if request["group"] is None:
            os.setsid()
        else:
            os.setpgid(0, request["group"])
        if (most := request["open_files"]) is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])

    def _report_ends(self) -> None:
        # ChildProcessError: no child is left.
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                if (connection := self._waiting.pop(pid, None)) is None:
                    # It was adopted: a process that a killed one had started.
                    continue
                # BrokenPipeError: the test no longer waits for this process.
                with connection, contextlib.suppress(BrokenPipeError):
                    connection.sendall(_answer(os.waitstatus_to_exitcode(status)))


def _answer(number: int) -> bytes:
    return str(number).rjust(_ANSWER).encode()


def _load() -> None:
    for module in pkgutil.walk_packages(relab.__path__, "relab."):
        if not any(part in module.name for part in _LEFT_OUT):
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        importlib.import_module(name)
    assert relab.__version__
    from relab.charts.pages import vega
    from relab.experiments.results import report
    from relab.incidents.postmortem import page
    from relab.storage.schema import head

    # Compute what each process would compute once and cache.
    vega()
    report.page_template()
    page.page_template()
    head()


def main() -> None:
    gc.disable()
    if _WITHOUT_LIBRARIES not in sys.argv:
        _load()
    # No loaded object is garbage: without a collection, forked processes do not copy the pages with reference counts.
    gc.collect()
    gc.freeze()
    gc.enable()
    forks = _Forks(sys.argv[1])
    print("ready", flush=True)
    request = forks.serve()
    if request is None:
        # The end of the process frees the modules; deleting them one by one takes long.
        os._exit(0)
    warnings.resetwarnings()
    if request["strict"]:
        warnings.simplefilter("error")
    else:
        sys.warnoptions.clear()
        for category in _IGNORED:
            warnings.simplefilter("ignore", category)
    sys.argv = [request["module"], *request["arguments"]]
    code: object = 0
    try:
        if request["module"] == "-c":
            sys.modules["__main__"] = program = types.ModuleType("__main__")
            exec(request["arguments"][-1], program.__dict__)
        else:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    # Do what an interpreter does when it exits, except for deleting the modules, which takes the longest.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if code is None else code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
