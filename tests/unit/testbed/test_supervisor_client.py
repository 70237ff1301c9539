"""The supervisor client converts each answer to a value or to the error that the supervisor raised."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError
from relab.testbed.actions.plant import Plant, PlantError
from relab.testbed.errors import NotAnsweringError, NotRunningError, StartError
from relab.testbed.supervisor_client import SupervisorClient
from relab.testbed.target.diagnostics.supervisor import UNKNOWN, ask_supervisor

PROBLEM = {"error": {"code": "x", "message": "There is no component 'x'.", "remedy": "Name another one."}}
LATE = {"error": {**PROBLEM["error"], "component": "worker-1", "log_tail": "Traceback"}}


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Path]:
    """Yield the socket path of a server that gives this answer to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
            pass

    class Server(ThreadingMixIn, UnixStreamServer):
        """A server that joins the threads of its requests when it is closed."""

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "control.sock"
        with Server(str(path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield path
            server.shutdown()
            thread.join()


def test_answer_is_returned() -> None:
    with answering(200, b'{"phase": "ready"}') as path, SupervisorClient(path) as client:
        assert client.ask("GET", "/status") == {"phase": "ready"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (409, ConflictError),
        (422, InvalidInputError),
        (503, UnavailableError),
        (500, UnavailableError),
    ],
)
def test_rejection_is_raised_as_the_supervisors_error(status: int, kind: type[RelabError]) -> None:
    with (
        answering(status, json.dumps(PROBLEM).encode()) as path,
        SupervisorClient(path) as client,
        pytest.raises(kind) as raised,
    ):
        client.ask("GET", "/status")
    assert type(raised.value) is kind
    assert raised.value.message == PROBLEM["error"]["message"]
    assert raised.value.remedy == PROBLEM["error"]["remedy"]


def test_component_that_is_not_ready_is_named_with_its_log() -> None:
    with (
        answering(503, json.dumps(LATE).encode()) as path,
        SupervisorClient(path) as client,
        pytest.raises(StartError) as raised,
    ):
        client.ask("GET", "/status")
    assert raised.value.component == "worker-1"
    assert raised.value.log_tail == "Traceback"


@pytest.mark.parametrize(("status", "body"), [(500, b"oops"), (503, b"[]"), (200, b"oops"), (404, b'{"error": {}}')])
def test_answer_in_another_format_raises_not_answering_error(status: int, body: bytes) -> None:
    with answering(status, body) as path, SupervisorClient(path) as client, pytest.raises(NotAnsweringError):
        client.ask("GET", "/status")


def test_missing_supervisor_is_reported_with_the_name_of_the_testbed(tmp_path: Path) -> None:
    with SupervisorClient(tmp_path / "shop" / "control.sock") as client, pytest.raises(NotRunningError) as raised:
        client.ask("GET", "/status")
    assert raised.value.remedy == "lab testbed up --name shop"


def test_operators_get_one_error_for_every_part_that_fails() -> None:
    with answering(409, json.dumps(PROBLEM).encode()) as path:
        plant = Plant(path, "http://127.0.0.1:9")
        with pytest.raises(PlantError) as raised:
            plant.components()
        plant.close()
    assert PROBLEM["error"]["message"] in str(raised.value)


def test_diagnostics_show_unknown_while_the_supervisor_fails(tmp_path: Path) -> None:
    assert asyncio.run(ask_supervisor(None, "/components")) == UNKNOWN
    assert asyncio.run(ask_supervisor(tmp_path / "control.sock", "/components")) == UNKNOWN
    with answering(500, b"oops") as path:
        assert asyncio.run(ask_supervisor(path, "/components")) == UNKNOWN
    with answering(200, b'{"components": []}') as path:
        assert asyncio.run(ask_supervisor(path, "/components")) == {"components": []}
