"""The testbed's target as real processes: workers with their own PostgreSQL and Redis, queried over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg

from relab.testbed.target.seed import SCHEMA_PATH, seed, write_products
from rig.servers import PostgresServer, RedisServer, free_port
from rig.waiting import wait_until

READY_TIMEOUT_S = 30.0
PRODUCTS = 300
ORDERS = 1_500


def make_shop_database(postgres: PostgresServer, name: str, *, products: int = PRODUCTS, orders: int = ORDERS) -> None:
    """Create a database with the shop's schema and its first data."""
    with psycopg.connect(postgres.create_database(name)) as connection:
        connection.execute(SCHEMA_PATH.read_bytes())
        seed(connection, products=products, orders=orders)


def settings_document(root: Path, *, postgres: PostgresServer, redis: RedisServer, database: str) -> dict[str, Any]:
    """Return settings in the supervisor's format, with all paths below one folder."""
    return {
        "version": 3,
        "listen": {"host": "127.0.0.1", "port": free_port()},
        "database": {
            "host": "127.0.0.1", "port": postgres.port, "user": "postgres", "password": "only for show",
            "name": database, "pool_size": 4, "max_overflow": 2, "pool_timeout_s": 0.5, "connect_timeout_s": 2.0,
            "statement_timeout_ms": 2_000,
        },
        "cache": {"host": "127.0.0.1", "port": redis.port, "password": None, "timeout_s": 0.5},
        "search": {"products_path": str(root / "products.jsonl"), "qdrant_dir": str(root / "qdrant")},
        "workers": 2,
        "data_dir": str(root / "data"),
        "log_path": str(root / "logs" / "target.log"),
        "stats_dir": str(root / "stats"),
        "private_dir": str(root / "private"),
        "flags_path": str(root / "flags.json"),
        "supervisor_socket": None,
        "token": None,
    }  # fmt: skip


class Target:
    """Two workers of one target. Use it as a context manager: leaving the block kills the workers.

    Attributes:
        settings: the document that `start` writes to disk; a change takes effect with the next `start`.
    """

    def __init__(self, root: Path, settings: dict[str, Any], *, products: int = PRODUCTS) -> None:
        self.root = root
        self.settings = settings
        self._products = products
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.client = httpx.Client(base_url=self.url, timeout=15.0, trust_env=False, verify=False)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.settings['listen']['port']}"

    def __enter__(self) -> Self:
        write_products(self.root / "products.jsonl", products=self._products)
        try:
            for worker in range(1, self.settings["workers"] + 1):
                self.start(worker, wait=False)
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is not None:
            print((self.root / "output.txt").read_text()[-3_000:])
            for path in sorted((self.root / "logs").glob("*.jsonl")):
                print(path.name, path.read_text()[-3_000:])

    def close(self) -> None:
        """Kill all workers."""
        self.client.close()
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()

    def start(self, worker: int, *, wait: bool = True) -> None:
        """Write the settings and start one worker."""
        path = self.root / "target.json"
        path.write_text(json.dumps(self.settings))
        with (self.root / "output.txt").open("ab") as output:
            self.processes[worker] = subprocess.Popen(
                [sys.executable, "-m", "relab.testbed.target", "--settings", str(path), "--worker", str(worker)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if wait:
            self.wait_ready()

    def restart(self, worker: int) -> None:
        """Kill one worker and start it again."""
        self.processes[worker].kill()
        self.processes[worker].wait()
        self.start(worker)

    def wait_ready(self) -> None:
        """Wait until the health report shows every started worker as running."""

        def is_ready() -> bool:
            for worker, process in self.processes.items():
                assert process.poll() is None, (worker, process.poll(), (self.root / "output.txt").read_text())
            try:
                states = {row["worker"]: row["state"] for row in self.get("/api/v1/health")["workers"]}
            except httpx.TransportError:
                return False
            return all(states[worker] == "running" for worker in self.processes)

        wait_until(is_ready, within_s=READY_TIMEOUT_S, what="the workers being ready")

    def signal(self, worker: int, number: signal.Signals) -> None:
        """Send a signal to one worker."""
        os.kill(self.processes[worker].pid, number)

    def get(self, path: str, **parameters: Any) -> Any:
        """Send a GET on a new connection, so that either worker may answer; require status 200 and return the JSON."""
        answer = self.fresh("GET", path, params=parameters)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    def fresh(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request on a new connection and return the response."""
        with httpx.Client(base_url=self.url, timeout=15.0, trust_env=False, verify=False) as client:
            return client.request(method, path, **options)

    def order(self, **fields: Any) -> httpx.Response:
        """Place an order on a new connection and return the response."""
        body = {"product_id": 1, "quantity": 1, "customer": "somebody", **fields}
        return self.fresh("POST", "/api/v1/orders", json=body)

    def defect(self, worker: int, **op: Any) -> dict[str, Any]:
        """Send one command to the worker's private socket and return the answer."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(15)
            line.connect(str(self.root / "private" / f"worker-{worker}.sock"))
            line.sendall(json.dumps(op).encode() + b"\n")
            answer = json.loads(line.makefile().readline())
            assert isinstance(answer, dict)
            return answer

    def logs(self) -> list[dict[str, Any]]:
        """Return all log lines of all workers."""
        lines: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self.get("/api/v1/logs", limit=1_000, **({"since": cursor} if cursor else {}))
            lines += page["logs"]
            cursor = page["cursor"]
            if not page["more"]:
                return lines

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        return [line for line in self.logs() if line["event"] == event]


@contextmanager
def target_folder() -> Iterator[Path]:
    """Yield a folder whose path is short enough for sockets; it is removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="shop-"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
