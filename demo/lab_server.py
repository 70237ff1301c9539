"""Run `lab serve` in a separate process with a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import httpx

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
WORKER_STOP_TIMEOUT_S = 5.0
POLL_S = 0.1
LOG_TAIL_LINES = 15

PRODUCT_VARIABLES = frozenset(
    {"DATABASE_URL", "REDIS_URL", "APP_ENV", "APP_INGEST_SECRET", "LOG_LEVEL", "OPENAI_API_KEY", "RQ_QUEUE_NAME"}
)
"""Settings that a developer's shell may contain; the demo removes them, to show the defaults on its own data."""


class LabServerError(Exception):
    """The server cannot be started."""


class LabServer:
    """`lab serve` on a free loopback port, with the embedded default database.

    Use it as a context manager: inside the `with` block the server is ready; after the block, all processes that it
    started have ended.

    Args:
        home: the home of the server (RELAB_HOME); its output goes to `server.log` in it.
        command: the `lab` program, by default the one in the folder of this Python executable.
    """

    def __init__(self, home: Path, command: Path | None = None) -> None:
        self.home = home
        self.log = home / "server.log"
        self._port = free_port()
        self._command = command or Path(sys.executable).with_name("lab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        if not self._command.exists():
            raise LabServerError(f"There is no {self._command}. Install relab first; `make demo` does.")
        arguments = [str(self._command), "serve", "--host", "127.0.0.1", "--port", str(self._port)]
        with self.log.open("wb") as log:
            # A new session, so that Ctrl-C reaches only this program, which then stops the server in the right order.
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=server_environment(os.environ, self.home),
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Terminate the server and wait for the end of it and its worker; kill processes that do not end in time."""
        process, self._process = self._process, None
        if process is None:
            return
        with impatience_ignored():
            end_process(process)
            # The worker exits with the server; this check ensures it. The group's id is the server's process id.
            if not poll(lambda: not group_exists(process.pid), WORKER_STOP_TIMEOUT_S):
                with suppress(ProcessLookupError):  # It may have ended in the meantime.
                    os.killpg(process.pid, signal.SIGKILL)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        with httpx.Client(trust_env=False, verify=False, timeout=5.0) as client:

            def ready_or_ended() -> bool:
                return process.poll() is not None or is_ready(client, f"{self.url}/readyz")

            in_time = poll(ready_or_ended, READY_TIMEOUT_S)
        if process.poll() is not None:
            raise LabServerError(f"`lab serve` ended with exit code {process.returncode}:\n{self._log_tail()}")
        if not in_time:
            raise LabServerError(f"`lab serve` was not ready within {READY_TIMEOUT_S:.0f} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:]) or f"(nothing in {self.log})"


def server_environment(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return `environment` with `home` as RELAB_HOME and without all other settings of relab."""
    kept = {
        name: value
        for name, value in environment.items()
        if name.upper() not in PRODUCT_VARIABLES and not name.upper().startswith("RELAB_")
    }
    return {**kept, "RELAB_HOME": str(home)}


def free_port() -> int:
    """Return a loopback port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_ready(client: httpx.Client, url: str) -> bool:
    """Return whether the server answers at `url` that it is ready; False if it is not listening yet."""
    try:
        return client.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def end_process(process: subprocess.Popen[Any]) -> None:
    """Terminate a process and wait for its end; kill it if it does not end in time."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def group_exists(group_id: int) -> bool:
    """Return whether a process group still has a process."""
    try:
        os.killpg(group_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS raises it for a group of zombies only; live processes of ours can be signalled.
        return False
    return True


def poll(condition: Callable[[], bool], within_s: float) -> bool:
    """Check a condition repeatedly; return True once it holds, or False if it does not within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def interrupt_once() -> None:
    """Let the first Ctrl-C raise KeyboardInterrupt and ignore later ones, from now until this process ends.

    A second Ctrl-C would otherwise interrupt the clean-up after the first one, or its last message.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, leave)


@contextmanager
def impatience_ignored() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM while the `with` block runs, which cleans up in a bounded time."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_as_exit() -> Iterator[None]:
    """While the `with` block runs, convert SIGTERM and SIGHUP to SystemExit, so that clean-up also runs for them.

    Raises:
        SystemExit: with the code 128 + signal number, like a shell.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
