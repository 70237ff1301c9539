"""Configure a testbed's PostgreSQL server, and create its data folder.

The server does not sync data to disk (fsync), because the data is temporary. Everything that a fault or a repair can
affect works as on any other PostgreSQL server.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relab.testbed.errors import StartError
from relab.testbed.layout import HOST
from relab.testbed.supervisor.probes import PostmasterReady
from relab.testbed.supervisor.process import Process, ProcessSpec, run_to_end, tail
from relab.testbed.supervisor.programs import PostgresPrograms

if TYPE_CHECKING:
    import psycopg

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
ROOT: Final = Path("/")
"""The working folder of PostgreSQL. After PostgreSQL has searched for its own programs, it changes back to this folder.
"""
SUPERUSER: Final = "postgres"
APPLICATION: Final = "shop"
DATABASE: Final = "shop"
_DATA_FD: Final = 30
_PASSWORD_FD: Final = 31
HERE: Final = f"/proc/self/fd/{_DATA_FD}"
"""The data folder as the server names it: an inherited descriptor, because its user may have no access to the path."""

_INITDB_S: Final = 60.0
_START_S: Final = 30.0
_SETTINGS: Final = {
    # The data is temporary: nothing is synced to disk (commits survive a crash of processes), and the log is small.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "2MB",
    "max_wal_size": "64MB",
    "shared_buffers": "32MB",
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # Use files in the data folder, which are deleted with it; those in /dev/shm would remain after a kill.
    "dynamic_shared_memory_type": "mmap",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    # Limits that a fault can reach, and settings that help operators.
    "max_connections": "50",
    "superuser_reserved_connections": "3",
    "log_lock_waits": "on",
    "deadlock_timeout": "1s",
    "track_io_timing": "on",
    # End sessions within a second after their client is gone, even if they are computing.
    "client_connection_check_interval": "1s",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
_HBA: Final = f"# Every connection needs a password.\nhost all all {HOST}/32 scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class PostgresPasswords:
    """The passwords of PostgreSQL's two roles: the superuser and the application (the shop)."""

    superuser: str
    application: str

    @classmethod
    def new(cls) -> PostgresPasswords:
        """Return new random passwords for the roles of the database."""
        return cls(secrets.token_urlsafe(18), secrets.token_urlsafe(18))


def configuration(programs: PostgresPrograms) -> str:
    """Return the lines to append to the file `postgresql.conf` of a server of this PostgreSQL installation."""
    settings = dict(_SETTINGS)
    if programs.statements:
        settings["shared_preload_libraries"] = "pg_stat_statements"
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())


def server_command(programs: PostgresPrograms, port: int) -> list[str]:
    """Return the command that starts a PostgreSQL server on a port of this machine.

    The process must be started with the data folder as an open descriptor: set `ProcessSpec.opened` to the result of
    `opened_for`.
    """
    return [programs.postgres, "-D", HERE, "-p", str(port)]


def opened_for(folder: Path) -> dict[int, Path]:
    """Return `{number of a file descriptor: data folder}`, the value for `opened` in the server's `ProcessSpec`.

    The folder is opened before the process changes its user, and the server inherits the descriptor. The server uses
    the descriptor, because PostgreSQL's operating-system user may have no access to the folder's path.

    Args:
        folder: the data folder of the server.
    """
    return {_DATA_FD: folder}


def connect(port: int, password: str, *, user: str = SUPERUSER, database: str = "postgres") -> psycopg.Connection:
    """Connect as `user` to the server on a port of this machine, and return the connection, in autocommit mode.

    The caller must close the connection.

    Raises:
        psycopg.Error: the connection fails.
    """
    import psycopg  # noqa: PLC0415 only to make a template; it takes a tenth of a second

    return psycopg.connect(
        host=HOST, port=port, user=user, password=password, dbname=database, autocommit=True, connect_timeout=5
    )


class NewCluster:
    """Creates a data folder of PostgreSQL, and fills it through a server that runs only for this purpose.

    Args:
        programs: the PostgreSQL installation to use.
        folder: the data folder: empty, and owned by the operating-system user that runs the server.
        log: the file for the output of initdb and of the server.
        port: the port for the server.
    """

    def __init__(self, programs: PostgresPrograms, folder: Path, *, log: Path, port: int) -> None:
        self._programs = programs
        self._folder = folder
        self._log = log
        self._port = port

    async def make(self, credentials: PostgresPasswords) -> None:
        """Create the content of the data folder with the program initdb, and write the server's configuration.

        Args:
            credentials: the passwords, of which this method sets only the superuser's.

        Raises:
            StartError: initdb fails.
            NotAnsweringError: initdb takes too long.
        """
        password = self._folder.parent / "password"
        password.write_text(credentials.superuser + "\n", encoding="utf-8")
        try:
            if self._programs.owner is not None:
                os.chown(password, self._programs.owner.uid, self._programs.owner.gid)
            password.chmod(0o600)
            rest = ["-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]
            how = ["-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile=/proc/self/fd/{_PASSWORD_FD}"]
            order = self._order([self._programs.initdb, "-D", HERE, *how, *rest], {_PASSWORD_FD: password})
            code = await run_to_end(order, within_s=_INITDB_S)
        finally:
            password.unlink()
        if code != 0:
            raise StartError("initdb fails.", component="postgres", log_tail=tail(self._log))
        with (self._folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(configuration(self._programs))
        (self._folder / "pg_hba.conf").write_text(_HBA, encoding="utf-8")

    async def fill(self, work: Callable[[int], None]) -> None:
        """Start the PostgreSQL server, run `work` in a thread to fill the database, and stop the server.

        Args:
            work: is called with the server's port.

        Raises:
            StartError: the server does not start, or does not end in an orderly way.
            Exception: any exception of `work`.
        """
        process = Process(self._order(server_command(self._programs, self._port)))
        try:
            probe = PostmasterReady(self._folder / "postmaster.pid")
            try:
                async with asyncio.timeout(_START_S):
                    # Only the server's file shows its progress.
                    while process.exit_code is None and not await probe.ready(process.pid):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            except TimeoutError:
                await process.end(None, 0)
            if process.exit_code is not None:
                raise StartError("PostgreSQL does not start.", component="postgres", log_tail=tail(self._log))
            await asyncio.to_thread(work, self._port)
        finally:
            # SIGINT requests a fast shutdown: sessions are ended, all data is written.
            code = await process.end(signal.SIGINT, _START_S)
        if code != 0:
            raise StartError("PostgreSQL does not end in order.", component="postgres", log_tail=tail(self._log))

    def _order(self, command: Sequence[str], opened: Mapping[int, Path] | None = None) -> ProcessSpec:
        return ProcessSpec(
            command,
            ENVIRONMENT,
            ROOT,
            self._log,
            self._programs.owner,
            opened={**opened_for(self._folder), **(opened or {})},
        )
