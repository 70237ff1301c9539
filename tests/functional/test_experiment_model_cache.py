"""The gateway to a model server and its cache, with the real OpenAI client and a server that counts requests."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.components.required import require_program
from support.experiments.projects import Project, Run, files_with

KEY = "sk-planted-0123456789abcdef"

HARNESS = """\
from openai import APIStatusError, OpenAI

client = OpenAI(max_retries=0)
said = []
for prompt in task["prompts"]:
    messages = [{"role": "user", "content": prompt}]
    try:
        if prompt.startswith("stream"):
            stream = client.chat.completions.create(model="m", messages=messages, stream=True)
            said.append("".join(chunk.choices[0].delta.content or "" for chunk in stream))
        else:
            said.append(client.chat.completions.create(model="m", messages=messages).choices[0].message.content)
    except (APIStatusError, IndexError) as error:
        said.append(f"status {getattr(error, 'status_code', 200)}")
answer(answer=said)
"""


class CountingServer:
    """A server with OpenAI's interface that numbers its answers, and fails or breaks off for some prompts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][-1]["content"]
                with lock:
                    outer.asked.append((prompt, self.headers.get("Authorization", "")))
                    text = f"answer {len(outer.asked)}"
                if prompt == "fail":
                    self.reply(500, {"error": {"message": "overloaded"}})
                elif prompt == "error in 200":
                    self.reply(200, {"error": {"message": "no"}, "choices": [], "id": "x"})
                elif body.get("stream"):
                    self.stream(text)
                else:
                    message = {"role": "assistant", "content": f"{text} {KEY}" if prompt == "leak" else text}
                    choice = {"index": 0, "finish_reason": "stop", "message": message}
                    self.reply(
                        200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                    )

            def reply(self, status: int, content: dict[str, Any]) -> None:
                raw = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Set-Cookie", "session=planted-cookie")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def stream(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for word in text.split():
                    choice = {"index": 0, "delta": {"content": word + " "}}
                    chunk = {
                        "id": "x",
                        "object": "chat.completion.chunk",
                        "created": 1,
                        "model": "m",
                        "choices": [choice],
                    }
                    self.piece(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.piece(b"data: [DONE]\n\n")
                self.piece(b"")

            def piece(self, raw: bytes) -> None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(raw), raw))

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[CountingServer]:
    made = CountingServer()
    yield made
    made.close()


def make_project(
    folder: Path, server: CountingServer, tasks: list[dict[str, Any]], repeats: int = 2, **cache: Any
) -> Project:
    project = Project.make(folder, HARNESS, tasks=tasks)
    gateway = {"variable": "OPENAI_BASE_URL", "upstream": server.url, "cache": cache}
    project.settings["OPENAI_API_KEY"] = KEY
    project.configure(
        command=[sys.executable, "harness"],
        design={"replications": repeats},
        runtime={"harness": {"secrets": ["OPENAI_API_KEY"]}, "model_gateways": [gateway]},
    )
    return project


def answers_of(run: Run) -> dict[tuple[str, int], list[str]]:
    return {
        (row["task_id"], row["repl_idx"]): json.loads((run.trial(trial) / "trial_output.json").read_text())["answer"]
        for trial, row in run.rows.items()
    }


def use_of(run: Run) -> dict[str, float]:
    names = ("model_requests", "model_cache_hits", "model_cache_misses")
    return {name: sum(row["metrics"][name] for row in run.rows.values()) for name in names}


def test_second_run_replays_each_repeat_its_own_answers(tmp_path: Path, server: CountingServer) -> None:
    prompts = ["hello", "hello", "stream it", "fail", "error in 200", "leak"]
    tasks = [{"task_id": "all", "prompts": prompts}]
    project = make_project(tmp_path, server, tasks)

    first = project.run()
    asked = len(server.asked)
    second = project.run()

    assert use_of(first) == {"model_requests": 12, "model_cache_hits": 0, "model_cache_misses": 12}
    one, other = answers_of(first), answers_of(second)
    kept = {repeat: said[:3] for (_, repeat), said in one.items()}
    assert len({text for said in kept.values() for text in said}) == 6, "no repeat gets the answer of another one"
    assert {repeat: said[:3] for (_, repeat), said in other.items()} == kept
    assert one["all", 0][3:5] == ["status 500", "status 200"]
    # Errors, and answers with a secret of the harness, are not stored, so they are requested again.
    assert use_of(second) == {"model_requests": 12, "model_cache_hits": 6, "model_cache_misses": 6}
    assert [prompt for prompt, _ in server.asked[asked:]] == prompts[3:] * 2
    assert {key for _, key in server.asked} == {f"Bearer {KEY}"}
    assert files_with(project.root / ".lab", [KEY.encode(), b"planted-cookie"]) == []
    log = (first.trial("trial_1") / "model_requests.jsonl").read_text().splitlines()
    assert {json.loads(line)["cache"] for line in log} == {"miss"}
    report = " ".join((second.path / "analysis" / "report.html").read_text().split())
    assert "Requests to models: 12, of which 6 were answered from the cache" in report


@pytest.mark.full
def test_scope_request_replays_one_answer_for_all_repeats_and_warns(tmp_path: Path, server: CountingServer) -> None:
    project = make_project(tmp_path, server, [{"task_id": "a", "prompts": ["hello"] * 3}], scope="request")

    run = project.run()

    assert len(server.asked) == 1
    assert use_of(run) == {"model_requests": 6, "model_cache_hits": 5, "model_cache_misses": 1}
    assert any("not independent" in warning for warning in run.answer["warnings"])


@pytest.mark.full
def test_closed_sandbox_reaches_the_model_through_the_gateway(tmp_path: Path, server: CountingServer) -> None:
    require_program("bwrap", "apt-get install bubblewrap")
    project = make_project(tmp_path, server, [{"task_id": "a", "prompts": ["hello", "stream"]}], repeats=1)
    gateway = {"variable": "OPENAI_BASE_URL", "upstream": server.url, "cache": {}}
    project.configure(
        command=[sys.executable, "harness"],
        runtime={
            "harness": {"secrets": ["OPENAI_API_KEY"]},
            "sandbox": {"mode": "bwrap"},
            "network": {"mode": "allowlist_enforced", "allowed_hosts": [server.url.split("/")[2]]},
            "model_gateways": [gateway],
        },
    )

    first, second = project.run(), project.run()

    assert (use_of(first)["model_cache_misses"], use_of(second)["model_cache_hits"]) == (2, 2)
    assert answers_of(second) == answers_of(first)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ({"network": {"mode": "none"}}, "network.mode is 'none'"),
        (
            {"network": {"mode": "allowlist_enforced", "allowed_hosts": ["api.openai.com"]}},
            "not in network.allowed_hosts",
        ),
        ({"model_gateways": [{"variable": "A", "upstream": "ftp://x"}]}, "http://"),
        ({"model_gateways": [{"variable": "A", "upstream": "https://u:p@x/v1"}]}, "http://"),
        ({"model_gateways": [{"variable": "A B", "upstream": "https://x"}]}, "variable"),
        ({"model_gateways": [{"variable": "A", "upstream": "https://x", "cache": {"ttl_hours": 0}}]}, "ttl_hours"),
        ({"model_gateways": [{"variable": "A", "upstream": "https://x"}] * 2}, "same variable"),
    ],
)
def test_gateway_that_opens_the_network_or_is_invalid_is_refused(
    tmp_path: Path, runtime: dict[str, Any], said: str
) -> None:
    project = Project.make(tmp_path)
    gateways = [{"variable": "OPENAI_BASE_URL", "upstream": "https://models.example/v1"}]
    project.configure(runtime={"model_gateways": gateways, **runtime})

    assert said in project.lab("describe", code=64).err
