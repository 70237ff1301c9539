"""A model server on loopback that speaks both protocols and misbehaves on request."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from relab.llm import PROVIDERS, Budget, LangChainGateway, LlmConfig

Behaviour = Callable[["Exchange"], None]


@dataclass(frozen=True)
class Request:
    """A request that the server received."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Exchange:
    """A request and the methods that respond to it."""

    handler: BaseHTTPRequestHandler
    request: Request
    server: ModelServer

    def send(self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send a complete response with a Content-Length."""
        self.start(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        self.handler.wfile.write(body)

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and the headers."""
        # Without the server's own Date, a test can set one.
        (self.handler.send_response_only if "Date" in headers else self.handler.send_response)(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def complete(self, text: str, *, finish: str | None = None, refusal: str | None = None) -> None:
        """Send `text` in the protocol of the request, as a tool call if the request offers tools."""
        self.send(json.dumps(self._envelope(text, finish, refusal)).encode())

    def _envelope(self, text: str, finish: str | None, refusal: str | None) -> dict[str, Any]:
        tools = self.request.body.get("tools")
        if self.request.path.endswith("/messages"):
            content: list[dict[str, Any]] = [{"type": "text", "text": text}]
            if tools and _is_object(text):
                content = [{"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"], "input": json.loads(text)}]
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": content,
                "stop_reason": finish or "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 11, "output_tokens": 7},
            }
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal}
        if tools:
            call = {"name": tools[0]["function"]["name"], "arguments": text}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
            }
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish or "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@dataclass
class ModelServer:
    """A model server that handles each request with the next configured behaviour and repeats the last one."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
    _behaviours: deque[Behaviour] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def will(self, *behaviours: Behaviour) -> None:
        """Set the behaviours for the next requests."""
        with self._lock:
            self._behaviours = deque(behaviours)

    def take(self, request: Request) -> Behaviour:
        """Record a request and return its behaviour."""
        with self._lock:
            self.requests.append(request)
            return self._behaviours.popleft() if len(self._behaviours) > 1 else self._behaviours[0]

    @staticmethod
    def say(text: str, *, finish: str | None = None, refusal: str | None = None) -> Behaviour:
        """Return a behaviour that sends `text` as the model's answer."""
        return lambda exchange: exchange.complete(text, finish=finish, refusal=refusal)

    @staticmethod
    def raw(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
        """Return a behaviour that sends `body` as the response."""
        return lambda exchange: exchange.send(body, status=status, headers=headers)

    @staticmethod
    def hang(exchange: Exchange) -> None:
        """Send no response."""
        exchange.server.released.wait()

    @staticmethod
    def dribble(exchange: Exchange) -> None:
        """Send one byte every 50 ms without end, and set `hung_up` when the client disconnects."""
        exchange.start(200, {"Content-Type": "application/json"})
        _write_until_hung_up(exchange, b" ", pause_s=0.05)

    @staticmethod
    def dribble_headers(exchange: Exchange) -> None:
        """Send the status line, and then one byte of a header every 50 ms without end."""
        exchange.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        _write_until_hung_up(exchange, b"x", pause_s=0.05)

    @staticmethod
    def flood(exchange: Exchange) -> None:
        """Send bytes without end, as fast as the client reads them."""
        exchange.start(200, {"Content-Type": "application/json"})
        _write_until_hung_up(exchange, b" " * 65_536, pause_s=0.0)

    @staticmethod
    def drop(exchange: Exchange) -> None:
        """Send less than the Content-Length, and close the connection."""
        exchange.start(200, {"Content-Type": "application/json", "Content-Length": "1000"})
        exchange.handler.wfile.write(b'{"choices": [')


def _write_until_hung_up(exchange: Exchange, chunk: bytes, *, pause_s: float) -> None:
    try:
        while not exchange.server.released.wait(pause_s):
            exchange.handler.wfile.write(chunk)
            exchange.handler.wfile.flush()
    except ConnectionError:
        exchange.server.hung_up.set()


class Handler(BaseHTTPRequestHandler):
    """An HTTP handler that passes each request to the current `ModelServer`."""

    server: LoopbackServer

    def do_GET(self) -> None:
        state = self.server.state
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, None)
        state.take(request)(Exchange(self, request, state))

    def do_POST(self) -> None:
        state = self.server.state
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(raw))
        state.take(request)(Exchange(self, request, state))

    def log_message(self, *args: object) -> None:
        """Log nothing, because the requests are recorded."""


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server with one port for all tests, because the libraries cache their TLS setup by URL."""

    daemon_threads = True
    block_on_close = False
    state: ModelServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors, because many tests let the client disconnect on purpose."""


@pytest.fixture(scope="session")
def loopback() -> Iterator[LoopbackServer]:
    httpd = LoopbackServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield httpd
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def server(loopback: LoopbackServer) -> Iterator[ModelServer]:
    """A server without recorded requests; a test sets its behaviours with `will`."""
    loopback.state = ModelServer(url=f"http://127.0.0.1:{loopback.server_port}")
    yield loopback.state
    loopback.state.released.set()


@pytest.fixture(autouse=True)
def _no_model_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_PROXY", "ANTHROPIC_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=list(PROVIDERS))
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make_gateway(server: Any, provider: str) -> Callable[..., LangChainGateway]:
    def make(*, budget: Budget | None = None, **options: Any) -> LangChainGateway:
        path = "" if provider == "anthropic" else "/v1"
        settings: dict[str, Any] = {
            "provider": provider,
            "model": "m",
            "api_key": SecretStr("sk-loopback"),
            "base_url": server.url + path,
            "retry_backoff_s": 0.01,
            "max_retries": 0,
            **options,
        }
        return LangChainGateway(LlmConfig(**settings), budget=budget)

    return make
