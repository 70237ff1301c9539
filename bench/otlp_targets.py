"""Run the receivers that the ingest benchmark compares: relab on both databases, Phoenix and MLflow (the peers).

Each runs on loopback, in a separate process, with its data in a separate folder. Each peer is installed in a separate
environment, so that none shares a dependency.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from rig.servers import PostgresServer, free_port
from rig.waiting import wait_until

PEERS = {"phoenix": "arize-phoenix", "mlflow": "mlflow"}
DURABLE_POSTGRES = "-c fsync=on -c shared_buffers=128MB -c max_wal_size=4GB"


@dataclass
class Target:
    """A running receiver of traces.

    Attributes:
        name: its name in the table.
        process: the process of the server.
        url: the URL to which traces are posted.
        base: the base URL of its HTTP API.
        database: a SQLite file, or the URL of a PostgreSQL database, in which another process counts the spans.
        count: the SQL statement that counts the spans.
        headers: the headers of each request, as `name=value`.
        version: the version of the peer; empty for relab.
    """

    name: str
    process: subprocess.Popen[bytes]
    url: str
    base: str
    database: str
    count: str = "SELECT count(*) FROM spans"
    headers: list[str] = field(default_factory=list)
    version: str = ""

    def visible_spans(self) -> int:
        """Return the number of stored spans; the benchmark's own process reads it from the receiver's database."""
        if self.database.startswith("postgresql"):
            with psycopg.connect(self.database) as connection:
                return int(connection.execute(self.count).fetchone()[0])  # type: ignore[index]
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        try:
            return int(connection.execute(self.count).fetchone()[0])
        finally:
            connection.close()

    def memory_mb(self) -> float:
        """Return the resident memory of the server's own process, without its child processes, in MB."""
        return psutil.Process(self.process.pid).memory_info().rss / 1_048_576


@contextmanager
def relab(root: Path, database: str) -> Iterator[Target]:
    """Run `lab serve` on SQLite, or on a PostgreSQL server that syncs to disk, while the `with` block runs."""
    if database == "sqlite":
        with serving(root, f"relab on {database}", None, str(root / "relab.db")) as target:
            yield target
        return
    server = PostgresServer.create()
    try:
        server.options = DURABLE_POSTGRES
        server.stop()
        server.start()
        url = server.create_database("bench")
        with serving(root, "relab on postgresql", url, url) as target:
            yield target
    finally:
        server.destroy()


@contextmanager
def serving(root: Path, name: str, url: str | None, database: str, *options: str) -> Iterator[Target]:
    """Run `lab serve` with `options` on the database at a URL (None: SQLite in `root`), while the `with` block runs."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment = {**kept, "RELAB_HOME": str(root), "LOG_LEVEL": "ERROR"}
    if url is not None:
        environment["DATABASE_URL"] = url
        upgrade = [sys.executable, "-m", "relab", "db", "upgrade"]
        subprocess.run(upgrade, env=environment, check=True, capture_output=True)
    port = free_port()
    with _running(
        [sys.executable, "-m", "relab", "serve", "--port", str(port), *options], environment, root
    ) as process:
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{base}/readyz"), what="relab answering", within_s=60)
        yield Target(name, process, f"{base}/v1/traces", base, database)


@contextmanager
def peer(name: str, root: Path, environments: Path) -> Iterator[Target]:
    """Install a peer if it is missing, and run it on SQLite, as its documentation describes, during the `with` block.

    Args:
        name: `phoenix` or `mlflow`.
        root: the folder for its data.
        environments: the folder of the peers' Python environments.
    """
    python = install(name, environments)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ} | {"HOME": str(root)}
    if name == "phoenix":
        settings = {
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_WORKING_DIR": str(root),
            "PHOENIX_SQL_DATABASE_URL": f"sqlite:///{root}/phoenix.db",
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        command, database, headers = [str(python.parent / "phoenix"), "serve"], root / "phoenix.db", []
    else:
        settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        database, headers = root / "mlflow.db", ["x-mlflow-experiment-id=0"]
        command = [str(python.parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{database}"]
    with _running(command, {**kept, **settings}, root) as process:
        wait_until(lambda: _answers(f"{base}/health") or _answers(base), what=f"{name} answering", within_s=180)
        yield Target(
            name,
            process,
            f"{base}/v1/traces",
            base,
            str(database),
            headers=headers,
            version=_version(python, PEERS[name]),
        )


def install(name: str, environments: Path) -> Path:
    """Return the path of the Python program of a peer's environment; create the environment if it is missing."""
    home = environments / name
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        print(f"Installing {PEERS[name]} into {home} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PEERS[name]], check=True)
        (home / "installed").touch()
    return python


def _version(python: Path, package: str) -> str:
    script = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def _running(command: list[str], environment: dict[str, str], root: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
    try:
        yield process
    finally:
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        for pid in family[1:]:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
