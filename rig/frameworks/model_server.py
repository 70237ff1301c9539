"""A model provider on loopback that answers by a script: OpenAI's chat completions and responses, whole or streamed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rig.frameworks import wire
from rig.frameworks.cases import MODELS, Ask, AskAll, Case, HandOver, Refuse, Say, Turn, Wait


@dataclass(frozen=True)
class ModelCall:
    """One call of the model, as the server recorded it.

    Attributes:
        agent: the agent whose model was called.
        model: the name of the model in the request, without the prefix `openai/`.
        turn: the answer of the case.
        asked: the tool calls by which the answer was expressed; empty if it was a text or an error.
        tokens: the numbers of tokens that the answer reports.
    """

    agent: str
    model: str
    turn: Turn
    asked: Sequence[wire.ToolRequest]
    tokens: wire.Tokens


class ScriptError(Exception):
    """A program called its model in a way that the case does not define."""


@dataclass
class Script:
    """A run of a case on the model's side: it gives the case's answers in order and records the calls.

    Attributes:
        case: the case.
        calls: the calls so far, oldest first.
        problems: messages about calls that the case does not foresee.
    """

    case: Case
    calls: list[ModelCall] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Mapping[str, Any]) -> ModelCall:
        """Return the call with the next answer to the agent that asks, which the model's name identifies.

        Args:
            request: the JSON body of the request.

        Raises:
            ScriptError: no agent of the case has this model, its answers are used up, or the request offers no tool
                by which the answer can be expressed.
        """
        with self._lock:
            model = str(request["model"]).removeprefix("openai/")
            agent = next((name for name in self.case.turns if MODELS[name] == model), None)
            if agent is None:
                raise ScriptError(f"no agent of this case has the model {model!r}")
            number = sum(call.agent == agent for call in self.calls)
            turns = self.case.turns[agent]
            # A provider that rejects a request also rejects the client's retries.
            is_endless = self.case.endless or isinstance(turns[-1], Refuse)
            if number >= len(turns) and not is_endless:
                raise ScriptError(f"{agent} calls its model a {number + 1}th time; the case has {len(turns)} answers")
            turn = turns[min(number, len(turns) - 1)]
            asked = _asked(turn, wire.offered_tools(request), f"call_{len(self.calls) + 1:02d}{agent[:5]}")
            call = ModelCall(agent, model, turn, asked, wire.Tokens(120 + 40 * number, 18 + number))
            self.calls.append(call)
            return call


def _asked(turn: Turn, offered: Mapping[str, Mapping[str, Any]], call_id: str) -> list[wire.ToolRequest]:
    """Return the tool calls that express a turn with the offered tools; empty if the turn is a text."""
    if isinstance(turn, Ask | AskAll):
        if not offered:
            # At its step limit, a framework requests a final answer and offers no tools.
            return []
        if isinstance(turn, AskAll):
            calls = enumerate(turn.calls)
            return [call for number, ask in calls for call in _asked(ask, offered, f"{call_id}{number}")]
        # Semantic Kernel puts the name of a plug-in before the tool's name.
        return [wire.ToolRequest(_ending_in(turn.tool, offered), dict(turn.arguments), call_id)]
    if isinstance(turn, HandOver):
        # Some frameworks have one tool for all agents, with the agent among its arguments.
        general = (name for name in offered if any(part in name for part in ("handoff", "transfer", "delegate")))
        name = next((name for name in offered if turn.to in name), None) or next(general, None)
        if name is None:
            raise ScriptError(f"none of the tools {sorted(offered)} hands over to {turn.to}")
        return [wire.ToolRequest(name, _filled(offered[name], turn), call_id)]
    return _answered(turn, offered, call_id) if isinstance(turn, Say) else []


def _answered(turn: Say, offered: Mapping[str, Any], call_id: str) -> list[wire.ToolRequest]:
    """Return the call of the tool by which the framework takes an answer; empty if the answer is a text."""
    if turn.is_object:
        name = next((name for name in offered if name not in _SHOP_TOOLS), None)
        return [wire.ToolRequest(name, json.loads(turn.text), call_id)] if name is not None else []
    if "final_answer" in offered:
        return [wire.ToolRequest("final_answer", {"answer": turn.text}, call_id)]
    return []


_SHOP_TOOLS = ("order_lookup", "stock_level", "refund")


def _ending_in(tool: str, offered: Mapping[str, Any]) -> str:
    for name in offered:
        if name == tool or name.endswith((f"-{tool}", f"_{tool}")):
            return name
    raise ScriptError(f"the tool {tool} is not among those on offer: {sorted(offered)}")


def _filled(schema: Mapping[str, Any], turn: HandOver) -> dict[str, Any]:
    """Return the required arguments of a handover tool: the agent's name for parameters of an agent, else the task."""
    required: Sequence[str] = schema.get("required", [])
    is_agent = {name: any(part in name for part in ("agent", "coworker", "member")) for name in required}
    return {name: turn.to if is_agent[name] else turn.task for name in required}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            call = self.server.script.answer(request)
        except ScriptError as error:
            self.server.script.problems.append(str(error))
            self._send(400, wire.refusal("script_error", str(error)))
            return
        if isinstance(call.turn, Refuse):
            refused = wire.refusal(call.turn.code, call.turn.message)
            self._send(call.turn.status, refused, {"Retry-After": str(call.turn.retry_after_s)})
            return
        if isinstance(call.turn, Wait):
            time.sleep(call.turn.seconds)
        text = call.turn.text if isinstance(call.turn, Say) else None if call.asked else "I cannot say."
        finish = call.turn.finish if isinstance(call.turn, Say) else None
        answer = wire.Answer(call.model, None if call.asked else text, call.asked, call.tokens, finish)
        speaks_responses = self.path.endswith("/responses")
        number = len(self.server.script.calls)
        body = wire.response(answer, number, request) if speaks_responses else wire.completion(answer, number)
        if not request.get("stream"):
            self._send(200, body)
            return
        events = wire.response_events(body) if speaks_responses else wire.completion_events(body, request)
        self._send_events(events)

    def _send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self._start(status, "application/json", {"Content-Length": str(len(content)), **(headers or {})})
        self.wfile.write(content)

    def _send_events(self, events: Sequence[str]) -> None:
        content = "".join(events).encode()
        self._start(200, "text/event-stream", {"Content-Length": str(len(content))})
        self.wfile.write(content)

    def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        with suppress(ConnectionError):  # a caller that gave up has closed its connection
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is that of the base class
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script


@contextmanager
def scripted_model(script: Script) -> Iterator[str]:
    """Serve a script while the `with` block runs, and yield the base URL for clients."""
    server = _Server(script)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
