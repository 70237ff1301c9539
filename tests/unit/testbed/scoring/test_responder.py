"""Responders as separate processes: isolated start, validation of their status, and end of all their processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from relab.testbed.scoring.baselines.restart_only import COOLDOWN_S, RESTARTS, UNHEALTHY_POLLS, RestartLoop
from relab.testbed.scoring.baselines.status_page import State
from relab.testbed.scoring.experiment import DO_NOTHING
from relab.testbed.scoring.responder import (
    Bindings,
    NoResponderError,
    WrongBindingsError,
    a_responder,
    find_bubblewrap,
)
from rig.waiting import wait_until
from support.components.required import require_program

ADDRESSES = {"target": "http://127.0.0.1:9", "actions": "http://127.0.0.1:9", "token": "a-token"}
SERVER = """
import http.server, json, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ANSWER
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
STARTS
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def program(answer: str, starts: str = "") -> Bindings:
    """Return a responder that answers with the bytes of the Python expression `answer`, after it has run `starts`."""
    text = SERVER.replace("ANSWER", answer).replace("STARTS", starts)
    return Bindings(responder_command=["{python}", "-S", "-c", text], responder_environment={"COLOUR": "green"})


def test_responder_gets_only_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTLAB_TRIAL_INPUT", "/somewhere/trial_input.json")
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    home = tmp_path / "home"
    telling = program(
        "json.dumps({'incident': {'diagnosis': [json.dumps([k, v])[:190] for k, v in os.environ.items()]}}).encode()"
    )
    with a_responder(telling, home=home, **ADDRESSES) as responder:
        told = dict(json.loads(word) for word in responder.look(0.0).causes)
        port = responder.url.rpartition(":")[2]
    told.pop("LC_CTYPE", None)  # Python sets it if no locale is set
    told.pop("PWD", None)  # bubblewrap sets it
    assert told == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8", "TZ": "UTC", "HOME": str(home), "COLOUR": "green", "TARGET_API_BASE_URL": "http://127.0.0.1:9",
        "ACTION_SERVER_URL": "http://127.0.0.1:9", "ACTION_SERVER_TOKEN": "a-token", "PORT": port,
        "POLL_INTERVAL_SECONDS": "1", "RELAB_HOME": str(home), "DATABASE_URL": f"sqlite:///{home}/relab.db",
    }  # fmt: skip


def test_responder_gets_named_variables_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("OPENAI_API_KEY", "a-secret"), ("HTTPS_PROXY", "http://proxy"), ("PORT", "1")):
        monkeypatch.setenv(name, value)
    telling = program("json.dumps({'incident': {'diagnosis': sorted(map('='.join, os.environ.items()))}}).encode()")
    named = telling.model_copy(
        update={"responder_passes": ["HTTPS_PROXY", "NOT_SET", "PORT"], "responder_secrets": ["OPENAI_API_KEY"]}
    )
    with a_responder(named, home=tmp_path, **ADDRESSES) as responder:
        told = responder.look(0.0).causes
        port = responder.url.rpartition(":")[2]
    assert {"OPENAI_API_KEY=a-secret", "HTTPS_PROXY=http://proxy", f"PORT={port}"} <= set(told)
    assert not any(word.startswith("NOT_SET") for word in told)


def test_child_processes_of_a_responder_end_with_it(tmp_path: Path) -> None:
    starts = "pid = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)']).pid"
    with a_responder(program("json.dumps({'polls': pid}).encode()", starts), home=tmp_path, **ADDRESSES) as responder:
        # Process ids differ inside the sandbox.
        found = psutil.Process(responder.process.pid).children(recursive=True)
        sleeping = [child for child in found if child.cmdline()[-1:] == ["import time; time.sleep(600)"]]
        assert len(sleeping) == 1
        assert responder.is_alive
    wait_until(lambda: not any(map(is_there, found)), what="its end")


def is_there(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_responder_sees_neither_other_processes_nor_hidden_files(tmp_path: Path) -> None:
    require_program("bwrap", ".ci/system-packages")
    assert find_bubblewrap() is not None, "bubblewrap may not be used here"
    hidden, home = tmp_path / "hidden", tmp_path / "hidden" / "responders" / "its own"
    home.mkdir(parents=True)
    (hidden / "truth.json").write_text("hang")
    telling = program(
        "json.dumps({'polls': len([name for name in os.listdir('/proc') if name.isdigit()]),"
        f" 'incident': {{'diagnosis': os.listdir({str(hidden)!r}) + [open('mine').read()]}}}}).encode()",
        "open('mine', 'w').write('kept')",
    )
    with a_responder(telling, home=home, hidden=[hidden], **ADDRESSES) as responder:
        seen = responder.look(0.0)
        assert responder.is_blinded
    # The responder, and the process of the sandbox that started it.
    assert seen.polls == 2
    assert seen.causes == ("responders", "kept")
    assert (home / "mine").read_text() == "kept"


def test_responder_can_clean_up_after_sigterm(tmp_path: Path) -> None:
    starts = (
        "import signal, threading\n"
        "def end(*_):\n    open('ended', 'w').write('in order')\n    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)"
    )
    with a_responder(program("b'{}'", starts), home=tmp_path, **ADDRESSES):
        pass
    assert (tmp_path / "ended").read_text() == "in order"


def test_episode_without_bubblewrap_is_recorded_as_unblinded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with a_responder(program("b'{}'"), home=tmp_path, **ADDRESSES) as responder:
        assert not responder.is_blinded


@pytest.mark.parametrize("answer", ["b'[' * 100_000", "b'no json'", "b'x' * (2 << 20)", "b'[]'"])
def test_responder_with_invalid_status_is_not_ready(tmp_path: Path, answer: str) -> None:
    hostile = program(answer).model_copy(update={"start_within_s": 1.0})
    with (
        pytest.raises(NoResponderError, match="GET /agent/status"),
        a_responder(hostile, home=tmp_path, **ADDRESSES),
    ):
        pass


def test_responder_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    ending = Bindings(responder_command=["{python}", "-S", "-c", "raise SystemExit('no key for the model')"])
    with (
        pytest.raises(NoResponderError, match="1: no key for the model"),
        a_responder(ending, home=tmp_path, **ADDRESSES),
    ):
        pass
    missing = Bindings(responder_command=["no-such-program"])
    with (
        pytest.raises(NoResponderError, match="'no-such-program' cannot"),
        a_responder(missing, home=tmp_path, **ADDRESSES),
    ):
        pass


def test_do_nothing_responder_counts_its_polls(tmp_path: Path) -> None:
    with a_responder(DO_NOTHING.model_copy(update={"poll_interval_s": 0.05}), home=tmp_path, **ADDRESSES) as responder:
        wait_until(lambda: (responder.look(0.0).polls or 0) >= 2, what="two polls")
        assert responder.look(0.0).incident is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "responder_command"),
        ({"responder_command": []}, "responder_command"),
        ({"responder_command": ["x"], "poll_interval_s": 0}, "poll_interval_s"),
        (None, "bindings"),
    ],
)
def test_invalid_bindings_are_named_by_field(wrong: Any, field: str) -> None:
    with pytest.raises(WrongBindingsError) as caught:
        Bindings.read(wrong)
    assert caught.value.problems[0][0] == field


class World:
    """A target with a settable health, and an action server that records the requested actions."""

    def __init__(self) -> None:
        self.health = "healthy"
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.asked.append(request.url.path.rpartition("/")[2])
            return httpx.Response(200, json={"ok": True})
        if self.health == "silent":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"health_status": self.health})

    def client(self) -> httpx.Client:
        return httpx.Client(base_url="http://service", transport=httpx.MockTransport(self.answer))


@pytest.mark.parametrize("health", ["degraded", "critical", "silent", 7])
def test_restarts_continue_while_the_target_is_unhealthy(health: Any) -> None:
    world, state = World(), State()
    with world.client() as target, world.client() as actions:
        loop = RestartLoop(target, actions, state)
        loop.poll(0.0)
        assert state.to_json()["incident"] is None
        assert world.asked == []
        world.health = health
        for step in range(UNHEALTHY_POLLS - 1):
            loop.poll(1.0 + step)
        assert state.to_json()["incident"] is None
        assert world.asked == []
        times = [10.0 + COOLDOWN_S * step for step in range(4)]
        for at in times:
            loop.poll(at)
            loop.poll(at + 1)
        assert world.asked == [*RESTARTS, RESTARTS[0]]
        assert state.to_json()["incident"] == {"id": "unhealthy-1", "phase": "execute"}

        world.health = "healthy"
        loop.poll(times[-1] + 2)
        assert state.to_json()["incident"] is None
        world.health = health
        for step in range(UNHEALTHY_POLLS):
            loop.poll(times[-1] + COOLDOWN_S + step)
        assert world.asked[-1] == RESTARTS[0]
        assert state.to_json()["incident"] == {"id": "unhealthy-2", "phase": "execute"}


def test_placeholders_of_the_interpreter_and_the_port_are_filled_in(tmp_path: Path) -> None:
    told = Bindings(
        responder_command=["{python}", "-S", "-c", "import sys; raise SystemExit(str(sys.argv[1:]))", "{port}"]
    )
    with pytest.raises(NoResponderError, match=r"\['\d+'\]"), a_responder(told, home=tmp_path, **ADDRESSES):
        pass
    assert sys.executable
