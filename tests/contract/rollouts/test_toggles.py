"""A flag whose service turns it on and off at two paths and reads it as a boolean, as products for flags do."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from relab.rollouts.errors import TargetUnavailableError
from relab.rollouts.plans.subject import HttpFlagSubject
from relab.rollouts.targets.http_flag import HttpFlagTarget

SENT_AS = {"true": "on", "false": "off"}


class Toggle(ThreadingHTTPServer):
    """The service: `POST /flag/on`, `POST /flag/off`, and `GET /flag` with `{"enabled": …}`."""

    enabled: Any = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/flag"


class _Handler(BaseHTTPRequestHandler):
    server: Toggle

    def do_GET(self) -> None:
        self._answer(200, {"enabled": self.server.enabled})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path not in {"/flag/on", "/flag/off"}:
            self._answer(404, {"detail": "no such path"})
            return
        self.server.enabled = self.path == "/flag/on"
        self._answer(200, {})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def toggle() -> Iterator[Toggle]:
    with Toggle(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def target_of(toggle: Toggle) -> HttpFlagTarget:
    subject = HttpFlagSubject(
        kind="http",
        method="POST",
        url=f"{toggle.url}/$value",
        body={},
        read_url=toggle.url,
        pointer="/enabled",
        b=True,
        sent_as=SENT_AS,
    )
    return HttpFlagTarget(subject, {}, timeout_s=5.0)


def test_toggle_is_changed_and_restored(toggle: Toggle) -> None:
    target = target_of(toggle)
    before = target.read()
    assert before.value is False

    target.send(True, None)
    assert target.holds(target.read(), True)

    target.send(target.inverse(True, before), None)
    assert toggle.enabled is False


def test_printed_command_changes_the_toggle(toggle: Toggle) -> None:
    subprocess.run(["sh", "-c", target_of(toggle).command(True)], check=True, capture_output=True)

    assert toggle.enabled is True


def test_value_that_could_not_be_restored_is_rejected_when_it_is_read(toggle: Toggle) -> None:
    toggle.enabled = "half"

    with pytest.raises(TargetUnavailableError) as caught:
        target_of(toggle).read()

    assert '"half"' in str(caught.value)
    assert "sent_as" in (caught.value.remedy or "")


@pytest.mark.parametrize("arms", [{"b": 1}, {"a": "off", "b": True}])
def test_arm_without_an_entry_is_rejected(arms: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="sent_as"):
        HttpFlagSubject(kind="http", url="http://127.0.0.1/flag/$value", sent_as=SENT_AS, **arms)
