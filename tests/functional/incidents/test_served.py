"""`lab serve --only incidents` as the testbed's harness starts it, with only addresses and a token."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from relab.testbed.scoring.responder import Bindings, RunningResponder, a_responder
from relab.testbed.scoring.status import Sight
from rig.servers import free_port
from rig.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

COMMAND = ["{python}", "-m", "relab", "serve", "--only", "incidents", "--autonomy", "act"]


def test_unreachable_target_is_reported_and_escalated(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as observer:
        environment = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": "k",
            "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{observer.getsockname()[1]}",
        }
        bindings = Bindings(responder_command=COMMAND, responder_environment=environment, poll_interval_s=0.5)
        seen, served, words = _run(bindings, nobody, tmp_path / "home")
        observer.setblocking(False)
        with pytest.raises(BlockingIOError):
            # No data of the target is sent to a tracing service, whatever the environment sets.
            observer.accept()

    assert seen.causes[0] == "unknown"
    assert seen.polls is not None
    assert served == {"/healthz": 200, "/metrics": 200, "/agent-runs": 404}
    assert "Traceback" not in words


def _run(bindings: Bindings, nobody: str, home: Path) -> tuple[Sight, dict[str, int], str]:
    with a_responder(bindings, target=nobody, actions=nobody, token="t", home=home) as responder:
        seen = wait_until(lambda: _escalated(responder), what="an escalation")
        paths = ("/healthz", "/metrics", "/agent-runs")
        served = {path: httpx.get(responder.url + path, timeout=30).status_code for path in paths}
        words = responder.log.read_text()
    return seen, served, words


def _escalated(responder: RunningResponder) -> Sight | None:
    sight = responder.look(0.0)
    return sight if sight.escalated else None
