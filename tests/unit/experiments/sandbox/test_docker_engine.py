"""The client of the Docker Engine: every unusable response is an `EngineError`."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from relab.experiments.sandbox.docker_engine import DockerEngine, EngineError


def test_invalid_json_of_the_engine_is_an_engine_error(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{")

        engine = threading.Thread(target=answer)
        engine.start()
        with pytest.raises(EngineError, match="invalid JSON"):
            DockerEngine(path).call("GET", "/info")
        engine.join()
