"""What a harness reaches when only some hosts are allowed, through `lab run` in each room with walls."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.sandbox.rooms import IMAGE, INSTALL, require_docker
from support.components import require_program
from support.experiments import Project, answering, read_lines

LISTED, OTHER = "127.0.0.2", "127.0.0.3"
ASKING = """
ask() { exec 5<>"/dev/tcp/$1" || { echo no route; return; }; printf 'GET %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' "$2" >&5
  cat <&5 | tr '\\r\\n' '  '; echo; exec 5>&-; }
proxy=${HTTP_PROXY#http://}
ask "${proxy%:*}/${proxy##*:}" "http://LISTED/listed"
ask "${proxy%:*}/${proxy##*:}" "http://OTHER/other"
ask "DIRECT" "/direct"
"""


class Site(BaseHTTPRequestHandler):
    """Says what it was asked for."""

    def do_GET(self) -> None:
        body = f"hello from {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[int]:
    """A web server on this machine's loopback; its port."""
    server = ThreadingHTTPServer((LISTED, 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("mode", ["bwrap", "container"])
def test_only_listed_hosts_are_reached_and_the_rest_is_told(tmp_path: Path, mode: str, site: int) -> None:
    if mode == "container":
        require_docker()
    else:
        require_program("bwrap", INSTALL)
    project = Project.make(tmp_path, tasks=2)
    asking = ASKING.replace("LISTED", f"{LISTED}:{site}").replace("OTHER", f"{OTHER}:{site}")
    asking = asking.replace("DIRECT", f"{LISTED}/{site}")
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
        listed, other, direct = (folder / "stdout.log").read_text().splitlines()
        assert listed.endswith("hello from /listed")
        assert "403 Refused" in other
        assert direct == "no route"
        inventory = json.loads((folder / "state_inventory.json").read_bytes())
        network = inventory["network"]
        assert (network["mode_effective"], network["enforcement_effective"]) == ("allowlist_enforced", "sidecar_proxy")
        assert [case["ok"] for case in network["egress_self_test"]["cases"]] == [True]
        assert inventory["ext"]["network"]["enforcement"] == "network_namespace_and_proxy"
        told = [(line["host"], line["allowed"]) for line in read_lines(folder / "egress.jsonl")]
        assert told == [(LISTED, True), (OTHER, False)]
