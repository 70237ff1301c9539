"""The egress proxy: allows listed hosts by the addresses of their names, and limits connections, time and requests."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relab.experiments.sandbox.egress_proxy import EgressProxy, ProxyLimits
from relab.experiments.sandbox.egress_rules import EgressRule, address_of, is_special


@pytest.mark.parametrize(
    ("rule", "host", "port", "covers"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "example.com", 80, True),
        ("example.com", "example.com", 8443, False),
        ("Example.COM.", "example.com", 443, True),
        ("example.com", "www.example.com", 443, False),
        ("example.com", "badexample.com", 443, False),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("[0:0::1]:80", "::1", 80, True),
    ],
)
def test_rule_covers_its_hosts_and_ports(rule: str, host: str, port: int, covers: bool) -> None:
    assert EgressRule.parse(rule).covers(host, port) is covers


@pytest.mark.parametrize(
    "text", ["", "*", "a.*.com", "http://example.com", "example.com/path", "a b", "a:0", "a:70000", "."]
)
def test_invalid_host_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        EgressRule.parse(text)


@pytest.mark.parametrize(
    ("address", "special"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", True), ("169.254.169.254", True),
        ("fe80::1", True), ("fe80::1%eth0", True), ("::ffff:127.0.0.1", True), ("64:ff9b::a9fe:a9fe", True),
        ("2002:7f00:1::", True), ("fd00:ec2::254", True), ("100.100.100.200", True), ("224.0.0.1", True),
        ("10.0.0.1", False), ("192.168.1.1", False), ("93.184.216.34", False), ("2606:2800:220:1::1", False),
    ],
)  # fmt: skip
def test_local_and_cloud_metadata_addresses_are_recognised(address: str, special: bool) -> None:
    found = address_of(address)
    assert found is not None
    assert is_special(found) is special


class Target:
    """A server on loopback that records the bytes it receives and sends the same answer on each connection."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") -> None:
        self.received: list[bytes] = []
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while True:
            client, _ = self._listening.accept()
            with client:
                data = client.recv(65_536)
                if data == b"stop":
                    return
                self.received.append(data)
                with contextlib.suppress(OSError):
                    client.sendall(self._answer)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"stop")
        self._thread.join()
        self._listening.close()


Ask = Callable[[bytes], bytes]
MakeProxy = Callable[..., Ask]


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


ReadLog = Callable[[], list[dict[str, object]]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "egress.jsonl"


@pytest.fixture
def closers() -> list[Callable[[], None]]:
    return []


@pytest.fixture
def read_log(log: Path, closers: list[Callable[[], None]]) -> ReadLog:
    """Return a function that ends the proxies and returns their log entries."""

    def read() -> list[dict[str, object]]:
        for close in closers:
            close()
        return [json.loads(line) for line in log.read_text().splitlines()]

    return read


@pytest.fixture
def make_proxy(log: Path, closers: list[Callable[[], None]]) -> Iterator[MakeProxy]:
    """Return a function that starts a proxy and returns a client, which sends one request and reads the whole answer."""

    def make(allowed: list[str], leads_to: list[str] | None = None, **bounds: float) -> Ask:
        async def resolve(host: str) -> list[str]:
            if leads_to is None:
                raise socket.gaierror(f"no such name: {host}")
            return leads_to

        proxy = EgressProxy(allowed, log, resolve=resolve, bounds=ProxyLimits(**bounds))  # type: ignore[arg-type]
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        closers.append(proxy.serve(listening))

        def ask(request: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                answer = b""
                # A proxy that refuses a request may close the connection before it has read all of it.
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    client.sendall(request)
                    while part := client.recv(65_536):
                        answer += part
                return answer

        ask.port = port  # type: ignore[attr-defined]
        return ask

    yield make
    for close in closers:
        close()
        close()


def test_a_listed_name_is_reached_and_counted(make_proxy: MakeProxy, target: Target, read_log: ReadLog) -> None:
    ask = make_proxy([f"listed.test:{target.port}", f"127.0.0.1:{target.port}"], ["127.0.0.1"])
    request = (
        f"GET http://LISTED.test:{target.port}?q=1 HTTP/1.1\r\nHost: elsewhere.test\r\nProxy-Authorization: Basic eA==\r\n"
        "Proxy-Connection: keep-alive\r\nX-Kept: yes\r\n\r\n"
    )
    assert ask(request.encode()).endswith(b"hi")
    sent = target.received[0].decode()
    assert sent.startswith("GET /?q=1 HTTP/1.1\r\n")
    assert f"Host: LISTED.test:{target.port}\r\n" in sent
    assert "X-Kept: yes\r\n" in sent
    assert "Connection: close\r\n" in sent
    assert "elsewhere" not in sent
    assert "Proxy-" not in sent
    (line,) = read_log()
    assert line["method"] == "GET"
    assert line["host"] == "listed.test"
    assert line["port"] == target.port
    assert line["allowed"] is True
    assert line["address"] == "127.0.0.1"
    assert line["bytes_up"] == len(sent)
    assert line["bytes_down"] == 40


def test_a_tunnel_carries_bytes_as_they_are(make_proxy: MakeProxy, target: Target, read_log: ReadLog) -> None:
    ask = make_proxy([f"listed.test:{target.port}", f"127.0.0.1:{target.port}"], ["127.0.0.1"])
    answer = ask(f"CONNECT listed.test:{target.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + b"\x00\xffraw")
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\n")
    assert answer.endswith(b"hi")
    assert target.received == [b"\x00\xffraw"]
    assert read_log()[0]["bytes_up"] == 5


@pytest.mark.parametrize("form", ["CONNECT {host} HTTP/1.1\r\n\r\n", "GET http://{host}/ HTTP/1.1\r\n\r\n"])
def test_unlisted_host_is_rejected_without_a_name_lookup(make_proxy: MakeProxy, read_log: ReadLog, form: str) -> None:
    ask = make_proxy(["listed.test"])
    for host in ("other.test:443", "listed.test.other.test:443", "listed.test:22", "127.0.0.1:443", "[::1]:443"):
        answer = ask(form.format(host=host).encode())
        assert answer.startswith(b"HTTP/1.1 403 "), host
        assert b"is not in network.allowed_hosts" in answer
    assert [line["allowed"] for line in read_log()] == [False] * 5


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:169.254.169.254", "fd00:ec2::254"])
def test_listed_name_that_resolves_to_this_machine_or_cloud_metadata_is_rejected(
    make_proxy: MakeProxy, target: Target, read_log: ReadLog, address: str
) -> None:
    ask = make_proxy([f"listed.test:{target.port}"], [address])
    answer = ask(f"CONNECT listed.test:{target.port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert address.encode() in answer
    assert target.received == []
    assert read_log()[0]["allowed"] is False


def test_an_address_that_is_listed_for_another_port_is_not_reached(make_proxy: MakeProxy, target: Target) -> None:
    ask = make_proxy([f"listed.test:{target.port}", "127.0.0.1:1"], ["127.0.0.1"])
    assert ask(f"CONNECT listed.test:{target.port} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 403 ")


def test_listed_address_is_reached_without_a_name(make_proxy: MakeProxy, target: Target) -> None:
    ask = make_proxy([f"127.0.0.1:{target.port}"])
    assert ask(f"GET http://127.0.0.1:{target.port}/ HTTP/1.1\r\n\r\n".encode()).endswith(b"hi")


def test_unknown_host_and_unreachable_server_are_reported(make_proxy: MakeProxy, read_log: ReadLog) -> None:
    assert b"cannot be resolved" in make_proxy(["listed.test"])(b"CONNECT listed.test:443 HTTP/1.1\r\n\r\n")
    with socket.socket() as bound:
        # It does not listen, and keeps the port from other programs.
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        answer = make_proxy([f"127.0.0.1:{port}"])(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert [line["reason"] for line in read_log()] == [
        "listed.test cannot be resolved", f"127.0.0.1:{port} cannot be connected to",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: listed.test\r\n\r\n", 400),
        (b"GET https://listed.test/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://user@listed.test/ HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT listed.test HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT listed.test:99999 HTTP/1.1\r\n\r\n", 400),
        (b"\x00\x01\x02\xff" * 8 + b"\r\n\r\n", 400),
        (b"GET http://listed.test/ HTTP/1.1\r\nX: 1\nHost: other.test\r\n\r\n", 400),
        (b"GET http://listed.test/ HTTP/1.1\r\nX: 1\rHost: other.test\r\n\r\n", 400),
        (b"GET http://listed.test/ HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
    ],
)
def test_invalid_request_is_answered_and_the_connection_closed(
    make_proxy: MakeProxy, request_bytes: bytes, status: int
) -> None:
    answer = make_proxy(["listed.test"])(request_bytes)
    # A client that is still sending when it is refused may be reset before it reads.
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 431 and answer == b"")


def test_request_head_that_never_ends_times_out(make_proxy: MakeProxy) -> None:
    assert make_proxy(["listed.test"], head_s=0.05)(b"GET http://listed.test/").startswith(b"HTTP/1.1 408 ")


def test_idle_tunnel_is_closed(make_proxy: MakeProxy, read_log: ReadLog) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    ask = make_proxy([f"127.0.0.1:{port}"], idle_s=0.05)
    assert ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 ")
    silent.close()
    assert read_log()[0]["reason"] == "nothing was sent for 0.05 s"


def test_connection_over_the_limit_gets_503(make_proxy: MakeProxy) -> None:
    ask = make_proxy(["listed.test"], connections=1)
    with socket.create_connection(("127.0.0.1", ask.port)) as first:  # type: ignore[attr-defined]
        first.sendall(b"GET ")
        assert ask(b"GET http://listed.test/ HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 503 ")


def test_close_ends_and_logs_open_connections(log: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    listening = socket.create_server(("127.0.0.1", 0))
    proxy_port = listening.getsockname()[1]
    close = EgressProxy([f"127.0.0.1:{port}"], log).serve(listening)
    with socket.create_connection(("127.0.0.1", proxy_port), timeout=60) as client:
        client.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        close()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    silent.close()
    assert json.loads(log.read_text())["allowed"] is True
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy_port))


def test_a_large_answer_passes_whole(make_proxy: MakeProxy, read_log: ReadLog) -> None:
    large = Target(b"x" * 20_000_000)
    ask = make_proxy([f"127.0.0.1:{large.port}"])
    answer = ask(f"GET http://127.0.0.1:{large.port}/ HTTP/1.1\r\n\r\n".encode())
    large.close()
    assert len(answer) == 20_000_000
    assert read_log()[0]["bytes_down"] == 20_000_000
