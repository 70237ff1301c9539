"""The network of a sandbox in each mode, and the report of the mode that is in effect."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.sandbox.rooms import PATH, Rooms, make_rooms
from relab.experiments.sandbox.egress_proxy import EgressProxy
from relab.experiments.sandbox.namespaces import check_egress
from relab.experiments.sandbox.protocol import Listener, NetworkMode, SandboxError

PROXY_PORT = 3128


class Site(BaseHTTPRequestHandler):
    """Answers with the host and the path of the request."""

    def do_GET(self) -> None:
        body = f"hello from {self.headers['Host']}{self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a web server on this machine's loopback address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, request: str, host: str = "127.0.0.1") -> str:
    """Return a script that sends a request and prints the answer."""
    return f"exec 5<>/dev/tcp/{host}/{port} || exit 9; printf '{request}' >&5; cat <&5; exec 5>&-; "


def get(target: str, host: str) -> str:
    return f"GET {target} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n"


def greet(listening: socket.socket) -> Callable[[], None]:
    """Send `welcome` to the first client of a socket, in a thread; return the function that joins it."""

    def work() -> None:
        with closing(listening):
            client, _ = listening.accept()
            client.sendall(b"welcome\n")
            client.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread.join


def test_without_a_network_nothing_is_reached(closed_rooms: Rooms, site: int) -> None:
    ended = closed_rooms.run(closed_rooms.make(NetworkMode.NONE), closed_rooms.launch(ask(site, get("/", "a"))))
    assert ended.code == 9
    assert ended.stdout == ""
    posture = ended.running.posture
    assert posture.network_effective == "none"
    assert posture.enforcement == "network_namespace"
    test = posture.egress_self_test
    assert test["performed"] is True
    assert test["passed"] is True
    assert test["interfaces"] == ["lo"]
    assert test["routes"] == []
    json.dumps(dict(test))


def test_sandbox_without_a_network_has_only_loopback_and_no_route(closed_rooms: Rooms) -> None:
    script = "tail -n +3 /proc/net/dev | cut -d: -f1; tail -n +2 /proc/net/route"
    ended = closed_rooms.run(closed_rooms.make(NetworkMode.NONE), closed_rooms.launch(script))
    assert ended.stdout.split() == ["lo"]


def test_full_network_is_that_of_the_host(rooms: Rooms, site: int) -> None:
    ended = rooms.run(rooms.make(NetworkMode.FULL), rooms.launch(ask(site, get("/", "a"))))
    assert "hello from a/" in ended.stdout
    posture = ended.running.posture
    assert posture.network_effective == "full"
    assert posture.enforcement == "none"
    assert posture.egress_self_test["performed"] is False


def test_local_run_reports_that_nothing_is_enforced(tmp_path: Path) -> None:
    rooms = make_rooms("local", tmp_path)
    posture = rooms.run(rooms.make(NetworkMode.NONE), rooms.launch("exit 0")).running.posture
    rooms.close()
    assert posture.network_effective == "full"
    assert posture.enforcement == "none"
    assert posture.egress_self_test["performed"] is False


def test_the_self_test_does_not_pass_in_the_runners_own_network() -> None:
    found = check_egress(os.getpid())
    assert found["performed"] is True
    assert found["passed"] is False


def test_unreadable_network_does_not_pass_the_test() -> None:
    found = check_egress(2**22 + 1)
    assert found["performed"] is False
    assert "passed" not in found


@pytest.mark.parametrize("network", list(NetworkMode))
def test_listener_is_reached_at_the_announced_port(rooms: Rooms, network: NetworkMode) -> None:
    launch = rooms.launch(
        'exec 5<>"/dev/tcp/127.0.0.1/${ENDPOINT##*:}"; cat <&5',
        environment={"PATH": PATH, "ENDPOINT": "http://127.0.0.1:{port:4318}"},
        listeners=[Listener(4318, greet)],
    )
    ended = rooms.run(rooms.make(network), launch)
    assert ended.stdout == "welcome\n"
    assert ended.stderr == ""


def test_listeners_of_concurrent_sandboxes_are_separate(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make()

    def says(text: bytes) -> Callable[[socket.socket], Callable[[], None]]:
        def serve(listening: socket.socket) -> Callable[[], None]:
            def work() -> None:
                with closing(listening), listening.accept()[0] as client:
                    client.sendall(text)

            thread = threading.Thread(target=work)
            thread.start()
            return thread.join

        return serve

    launches = [
        closed_rooms.launch("cat < /dev/tcp/127.0.0.1/4318", listeners=[Listener(4318, says(text))])
        for text in (b"one", b"two")
    ]
    at_work = [sandbox.start(launch) for launch in launches]
    assert [running.wait(60) for running in at_work] == [0, 0]
    for running in at_work:
        running.close()
    assert [launch.stdout.read_text() for launch in launches] == ["one", "two"]


def test_attempt_with_two_listeners_on_one_port_cannot_start(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make()
    refused = closed_rooms.launch("exit 0", listeners=[Listener(4318, greet), Listener(4318, greet)])
    with pytest.raises(SandboxError, match=r"[Aa]ddress already in use"):
        sandbox.start(refused)
    assert closed_rooms.run(sandbox, closed_rooms.launch("exit 6")).code == 6


def test_the_allowlist_lets_listed_hosts_through_and_refuses_and_logs_the_rest(
    closed_rooms: Rooms, site: int, tmp_path: Path
) -> None:
    async def resolve(_: str) -> list[str]:
        return ["127.0.0.1"]

    log = tmp_path / "egress.jsonl"
    proxy = EgressProxy([f"listed.test:{site}", f"127.0.0.1:{site}"], log, resolve=resolve)
    script = (
        "echo '== listed'; " + ask(PROXY_PORT, get(f"http://listed.test:{site}/path", "listed.test"))
        + "echo '== tunnel'; " + ask(PROXY_PORT, f"CONNECT listed.test:{site} HTTP/1.1\\r\\n\\r\\n" + get("/in", "inner"))
        + "echo '== other'; " + ask(PROXY_PORT, get(f"http://other.test:{site}/", "other.test"))
        + "echo '== direct'; " + ask(site, get("/", "direct"))
    )  # fmt: skip
    launch = closed_rooms.launch(script, listeners=[Listener(PROXY_PORT, proxy.serve)])
    ended = closed_rooms.run(closed_rooms.make(NetworkMode.ALLOWLIST), launch)
    parts = ended.stdout.split("== ")
    assert f"hello from listed.test:{site}/path" in parts[1]
    assert "200 Connection established" in parts[2]
    assert "hello from inner/in" in parts[2]
    assert "403 Refused" in parts[3]
    assert "is not in network.allowed_hosts" in parts[3]
    assert parts[4] == "direct\n"
    assert ended.code == 9
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # The line of a connection is written after the client has read its end, and may follow that of the next one.
    assert sorted((line["method"], line["host"], line["allowed"], line["bytes_down"] > 0) for line in lines) == [
        ("CONNECT", "listed.test", True, True), ("GET", "listed.test", True, True), ("GET", "other.test", False, False),
    ]  # fmt: skip
    posture = ended.running.posture
    assert posture.network_effective == "allowlist_enforced"
    assert posture.enforcement == "network_namespace_and_proxy"
    assert posture.egress_self_test["passed"] is True
