"""Starts that `lab` rejects: the message gives the reason and the remedy, and no process is left."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from relab.storage import Database
from rig.servers import PostgresServer
from support.lab.installation import Installation
from support.lab.process import LabProcess, run_lab

UNAVAILABLE = 69
COMMANDS = ["serve", pytest.param("worker", marks=pytest.mark.full)]


@pytest.mark.parametrize("command", COMMANDS)
def test_database_of_a_newer_version_is_rejected(tmp_path: Path, command: str) -> None:
    _execute(tmp_path, "CREATE TABLE relab_alembic_version (version_num VARCHAR(32) NOT NULL)")
    _execute(tmp_path, "INSERT INTO relab_alembic_version VALUES ('9999')")

    _assert_refused(
        tmp_path, command, says=["schema revision 9999", "newer than this version", "Start the newer version"]
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_foreign_database_is_rejected(tmp_path: Path, command: str) -> None:
    _execute(tmp_path, "CREATE TABLE invoices (id INTEGER PRIMARY KEY)")

    _assert_refused(tmp_path, command, says=["contains tables of another program", "DATABASE_URL"])

    # The rejected database is unchanged.
    assert _tables(tmp_path) == {"invoices"}


def test_postgres_database_without_migrations_is_rejected(tmp_path: Path, postgres_url: str) -> None:
    _assert_refused(
        tmp_path, "serve", settings={"DATABASE_URL": postgres_url}, says=["schema revision none", "lab db upgrade"]
    )


def test_unreachable_database_server_is_reported_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://somebody:hunter2@127.0.0.1:1/relab"

    message = _assert_refused(
        tmp_path, "serve", settings={"DATABASE_URL": url}, says=["The database cannot be used right now", "lab doctor"]
    )

    assert "hunter2" not in message


@pytest.mark.parametrize("address", ["0.0.0.0", pytest.param("::", marks=pytest.mark.full)])
def test_public_address_without_tokens_is_rejected(tmp_path: Path, address: str) -> None:
    _assert_refused(
        tmp_path,
        "serve",
        "--host",
        address,
        says=[f"The address {address} is public", "no tokens", "lab auth create-token"],
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"RELAB_HTTP__PORT": "eighty"}, ["http.port", ".env.example"]),
        ({"RELAB_JOBS__BACKEND": "carrier-pigeon"}, ["RELAB_JOBS__BACKEND", "embedded"]),
        ({"RELAB_JOBS__BACKEND": "rq"}, ["RELAB_JOBS__BACKEND is rq, but REDIS_URL is not set", "Set REDIS_URL"]),
        ({"REDIS_URL": "localhost:6379"}, ["REDIS_URL is not the URL of a Redis server", "redis://host:6379/0"]),
        ({"REDIS_URL": "redis://:hunter2@host:port/0"}, ["REDIS_URL is not the URL of a Redis server"]),
        ({"RELAB_JOBS__DONE_RETENTION_DAYS": "inf"}, ["jobs.done_retention_days", "36500"]),
        ({"DATABASE_URL": "oracle://somebody:hunter2@host/db"}, ["unsupported scheme 'oracle'", "postgresql://"]),
    ],
)
def test_invalid_settings_are_rejected_without_showing_a_password(
    tmp_path: Path, settings: dict[str, str], says: list[str]
) -> None:
    assert "hunter2" not in _assert_refused(tmp_path, "serve", settings=settings, says=says)


def test_port_in_use_is_reported_and_no_process_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = LabProcess("serve", "--port", str(port), home=tmp_path, port=port)
        try:
            server.start(wait=False)
            assert server.wait() == UNAVAILABLE
            # The server started no worker, or ended it.
            server.wait_alone()
        finally:
            server.destroy()

    assert server.log() == (
        f"lab: Cannot listen on 127.0.0.1 port {port}: Address already in use. Stop the program that uses the port, "
        "or choose another port with --port (RELAB_HTTP__PORT).\n"
    )


def test_an_outdated_postgres_database_starts_once_it_is_upgraded(tmp_path: Path, postgres: PostgresServer) -> None:
    installation = Installation.on_postgres(tmp_path, postgres, None)

    with installation.serve("--workers", "0") as server:
        assert server.answers("/readyz")


def _assert_refused(
    home: Path, command: str, *options: str, says: list[str], settings: dict[str, str] | None = None
) -> str:
    """Assert that the command ends with 69 and one line on stderr with these words; return its stderr."""
    done = run_lab(command, *options, *(["--port", "0"] if command == "serve" else []), home=home, settings=settings)
    assert done.returncode == UNAVAILABLE, done.stderr
    assert all(part in done.stderr for part in says), done.stderr
    assert done.stderr.startswith("lab: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    return done.stderr


def _execute(home: Path, statement: str) -> None:
    database = Database.open(f"sqlite:///{home / 'relab.db'}")
    with database.write() as unit:
        unit.session.execute(text(statement))
    database.close()


def _tables(home: Path) -> set[str]:
    rows = Installation.on_sqlite(home).query("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(row[0]) for row in rows}
