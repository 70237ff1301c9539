"""The target with a Qdrant server and a supervisor: stand-ins that speak their protocols over real sockets."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from relab.testbed import service
from relab.testbed.target.errors import SearchError
from relab.testbed.target.indexes import FaissIndex, QdrantServer
from relab.testbed.target.search import Products
from relab.testbed.target.seed import write_products
from relab.testbed.target.vectors import embed
from rig.servers import PostgresServer, RedisServer
from support.testbed.beds import bed_home, free_base
from support.testbed.target import Target, make_shop_database, settings_document, target_folder

pytestmark = pytest.mark.full


class Points(BaseHTTPRequestHandler):
    """Serves collections of points like Qdrant's REST API: create, fill, count, and query in batches."""

    protocol_version = "HTTP/1.1"
    collections: dict[str, dict[int, list[float]]]
    uploads: list[int]

    def _handle(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        path = self.path.partition("?")[0]
        name = path.split("/")[2]
        rest = re.sub(r"^/collections/[^/]+", "", path)
        points = self.collections.get(name)
        result: Any = True
        if (self.command, rest) == ("GET", "/exists"):
            result = {"exists": points is not None}
        elif (self.command, rest) == ("PUT", ""):
            if points is not None:
                return self._answer(409, {"status": {"error": "already exists"}})
            assert body == {"vectors": {"size": 64, "distance": "Dot"}}
            self.collections[name] = {}
        elif points is None:
            return self._answer(404, {"status": {"error": "Not found"}})
        elif (self.command, rest) == ("PUT", "/points"):
            points.update({point["id"]: point["vector"] for point in body["points"]})
            self.uploads.append(len(body["points"]))
        elif (self.command, rest) == ("POST", "/points/count"):
            result = {"count": len(points)}
        elif (self.command, rest) == ("POST", "/points/query/batch"):
            result = [{"points": _nearest(points, one["query"], one["limit"])} for one in body["searches"]]
        else:
            return self._answer(404, None)
        return self._answer(200, {"result": result, "status": "ok", "time": 0.0})

    do_GET = do_PUT = do_POST = _handle  # noqa: N815 the library calls them by these names

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, document: object) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _nearest(points: dict[int, list[float]], query: list[float], limit: int) -> list[dict[str, float]]:
    scores = {key: float(np.dot(vector, query)) for key, vector in points.items()}
    return [{"id": key, "score": scores[key]} for key in sorted(scores, key=lambda key: -scores[key])[:limit]]


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def points_server() -> Iterator[tuple[str, type[Points]]]:
    handler = type("FreshPoints", (Points,), {"collections": {}, "uploads": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", handler


def test_vector_server_is_filled_once_and_agrees_with_faiss(
    points_server: tuple[str, type[Points]], tmp_path: Path
) -> None:
    url, server = points_server
    write_products(tmp_path / "products.jsonl", products=1_200)
    products = Products(tmp_path / "products.jsonl")
    ids, vectors = list(products.texts), embed(products.texts.values())

    first = QdrantServer(ids, vectors, url=url, collection="products")
    second = QdrantServer(ids, vectors, url=url, collection="products")

    queries = embed(["oak lamp", "steel kettle"])
    ours = FaissIndex(ids, vectors).search(queries, [5, 60])
    theirs = second.search(queries, [5, 60])
    assert server.uploads == [1_000, 200]
    for mine, other in zip(ours, theirs, strict=True):
        assert [score for _, score in mine] == pytest.approx([score for _, score in other], abs=1e-5)
    assert first.figures() == {"kind": "qdrant server", "vectors": 1_200, "expected": 1_200, "state": "ready"}
    server.collections.clear()
    with pytest.raises(SearchError):
        first.search(queries, [5, 60])
    first.close()
    second.close()


def test_missing_vector_server_is_reported() -> None:
    with pytest.raises(SearchError) as failed:
        QdrantServer([1], embed(["lamp"]), url="http://127.0.0.1:9", collection="products")

    assert "qdrant server" in failed.value.cause


class Supervisor(BaseHTTPRequestHandler):
    """Answers the two requests that the target sends to its supervisor."""

    def do_GET(self) -> None:
        answers: dict[str, Any] = {
            "/components": {"components": [{"name": "postgres", "state": "running", "restarts": 2}]},
            "/settings/history": {"versions": [{"version": 3, "author": "ops", "note": "first"}]},
        }
        raw = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def test_target_uses_the_vector_server_and_the_supervisor(
    postgres: PostgresServer, redis_server: RedisServer, points_server: tuple[str, type[Points]]
) -> None:
    make_shop_database(postgres, "shop_neighbours")
    with target_folder() as root, served(UnixServer(str(root / "control.sock"), Supervisor)):
        settings = settings_document(root, postgres=postgres, redis=redis_server, database="shop_neighbours")
        settings["supervisor_socket"] = str(root / "control.sock")
        settings["search"]["qdrant_url"] = points_server[0]
        with Target(root, settings) as target:
            assert target.get("/api/v1/search", q="oak lamp", top_k=100)["backend"] == "qdrant"
            assert target.get("/api/lab/config")["health"]["qdrant"]["kind"] == "qdrant server"
            assert target.get("/api/v1/diagnostics/processes")["components"][0]["restarts"] == 2
            history = target.get("/api/v1/diagnostics/settings")["history"]
            assert history["versions"][0]["author"] == "ops"
            (root / "control.sock").unlink()
            assert target.get("/api/v1/diagnostics/processes")["components"] == "unknown"
            points_server[1].collections.clear()
            failed = target.fresh("GET", "/api/v1/search", params={"q": "oak", "top_k": 100})
            assert failed.status_code == 503
            assert target.get("/api/v1/search", q="oak lamp", top_k=5)["backend"] == "faiss"


@pytest.mark.full
def test_environment_sets_the_vector_server_and_the_token_that_guards_the_flags(
    points_server: tuple[str, type[Points]],
) -> None:
    with bed_home() as home:
        environment = {
            **os.environ,
            "RELAB_HOME": str(home),
            "QDRANT_URL": points_server[0],
            "RELAB_TESTBED_TOKEN": "tok-1",
        }
        command = [
            sys.executable,
            "-m",
            "relab",
            "testbed",
            "up",
            "--name",
            "t",
            "--port-base",
            str(free_base()),
            "--within",
            "60",
        ]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
        addresses = service.status(home, "t", hidden=True).state.addresses
        with httpx.Client(trust_env=False, timeout=30) as client:
            found = client.get(f"{addresses.target}/api/lab/config").json()
            assert found["health"]["qdrant"]["kind"] == "qdrant server"
            change = {"control": {"max_concurrency": 7}}
            assert client.post(f"{addresses.target}/ops/flags", json=change).status_code == 401
            own = {"Authorization": "Bearer tok-1"}
            assert client.post(f"{addresses.target}/ops/flags", json=change, headers=own).status_code == 200
            operator = {"Authorization": f"Bearer {service.make_token(home, 't', 'test', ('act',))}"}
            done = client.post(
                f"{addresses.actions}/action/set-flow-control", json={"max_concurrency": 9}, headers=operator
            )
            assert done.status_code == 200
            assert client.get(f"{addresses.target}/ops/flags").json()["control"]["max_concurrency"] == 9
