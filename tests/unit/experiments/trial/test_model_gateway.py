"""The gateway to a model's server over real sockets: answers, equal requests, and the end of the gateway."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relab.experiments.models import TrialIds
from relab.experiments.trial import model_gateway
from relab.experiments.trial.answer_cache import AnswerCache
from relab.experiments.trial.model_answers import REPEAT, CacheKeys
from relab.experiments.trial.model_gateway import MARK, ModelGateway
from support.clocks import MovableClock

_PATIENCE_S = 20.0


class _Compressing(BaseHTTPRequestHandler):
    """A server that compresses its answer, whatever the client accepts."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.compress(b'{"choices": []}')
        self.send_response(200)
        for name, value in (("Content-Encoding", "gzip"), ("Content-Length", str(len(body))), ("Set-Cookie", "a=b")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Compressing) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_harness_learns_that_an_answer_is_compressed(tmp_path: Path, upstream: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    end = ModelGateway(upstream, tmp_path / "log.jsonl", clock=MovableClock()).serve(listening)
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/chat/completions", b"{}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    end()

    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Set-Cookie"] is None
    assert gzip.decompress(body) == b'{"choices": []}'


@pytest.mark.parametrize(("method", "status"), [("HEAD", 204), ("POST", 200)])
def test_log_has_the_status_of_a_complete_answer_that_is_not_stored(
    tmp_path: Path, upstream: str, monkeypatch: pytest.MonkeyPatch, method: str, status: int
) -> None:
    monkeypatch.setattr(model_gateway, "MAX_ANSWER_BYTES", 1)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    log = tmp_path / "log.jsonl"
    end = ModelGateway(upstream, log, clock=MovableClock()).serve(listening)
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, "/v1/chat/completions", b"{}")
    connection.getresponse().read()
    connection.close()
    end()

    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [status]


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_end_of_a_trial_does_not_wait_for_a_slow_answer(tmp_path: Path, begun: bytes) -> None:
    log = tmp_path / "log.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as listening:
        upstream = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        port = listening.getsockname()[1]
        end = ModelGateway(upstream, log, clock=MovableClock()).serve(listening)
        connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", b"{}")
        asked, _ = server.accept()
        asked.recv(65_536)
        asked.sendall(begun)
        # Until the gateway waits for the rest of the answer: closing a socket does not wake a thread that reads from it.
        time.sleep(0.5)

        ending = threading.Thread(target=end)
        ending.start()
        ending.join(_PATIENCE_S)
        has_ended = not ending.is_alive()
        # Without this, a gateway that waits would let the tests wait, too.
        asked.close()
        ending.join()
        connection.close()

    assert has_ended
    assert len(log.read_text().splitlines()) == 1


class _Sampling(ThreadingHTTPServer):
    """A server that answers each request differently, but the first one with 429, after it has answered the second."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Sample)
        self.lock = threading.Lock()
        self.requests = 0
        self.has_first = threading.Event()
        self.has_answered = threading.Event()


class _Sample(BaseHTTPRequestHandler):
    server: _Sampling

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests += 1
            number = self.server.requests
        if number == 1:
            self.server.has_first.set()
            self.server.has_answered.wait(_PATIENCE_S)
        body = json.dumps({"choices": [number]}).encode()
        self.send_response(429 if number == 1 else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_request_after_a_rate_limit_does_not_get_the_answer_of_an_equal_request(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", ttl_s=3_600, max_bytes=1_000_000, clock=MovableClock())

    def ask(port: int) -> tuple[int, str | None, bytes]:
        connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", b'{"messages": []}')
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers[MARK], body

    with _Sampling() as server:
        threading.Thread(target=server.serve_forever).start()
        upstream = f"http://127.0.0.1:{server.server_port}/v1"

        def start() -> tuple[Callable[[], None], int]:
            listening = socket.create_server(("127.0.0.1", 0))
            keys = CacheKeys(upstream, REPEAT, TrialIds("run", "trial_1", "control", "t", 0), 1)
            gateway = ModelGateway(upstream, tmp_path / "log", keys=keys, cache=cache, clock=MovableClock())
            return gateway.serve(listening), listening.getsockname()[1]

        end, port = start()
        limited: list[tuple[int, str | None, bytes]] = []
        first = threading.Thread(target=lambda: limited.append(ask(port)))
        first.start()
        server.has_first.wait(_PATIENCE_S)
        second = ask(port)
        server.has_answered.set()
        first.join()
        again = ask(port)
        end()
        end, port = start()
        replayed = [ask(port), ask(port)]
        end()
        server.shutdown()

    assert limited[0][:2] == (429, "miss")
    assert second == (200, "miss", b'{"choices": [2]}')
    assert again == (200, "miss", b'{"choices": [3]}')
    # The first number is that of the request that was asked twice.
    assert replayed == [(200, "hit", b'{"choices": [3]}'), (200, "hit", b'{"choices": [2]}')]
