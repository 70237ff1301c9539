"""The hosts that a harness reaches with an allowlist, through `lab run` in each sandbox that isolates."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.sandbox.rooms import IMAGE, INSTALL, require_docker
from support.components.required import require_program
from support.experiments.projects import Project, answering, read_lines

LISTED, OTHER = "127.0.0.2", "127.0.0.3"
ASKING = """
ask() { exec 5<>"/dev/tcp/$1" || { echo no route; return; }; printf 'GET %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' "$2" >&5
  cat <&5 | tr '\\r\\n' '  '; echo; exec 5>&-; }
proxy=${HTTP_PROXY#http://}
ask "${proxy%:*}/${proxy##*:}" "http://LISTED/listed"
ask "${proxy%:*}/${proxy##*:}" "http://OTHER/other"
ask "LISTED_DIRECTLY" "/direct"
ask "OTHER_DIRECTLY" "/direct"
"""
MODEL_SERVER = """\
import urllib.request
with urllib.request.urlopen("http://localhost:" + str(bindings["port"]) + "/v1/models") as response:
    body = response.read().decode()
answer(metrics={"body": body, "otlp": os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]})
"""


class Site(BaseHTTPRequestHandler):
    """Answers with the path of the request."""

    def do_GET(self) -> None:
        body = f"hello from {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def listening_site(port: int) -> ThreadingHTTPServer | None:
    """Return a web server on a port of 127.0.0.1, or None if the port is in use."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Site)
    except OSError:
        return None


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answer requests in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a web server on a loopback address of this machine."""
    with ThreadingHTTPServer((LISTED, 0), Site) as server, serving(server):
        yield server.server_address[1]


@pytest.mark.parametrize("mode", ["bwrap", "container"])
def test_only_listed_hosts_are_reached_and_others_reported(tmp_path: Path, mode: str, site: int) -> None:
    if mode == "container":
        require_docker()
    else:
        require_program("bwrap", INSTALL)
    project = Project.make(tmp_path, tasks=2)
    asking = ASKING.replace("LISTED_DIRECTLY", f"{LISTED}/{site}").replace("OTHER_DIRECTLY", f"{OTHER}/{site}")
    asking = asking.replace("LISTED", f"{LISTED}:{site}").replace("OTHER", f"{OTHER}:{site}")
    project.write_harness(answering().replace("#!/bin/sh", "#!/bin/bash") + asking)
    image = {"image": IMAGE} if mode == "container" else {}
    project.configure(
        command=["bash", "./harness"],
        runtime={
            "sandbox": {"mode": mode, **image},
            "network": {"mode": "allowlist_enforced", "allowed_hosts": [f"{LISTED}:{site}"]},
        },
    )

    run = project.run()

    assert run.answer["outcomes"] == {"control": {"success": 2}}, run.answer["problems"]
    for row in run.rows.values():
        assert row["network_mode_effective"] == "allowlist_enforced"
        folder = run.trial(row["trial_id"])
        listed, other, direct, other_direct = (folder / "stdout.log").read_text().splitlines()
        assert listed.endswith("hello from /listed")
        assert "403 Refused" in other
        # Clients do not send requests to loopback addresses through a proxy, whether NO_PROXY says so or not.
        assert direct.endswith("hello from /direct")
        assert other_direct == "no route"
        inventory = json.loads((folder / "state_inventory.json").read_bytes())
        network = inventory["network"]
        assert network["mode_effective"] == "allowlist_enforced"
        assert network["enforcement_effective"] == "sidecar_proxy"
        assert [case["ok"] for case in network["egress_self_test"]["cases"]] == [True]
        assert inventory["ext"]["network"]["enforcement"] == "network_namespace_and_proxy"
        told = [(line["host"], line["allowed"]) for line in read_lines(folder / "egress.jsonl")]
        assert told == [(LISTED, True), (OTHER, False), (LISTED, True)]


def test_a_listed_model_server_of_this_machine_is_reached_by_a_client_that_obeys_no_proxy(tmp_path: Path) -> None:
    """Like Ollama and vLLM the server has a loopback port, here if possible one that the runner would use itself."""
    require_program("bwrap", INSTALL)
    server = next(made for port in (4318, 3128, 0) if (made := listening_site(port)) is not None)
    with server, serving(server):
        port = server.server_address[1]
        project = Project.make(tmp_path, MODEL_SERVER, tasks=1)
        project.configure(
            baseline={"bindings": {"port": port}},
            runtime={
                "harness": {"integration_level": "otel"},
                "sandbox": {"mode": "bwrap"},
                "network": {"mode": "allowlist_enforced", "allowed_hosts": [f"localhost:{port}"]},
            },
        )
        run = project.run()

    (row,) = run.rows.values()
    assert row["outcome"] == "success", row["error_message"]
    assert row["metrics"]["body"] == "hello from /v1/models"
    assert not row["metrics"]["otlp"].endswith(f":{port}")
    (line,) = read_lines(run.trial(row["trial_id"]) / "egress.jsonl")
    assert line["method"] == "FORWARD"
    assert line["host"] == "localhost"
    assert line["port"] == port
    assert line["allowed"] is True
