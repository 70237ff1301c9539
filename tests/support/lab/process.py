"""`lab serve` and `lab worker` as the processes that users start, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from rig.servers import free_port
from rig.waiting import wait_until
from support.lab.preloaded import Command, can_fork, run_command
from support.storage.migrated import prepare_home

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

SETTING_NAMES = frozenset(
    {
        "ACTION_SERVER_TOKEN",
        "ACTION_SERVER_URL",
        "ANOMALY_THRESHOLD_ERROR_RATE",
        "APP_ENV",
        "APP_INGEST_SECRET",
        "ANTHROPIC_API_KEY",
        "DATABASE_URL",
        "LLM_MODEL",
        "LOG_LEVEL",
        "OPENAI_API_KEY",
        "POLL_INTERVAL_SECONDS",
        "PORT",
        "QDRANT_URL",
        "REDIS_URL",
        "RQ_QUEUE_NAME",
        "RUNBOOKS_PATH",
        "TARGET_API_BASE_URL",
        "VECTOR_STORE_PATH",
    }
)


def lab_environment(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with only these settings of relab."""
    kept = {
        name: value for name, value in os.environ.items() if name not in SETTING_NAMES and not name.startswith("RELAB_")
    }
    return {**kept, "RELAB_HOME": str(home), **(settings or {})}


def run_lab(
    *arguments: str, home: Path, settings: Mapping[str, str] | None = None, within_s: float = READY_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a `lab` command to its end, whatever its exit code."""
    prepare_home(home, settings or {})
    done = run_command(arguments, environment=lab_environment(home, settings), cwd=Path.cwd(), within_s=within_s)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class LabProcess:
    """One `lab` process; `start` and `kill` may follow each other on the same home and port.

    Use it as a context manager: after the block the process and all its children are gone.

    Args:
        arguments: the command line after `lab`.
        home: its RELAB_HOME; every start appends to `<name>.log` in it.
        settings: environment variables in addition to RELAB_HOME.
        port: the port of the server; None for a process that does not serve.
        open_files: its soft and hard limit of open files; None keeps the limit of this process.
        prefix: words before its command line, of a program that runs it under its own process id.
        fresh: whether each start is a new interpreter. Otherwise it is forked from a process with the libraries loaded,
            which saves seconds of processor time; with `prefix` it is always a new interpreter.
    """

    def __init__(
        self,
        *arguments: str,
        home: Path,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        open_files: int | None = None,
        prefix: Sequence[str] = (),
        fresh: bool = False,
    ) -> None:
        self.home = home
        self.port = port
        self._arguments = arguments
        shell = ["/bin/sh", "-c", f'ulimit -n {open_files} && exec "$0" "$@"'] if open_files else []
        self._command = [*prefix, *shell, sys.executable, "-m", "relab", *arguments]
        self._open_files = open_files
        self._environment = lab_environment(home, settings)
        self._is_forked = not (fresh or prefix) and can_fork(self._environment)
        self._process: subprocess.Popen[bytes] | Command | None = None
        self._groups: list[int] = []
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / f"{arguments[0]}-{port or id(self)}.log"

    @classmethod
    def serve(
        cls,
        home: Path,
        *options: str,
        settings: Mapping[str, str] | None = None,
        open_files: int | None = None,
        prefix: Sequence[str] = (),
        fresh: bool = False,
    ) -> Self:
        """Return `lab serve` on a free port, not yet started."""
        port = free_port()
        arguments = ("serve", "--port", str(port), *options)
        return cls(
            *arguments, home=home, settings=settings, port=port, open_files=open_files, prefix=prefix, fresh=fresh
        )

    @classmethod
    def worker(cls, home: Path, *, settings: Mapping[str, str] | None = None, fresh: bool = False) -> Self:
        """Return `lab worker`, not yet started."""
        return cls("worker", home=home, settings=settings, fresh=fresh)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.destroy()
        if kind is not None:
            print(f"--- {' '.join(self._arguments)} ---\n{self.log()[-6_000:]}")

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    def client(self, *, timeout_s: float = 30.0) -> httpx.Client:
        """Return a client of the server; the caller closes it."""
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False, verify=False)

    def start(self, *, wait: bool = True) -> None:
        """Start the process and wait until it is ready."""
        mark = len(self.log())
        with Path(os.devnull).open("rb") as nothing, self._log.open("ab") as log:
            # In a separate process group its children can be found, and Ctrl-C does not reach it.
            if self._is_forked:
                prepare_home(self.home, self._environment)
                self._process = Command(
                    self._arguments,
                    environment=self._environment,
                    cwd=Path.cwd(),
                    streams=(nothing, log, log),
                    strict=False,
                    open_files=self._open_files,
                )
            else:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=nothing,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    process_group=0,
                )
        self._groups.append(self._process.pid)
        if wait:
            self.wait_ready(mark)

    def wait_ready(self, mark: int = 0) -> None:
        """Wait until the server is ready, or the worker has started (in the log after `mark`).

        Raises:
            AssertionError: the process ended, or was not ready in time.
        """

        def is_ready() -> bool:
            code = self._running().poll()
            assert code is None, f"lab {self._arguments[0]} ended with exit code {code}:\n{self.log()[-3_000:]}"
            return "worker_started" in self.log()[mark:] if self.port is None else self.answers("/readyz")

        wait_until(is_ready, within_s=READY_TIMEOUT_S, what=f"lab {self._arguments[0]} being ready")

    def answers(self, path: str) -> bool:
        """Return whether the server answers a GET request with 200."""
        try:
            # Plain HTTP needs no certificates, and loading them takes longer than the request.
            return httpx.get(self.url + path, timeout=10.0, trust_env=False, verify=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def children(self) -> list[psutil.Process]:
        """Return all descendants of this process."""
        return psutil.Process(self.pid).children(recursive=True)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process, but not to its children."""
        self._running().send_signal(number)

    def wait(self, within_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until the process ends and return its exit code (negative for a signal)."""
        code = self._running().wait(within_s)
        self._process = None
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to stop and return its exit code."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """Kill this process with SIGKILL, but not its children."""
        self.send(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def wait_alone(self) -> None:
        """Wait until all processes that this one ever started have ended.

        Raises:
            AssertionError: some process still runs.
        """
        wait_until(lambda: not any(map(_group_lives, self._groups)), what="the end of all child processes")

    def destroy(self) -> None:
        """Kill the process and all processes that it ever started, and wait until they have ended."""
        for group in self._groups:
            # A process may end between the check and the signal.
            with contextlib.suppress(ProcessLookupError):
                if _group_lives(group):
                    os.killpg(group, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self.wait_alone()

    def log(self) -> str:
        """Return the output of all starts of this process, including its children."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _running(self) -> subprocess.Popen[bytes] | Command:
        assert self._process is not None, f"lab {self._arguments[0]} is not running"
        return self._process


def _group_lives(group: int) -> bool:
    """Return whether a process of the group runs; zombies do not count."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return False
