"""Limits of the server for clients without a token, before a request is complete."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from rig.waiting import wait_until
from support.api.raw_http import RawConnection, get
from support.lab.process import LabProcess
from support.telemetry.runs import minimal_run

LIMITS = {
    "RELAB_HTTP__HEADER_TIMEOUT_S": "1",
    "RELAB_HTTP__BODY_TIMEOUT_S": "1",
    "RELAB_HTTP__KEEP_ALIVE_TIMEOUT_S": "1",
    "RELAB_HTTP__STALLED_READER_TIMEOUT_S": "1",
    "RELAB_PROGRESS__HEARTBEAT_INTERVAL_S": "1",
    "LOG_LEVEL": "WARNING",
}
LARGE = 8_000_000
"""More bytes than the kernel's buffers of both sides hold."""
LENGTH_3 = "Content-Length: 3"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """A server with short time limits, all other limits at their defaults, and a low soft limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        started = LabProcess.serve(tmp_path_factory.mktemp("home"), "--workers", "0", settings=LIMITS)
        started.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        stack.callback(started.destroy)
        yield started


def post(*fields: str, body: str = "", host: str = "127.0.0.1") -> bytes:
    head = ["POST /agent-runs HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *fields, "", body]
    return "\r\n".join(head).encode("latin-1")


def answer(server: LabProcess, request: bytes) -> tuple[int, str]:
    """Return the status of the response, and the code of the problem that it names."""
    assert server.port is not None
    with RawConnection(server.port) as connection:
        connection.send(request)
        status, headers, body = connection.read_response()
        if headers["content-type"] != "application/problem+json":
            return status, ""
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        return status, str(json.loads(body)["type"]).removeprefix("urn:relab:problem:")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (get("/healthz", *(f"X-{number}: 1" for number in range(101))), 431, "headers_too_large"),
        (get("/healthz", *(f"X-{number}: 1" for number in range(100_000))), 431, "headers_too_large"),
        (get("/healthz", "X: " + "a" * 32_768), 431, "headers_too_large"),
        (get("/healthz?" + "a" * 8_192), 414, "request_target_too_long"),
        (get("/healthz", "Host: 127.0.0.1"), 400, "bad_host"),
        (get("/healthz", host=None), 400, "bad_host"),
        (get("/healthz", host="a/b"), 400, "bad_host"),
        (get("/healthz", host="user@127.0.0.1"), 400, "bad_host"),
        (get("http://elsewhere/healthz"), 400, "bad_host"),
        (get("ftp://127.0.0.1/healthz"), 400, "bad_target"),
        (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", 400, "bad_target"),
        (post(LENGTH_3, CHUNKED, body="0\r\n\r\n"), 400, "bad_request"),
        (post(CHUNKED, LENGTH_3, body="0\r\n\r\n"), 400, "bad_request"),
        (post(LENGTH_3, LENGTH_3, body="{ }"), 400, "bad_request"),
        (post("Content-Length: +3", body="{ }"), 400, "bad_request"),
        (post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 501, "unknown_transfer_coding"),
        (post("Transfer-Encoding: gzip", CHUNKED, body="0\r\n\r\n"), 501, "unknown_transfer_coding"),
        (post(CHUNKED, body="0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "bad_framing"),
        (post(CHUNKED, body="zz\r\n"), 400, "bad_request"),
        (post(CHUNKED, body="-1\r\n"), 400, "bad_request"),
        (post(CHUNKED, body="1" * 17 + "\r\n"), 400, "bad_request"),
        (post(CHUNKED, body="3\n{ }\n0\n\n"), 400, "bad_request"),
        (post(CHUNKED, body="1;" + "x" * 300_000), 400, "bad_request"),
        (post(CHUNKED, body="2\r\n{}\r\n0\r\n" + "X: 1\r\n" * 101 + "\r\n"), 431, "headers_too_large"),
        (get("/healthz", "X: a\r\n folded"), 400, "bad_request"),
        (get("/healthz", "X: a\x00b"), 400, "bad_request"),
        (get("/health\x00z"), 400, "bad_request"),
        (get("/healthz", "X : a"), 400, "bad_request"),
        (get("/healthz").replace(b"\r\n", b"\n"), 400, "bad_request"),
        (b"GET /healthz\r\n\r\n", 505, "unknown_http_version"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_ambiguous_or_oversized_request_is_refused(
    server: LabProcess, request_bytes: bytes, status: int, code: str
) -> None:
    assert answer(server, request_bytes) == (status, code)


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/healthz", *(f"X-{number}: 1" for number in range(99))),
        get("/healthz", "X: " + "a" * 32_000),
        get("/healthz?" + "a" * 8_000),
        get("http://127.0.0.1/healthz"),
        get("/healthz", host="[::1]:8000"),
        b"\r\n\r\n" + get("/healthz"),
        b"GET /healthz HTTP/1.0\r\n\r\n",
        get("/healthz", "Connection: Upgrade", "Upgrade: websocket"),
    ],
)
def test_unusual_but_valid_request_is_answered(server: LabProcess, request_bytes: bytes) -> None:
    assert answer(server, request_bytes) == (200, "")


def test_endless_header_costs_no_memory(server: LabProcess) -> None:
    assert server.port is not None
    process = psutil.Process(server.pid)
    before = process.memory_info().rss

    with RawConnection(server.port) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        sent = 0
        while sent < 90_000_000 and connection.send(b"a" * 65_536):
            sent += 65_536
        received = connection.read_to_end()

    assert received.startswith(b"HTTP/1.1 431 ")
    assert sent < 30_000_000
    assert process.memory_info().rss - before < 10_000_000


def test_trailer_does_not_become_a_header(server: LabProcess) -> None:
    # As a header this trailer would authenticate the request.
    body = "2\r\n{}\r\n0\r\nAuthorization: Bearer relab_x_y\r\n\r\n"

    assert answer(server, post(CHUNKED, body=body)) == (422, "invalid_agent_run")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n", 408),
        (b"GET /healthz HTTP/1.1\r\nHost: 127", 408),
        (get() + b"GET /healthz HT", 408),
        (post("Content-Length: 5", body="{"), 408),
        # The response does not need the body, which arrives late.
        (get("/healthz", "Content-Length: 5") + b"x", None),
    ],
    ids=["nothing", "empty-lines", "half-a-head", "half-a-second-head", "half-a-body", "half-an-unread-body"],
)
def test_connection_of_a_slow_client_is_closed(server: LabProcess, sent: bytes, status: int | None) -> None:
    assert server.port is not None
    with RawConnection(server.port) as connection:
        connection.send(sent)
        received = connection.read_to_end()

    assert (b"HTTP/1.1 408 " in received) is (status == 408)


def test_bytes_that_drip_do_not_keep_a_connection_open(server: LabProcess) -> None:
    assert server.port is not None
    with RawConnection(server.port) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")

        wait_until(lambda: not connection.send(b"a") or connection.is_closed(), what="the end of the connection")


def test_idle_connection_is_closed_after_the_keep_alive_time(server: LabProcess) -> None:
    assert server.port is not None
    with RawConnection(server.port) as connection:
        connection.send(get())
        assert connection.read_response()[0] == 200

        assert connection.read_to_end() == b""


def test_pipelined_requests_are_answered_in_order_up_to_the_limit(server: LabProcess) -> None:
    assert server.port is not None
    with RawConnection(server.port) as connection:
        connection.send(b"".join(get(path) for path in ["/healthz", "/nowhere"] * 8) + get("/", "Connection: close"))
        received = connection.read_to_end()

    statuses = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404] * 8 + [200]


def test_pipelined_requests_without_end_are_bounded(server: LabProcess) -> None:
    assert server.port is not None
    process = psutil.Process(server.pid)
    before = process.memory_info().rss

    with RawConnection(server.port, receive_buffer=4_096) as connection:
        sent = 0
        while sent < 20_000_000 and (some := connection.send_some(get() * 3_000)):
            sent += some

    assert sent < 20_000_000
    assert process.memory_info().rss - before < 20_000_000


def test_request_after_a_bad_one_is_not_answered(server: LabProcess) -> None:
    assert server.port is not None
    with RawConnection(server.port) as connection:
        connection.send(get() + post(LENGTH_3, CHUNKED, body="0\r\n\r\n") + get())
        received = connection.read_to_end()

    # The server may answer the first request before it reads the second, or close the connection after that.
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] in ([b"200"], [b"200", b"400"])


def test_client_that_does_not_read_its_response_is_cut_off(server: LabProcess) -> None:
    assert server.port is not None
    with server.client() as client:
        client.post("/agent-runs", json=minimal_run("large", error_message="x" * LARGE)).raise_for_status()
        assert len(client.get("/agent-runs/large").content) > LARGE
    with RawConnection(server.port, receive_buffer=4_096) as connection:
        connection.send(get("/agent-runs/large"))
        wait_until(lambda: "stalled_reader" in server.log(), what="the log's word of a stalled reader")
        wait_until(lambda: not connection.send(b"x"), what="the end of the connection")


def test_health_checks_are_answered_among_idle_connections(tmp_path: Path) -> None:
    settings = {"LOG_LEVEL": "WARNING"}
    with (
        LabProcess.serve(tmp_path, "--workers", "0", settings=settings, open_files=256) as server,
        ExitStack() as stack,
    ):
        assert server.port is not None
        for _ in range(300):
            stack.enter_context(RawConnection(server.port))

        assert all(server.answers(path) for path in ["/healthz", "/readyz"] * 5)


def test_health_checks_are_answered_among_busy_connections(tmp_path: Path) -> None:
    settings = {"RELAB_HTTP__MAX_CONNECTIONS": "20", "LOG_LEVEL": "WARNING"}
    with LabProcess.serve(tmp_path, "--workers", "0", settings=settings) as server, ExitStack() as stack:
        assert server.port is not None
        for _ in range(20):
            busy = stack.enter_context(RawConnection(server.port))
            # The application waits for the request's body, so the server cannot close this connection for another one.
            busy.send(post("Expect: 100-continue", "Content-Length: 5"))
            wait_until(lambda busy=busy: busy.read_some().startswith(b"HTTP/1.1 100"), what="the server reading a body")

        assert all(server.answers(path) for path in ["/healthz", "/readyz"] * 5)
        with RawConnection(server.port) as other:
            other.send(get("/"))
            status, headers, _ = other.read_response()
        assert status == 503
        assert headers["retry-after"] == "1"
        assert server.log().count("too_many_connections") <= 2


def test_lack_of_descriptors_is_logged_once_and_survived(tmp_path: Path) -> None:
    settings = {"LOG_LEVEL": "WARNING"}
    with LabProcess.serve(tmp_path, "--workers", "0", settings=settings) as server, ExitStack() as stack:
        assert server.port is not None
        process = psutil.Process(server.pid)
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        # Another part of the process has taken the descriptors that the server counted on.
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (process.num_fds() + 20, hard))
        for _ in range(60):
            stack.enter_context(RawConnection(server.port))

        wait_until(lambda: "out_of_descriptors" in server.log(), what="the log's word of it")
        assert all(server.answers("/healthz") for _ in range(5))
        assert "Too many open files" in server.log()
        assert server.log().count("http_rejected ") == 1


def test_soft_limit_of_open_files_is_raised(server: LabProcess) -> None:
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)

    assert soft == min(hard, 1_048_576)


def test_event_stream_outlives_idle_limits_and_is_counted_apart(server: LabProcess) -> None:
    with server.client() as client:
        client.post("/agent-runs", json=minimal("followed")).raise_for_status()
        rca_run_id = client.post("/agent-runs/followed/rca-runs").raise_for_status().json()["rca_run_id"]
        with client.stream("GET", f"/rca-runs/{rca_run_id}/stream") as stream:
            lines = stream.iter_lines()
            assert next(lines)
            wait_until(lambda: 'relab_http_connections{kind="stream"} 1.0' in metrics(server), what="the count")
            # All time limits of the server are one second.
            idle = RawConnection(int(str(server.port)))
            assert idle.read_to_end() == b""
            idle.close()
            assert 'relab_http_connections{kind="stream"} 1.0' in metrics(server)
        wait_until(lambda: 'relab_http_connections{kind="stream"} 0.0' in metrics(server), what="the end of the stream")


def metrics(server: LabProcess) -> str:
    return httpx.get(server.url + "/metrics", timeout=30, trust_env=False, verify=False).text


def minimal(run_id: str) -> dict[str, object]:
    return minimal_run(run_id)
