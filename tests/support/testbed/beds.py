"""Testbeds for tests: temporary homes with a shared template, running testbeds, and a stand-in for the target.

As a program (`python -m support.testbed.beds --settings FILE --worker N`) this module is the stand-in: a small HTTP
server with the target's settings file and address, for tests of the supervisor that need no shop.
"""

from __future__ import annotations

import atexit
import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from relab.testbed import service
from relab.testbed.layout import Layout
from relab.testbed.models import ComponentStatus, TestbedStatus
from relab.testbed.supervisor.plan import HEALTH_PATH, ProgramRow
from relab.testbed.supervisor.programs import find_postgres
from rig.waiting import wait_until

TESTS = Path(__file__).parents[2]
_BASES = range(21_000, 29_000, 10)

STAND_IN = ProgramRow(
    name="worker",
    group="target",
    command=["{python}", "-m", "support.testbed.beds", "--settings", "{settings}", "--worker", "{number}"],
    port="target",
    ready_path=HEALTH_PATH,
    count=2,
    stage=0,
)


def free_base() -> int:
    """Return the first of three consecutive free ports, outside the ephemeral range of the kernel."""
    # The ids of test processes are neighbours; their searches must not begin at neighbouring ports.
    offset = 97 * os.getpid() % len(_BASES)
    for base in [*_BASES[offset:], *_BASES[:offset]]:
        if all(_is_free(base + step) for step in range(3)):
            return int(base)
    raise AssertionError("no three ports in a row are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


@functools.cache
def _shared_cache() -> Path:
    found = Path(tempfile.mkdtemp(prefix="relab-cache-"))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


@contextmanager
def bed_home() -> Iterator[Path]:
    """Yield a home whose path is short enough for Unix sockets; its testbeds are stopped afterwards."""
    home = Path(tempfile.mkdtemp(prefix="relab-"))
    # All tests can share a template, which takes some seconds to make.
    (home / "cache").symlink_to(_shared_cache())
    try:
        yield home
    finally:
        for name in service.names(home):
            if service.is_running(Layout.of(home, name)):
                service.down(home, name)
        shutil.rmtree(home)


@dataclass
class Bed:
    """A running testbed, and requests to it."""

    layout: Layout

    @classmethod
    def start(cls, home: Path, name: str = "t", *, rows: tuple[ProgramRow, ...] = (STAND_IN,), **options: Any) -> Bed:
        """Start a testbed with stand-ins for the target."""
        options = {"port_base": free_base(), "python_path": [TESTS, TESTS.parent], "start_within_s": 60, **options}
        service.up(home, name, rows=rows, **options)
        return cls(Layout.of(home, name))

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a request to the supervisor and return its response."""
        return service.ask(self.layout, method, path, body)

    def status(self) -> TestbedStatus:
        """Return the status of the testbed."""
        return service.status(self.layout.home, self.layout.name)

    def component(self, name: str) -> ComponentStatus:
        """Return the status of a component."""
        return next(item for item in self.status().components if item.name == name)

    def pid(self, name: str) -> int:
        """Return the process id of a running component."""
        found = self.component(name).pid
        assert found is not None
        return found

    def wait_running(self, name: str, *, other_than: int | None = None) -> ComponentStatus:
        """Wait until a component runs with another process id than `other_than`."""

        def found() -> ComponentStatus | None:
            item = self.component(name)
            return item if item.state == "running" and item.pid != other_than else None

        return wait_until(found, what=f"{name} running")  # type: ignore[return-value]

    def connect(self, role: str = "application", *, through: str = "database-primary") -> psycopg.Connection[Any]:
        """Return a connection to the database; the caller closes it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.status().state.ports[through],
            user={"application": "shop", "superuser": "postgres"}[role],
            password=self.passwords()[role],
            dbname="shop",
            autocommit=True,
            connect_timeout=5,
        )

    def passwords(self) -> Mapping[str, str]:
        """Return the passwords of the database's roles."""
        found: dict[str, str] = json.loads(self.layout.credentials.read_bytes())
        return found

    def dump(self) -> str:
        """Return the whole database as SQL, without the lines that differ in each dump."""
        done = subprocess.run(
            [str(find_postgres().folder / "pg_dump"), "-h", "127.0.0.1", "-U", "postgres", "-d", "shop"],
            env={
                **os.environ,
                "PGPASSWORD": self.passwords()["superuser"],
                "PGPORT": str(self.status().state.ports["postgres"]),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return "\n".join(
            line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
        )

    def redis(self, command: str, *, through: str = "cache-primary") -> bytes:
        """Send a command to Redis and return the first bytes of its response."""
        with socket.create_connection(("127.0.0.1", self.status().state.ports[through]), timeout=5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(4_096)

    def http(self) -> dict[str, Any]:
        """Return the response of a stand-in for the target."""
        address = self.status().state.addresses.target
        found: dict[str, Any] = httpx.get(address + HEALTH_PATH, timeout=5, trust_env=False, verify=False).json()
        return found


def shared_memory_of(layout: Layout) -> int:
    """Return the id of the System V segment of a testbed's PostgreSQL."""
    return int((layout.postgres / "postmaster.pid").read_text().splitlines()[6].split()[1])


def shared_memory() -> set[int]:
    """Return the ids of all System V segments of this machine."""
    return {int(line.split()[1]) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def processes_of(layout: Layout) -> list[psutil.Process]:
    """Return every running process of a testbed: the guard and all of its descendants."""
    guard = psutil.Process(int(layout.lock.read_text()))
    return [guard, *guard.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[str]:
    """Return the command lines of running processes; zombies and processes that are exiting do not count.

    The kernel frees the memory of an exiting process, and with it the command line, before it closes the files and
    releases their locks, and makes it a zombie only after that. So a lock can be free a moment before the status changes.
    """
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE and (words := process.cmdline()):
                found.append(f"{process.pid}: {' '.join(words)}")
    return found


class _Handler(http.server.BaseHTTPRequestHandler):
    settings: dict[str, Any]
    worker: int

    def do_GET(self) -> None:
        body = json.dumps(
            {
                "worker": self.worker,
                "pid": os.getpid(),
                "version": self.settings["version"],
                "environment": dict(os.environ),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class _Server(http.server.ThreadingHTTPServer):
    allow_reuse_port = True
    daemon_threads = True


def main(settings: str, worker: str) -> None:
    """Serve until killed; invalid settings end the process with 3, as in the target."""
    _Handler.settings = json.loads(Path(settings).read_bytes())
    _Handler.worker = int(worker)
    if not isinstance(_Handler.settings["database"]["pool_size"], int):
        print("settings: database.pool_size is no number", flush=True)
        sys.exit(3)
    listen = _Handler.settings["listen"]
    with _Server((listen["host"], listen["port"]), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[4])
