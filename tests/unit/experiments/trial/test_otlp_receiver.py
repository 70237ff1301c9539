"""The trace receiver over a real socket: requests of OTLP exporters and of a hostile harness."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relab.core.errors import InvalidInputError, UnavailableError
from relab.experiments.trial import otlp_receiver
from relab.experiments.trial.otlp_exports import stored_exports
from relab.experiments.trial.otlp_receiver import Encoding, OtlpReceiver, trace_ids_of

PROTOBUF, JSON = "application/x-protobuf", "application/json"


def export(*trace_ids: str) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for trace_id in trace_ids:
        scope.spans.add(trace_id=bytes.fromhex(trace_id), span_id=b"12345678", name="x")
    return request.SerializeToString()


def export_json(*trace_ids: object) -> bytes:
    spans = [{"traceId": trace_id, "name": "x"} for trace_id in trace_ids]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


A, B = "0a" * 16, "0b" * 16


@dataclass
class Served:
    """A running receiver, and a client that posts exports to it."""

    folder: Path
    port: int
    receiver: OtlpReceiver = field(init=False)
    taken: list[tuple[bytes, Encoding]] = field(default_factory=list)
    error: Exception | None = None

    def take(self, body: bytes, encoding: Encoding) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append((body, encoding))

    def post(self, body: bytes, kind: str = PROTOBUF, path: str = "/v1/traces", **headers: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(
            "POST", path, body, {"Content-Type": kind, **{k.replace("_", "-"): headers[k] for k in headers}}
        )
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def send(self, raw: bytes) -> bytes:
        """Send raw bytes, close the sending side, and return all bytes of the response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            while part := connection.recv(65_536):
                found += part
            return found

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    listening = socket.create_server(("127.0.0.1", 0))
    found = Served(tmp_path / "otlp", listening.getsockname()[1])
    found.receiver = OtlpReceiver(found.folder, found.take)
    end = found.receiver.serve(listening)
    yield found
    end()


def test_protobuf_export_is_stored_and_forwarded(served: Served) -> None:
    assert served.post(export(A, B)) == (200, b"")
    assert served.post(export(B)) == (200, b"")

    assert served.taken == [(export(A, B), "protobuf"), (export(B), "protobuf")]
    assert list(served.receiver.trace_ids) == [A, B]
    assert served.files() == ["00001.binpb", "00002.binpb"]
    assert (served.folder / "00001.binpb").read_bytes() == export(A, B)


def test_json_export_is_stored_and_forwarded(served: Served) -> None:
    status, answer = served.post(export_json(A.upper()), kind="application/json; charset=utf-8")

    assert status == 200
    assert json.loads(answer) == {}
    assert served.taken == [(export_json(A.upper()), "json")]
    assert list(served.receiver.trace_ids) == [A]
    assert served.files() == ["00001.json"]


@pytest.mark.parametrize("members", [1, 3])
def test_gzip_export_is_decompressed(served: Served, members: int) -> None:
    body = export(A, B)
    step = -(-len(body) // members)
    packed = b"".join(gzip.compress(body[begin : begin + step]) for begin in range(0, len(body), step))

    assert served.post(packed, Content_Encoding="gzip") == (200, b"")
    assert served.taken == [(body, "protobuf")]
    assert served.post(gzip.compress(b""), Content_Encoding="GZIP") == (200, b"")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunked_body_is_reassembled(served: Served, size: int) -> None:
    """Node.js exporters send chunks, because they do not know the length of the compressed body in advance."""
    body = export(A, B)
    parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
    chunked = b"".join(b"%x;why=not\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    answer = served.send(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunked
    )

    assert b" 200 " in answer.split(b"\r\n", 1)[0]
    assert served.taken == [(body, "protobuf")]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xff\xff", PROTOBUF),
        (export(A)[:-3], PROTOBUF),
        (b"{", JSON),
        (b"[]", JSON),
        (b"null", JSON),
        (b'{"resourceSpans": 7}', JSON),
        (b'{"resourceSpans": [7]}', JSON),
        (b'{"resourceSpans": [{"scopeSpans": {}}]}', JSON),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": ["x"]}]}]}', JSON),
        (b"[" * 100_000, JSON),
    ],
)
def test_invalid_export_is_rejected_and_not_stored(served: Served, body: bytes, kind: str) -> None:
    status, answer = served.post(body, kind)

    assert status == 400
    assert answer.startswith(b"the export cannot be read: ")
    assert served.taken == []
    assert served.files() == []
    assert served.post(export(A))[0] == 200


@pytest.mark.parametrize("body", [b"{}", b'{"resourceSpans": null}', b'{"resourceSpans": [{"scopeSpans": [{}]}]}'])
def test_empty_export_is_accepted(served: Served, body: bytes) -> None:
    assert served.post(body, JSON)[0] == 200


def test_only_valid_trace_ids_are_recorded_up_to_the_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_receiver, "MAX_TRACES", 3)
    served.post(export_json("x" * 10_000, 7, None, [], A, "", "zz" * 16), JSON)
    assert list(served.receiver.trace_ids) == [A]

    served.post(export_json(*[f"{number:032x}" for number in range(10)]), JSON)
    assert len(served.receiver.trace_ids) == 3


def bomb(size: int, empty_members: int = 0) -> bytes:
    return gzip.compress(b"") * empty_members + gzip.compress(b"\x00" * size)


@pytest.mark.parametrize("packed", [bomb(3_000_000), bomb(3_000_000, empty_members=3), bomb(600_000) * 2])
def test_gzip_bomb_is_rejected(served: Served, monkeypatch: pytest.MonkeyPatch, packed: bytes) -> None:
    monkeypatch.setattr(otlp_receiver, "MAX_BODY_BYTES", 1_000_000)

    assert served.post(packed, Content_Encoding="gzip") == (413, b"a body has a length of at most 1,000,000 bytes")
    assert served.files() == []


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(export(A))[:-9], gzip.compress(export(A)) + b"more", export(A), b"\x1f\x8b", b"x"],
    ids=["cut off", "with more behind it", "not packed", "the first two bytes", "a letter"],
)
def test_invalid_compression_is_rejected(served: Served, packed: bytes) -> None:
    assert served.post(packed, Content_Encoding="gzip")[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: 99999999999\r\n", 413),
        (b"Content-Length: " + b"9" * 5_000 + b"\r\n", 413),
        (b"Content-Length: 1000\r\n", 400),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: ten\r\n", 400),
        (b"Content-Length: \xb2\r\n", 400),
        (b"", 400),
        (b"Transfer-Encoding: chunked\r\n", 400),
    ],
)
def test_invalid_content_length_is_rejected(served: Served, headers: bytes, status: int) -> None:
    answer = served.send(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + export(A))

    assert f" {status} ".encode() in answer.split(b"\r\n", 1)[0]
    assert served.files() == []


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nab\r\n", b"-1\r\n", b"5\r\nab\r\n0\r\n\r\n", b"fffffffffff\r\nx", b"1" * 5_000]
)
def test_invalid_chunks_are_rejected(served: Served, chunks: bytes) -> None:
    answer = served.send(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)

    assert answer.split(b" ", 2)[1] in {b"400", b"413"}
    assert served.files() == []


def test_other_paths_and_methods_are_rejected(served: Served) -> None:
    assert served.post(b"x" * 1_000_000, path="/v1/metrics") == (404, b"only /v1/traces is served here")
    connection = HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", "/v1/traces")
    assert connection.getresponse().status == 501
    connection.close()


def test_folded_request_header_is_not_sent_back(served: Served) -> None:
    answer = served.send(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: a\r\n Set-Cookie: b\r\nContent-Length: 1\r\n\r\nx"
    )

    assert b"Set-Cookie" not in answer


def test_exports_of_a_trial_are_limited(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_receiver, "MAX_TRIAL_BYTES", 3 * 4_096)
    answers = [served.post(export(A))[0] for _ in range(5)]

    # Even the smallest body occupies one disk block.
    assert answers == [200, 200, 200, 413, 413]
    assert len(served.files()) == 3


def test_rejected_export_does_not_count(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_receiver, "MAX_TRIAL_BYTES", 2 * 4_096)
    large = export(*[A] * 500)

    assert len(large) > 2 * 4_096
    assert [served.post(body)[0] for body in (large, export(A), export(B))] == [413, 200, 200]


def test_exports_of_an_earlier_attempt_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_receiver, "MAX_TRIAL_BYTES", 3 * 4_096)
    folder = tmp_path / "otlp"
    answers = []
    for bodies in ([export(A), export_json(A)], [export(B), export(B)]):
        listening = socket.create_server(("127.0.0.1", 0))
        attempt = Served(folder, listening.getsockname()[1])
        attempt.receiver = OtlpReceiver(folder, attempt.take)
        end = attempt.receiver.serve(listening)
        answers += [attempt.post(body, JSON if body.startswith(b"{") else PROTOBUF)[0] for body in bodies]
        end()

    assert answers == [200, 200, 200, 413]
    assert list(stored_exports(folder)) == [(export(A), "protobuf"), (export_json(A), "json"), (export(B), "protobuf")]


def test_stored_exports_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (99_999, 100_000, 1):
        (tmp_path / f"{number:05}.json").write_text(str(number))
    (tmp_path / "notes.txt").write_text("not an export")

    assert [body for body, _ in stored_exports(tmp_path)] == [b"1", b"99999", b"100000"]


def test_export_that_cannot_be_stored_gets_a_retryable_status(served: Served) -> None:
    served.error = UnavailableError("the database is away")
    assert served.post(export(A)) == (503, b"the export cannot be stored now: the database is away")
    served.error = InvalidInputError("a span is wrong")
    assert served.post(export(A)) == (400, b"a span is wrong")
    served.error = None
    assert served.post(export(A))[0] == 200


def test_unwritable_folder_is_reported(served: Served) -> None:
    served.folder.write_text("a file in its place")

    assert served.post(export(A))[0] == 503


def test_concurrent_exports_are_all_stored(served: Served) -> None:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(served.post(export(A))[0])) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 30
    assert len(served.files()) == 30


def test_close_drops_silent_connections_and_writes_nothing_afterwards(tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    receiver = OtlpReceiver(tmp_path / "otlp", lambda *_: None)
    end = receiver.serve(listening)
    port = listening.getsockname()[1]
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
    for connection in silent:
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhalf")
    before = threading.active_count()
    end()

    assert threading.active_count() < before
    assert not (tmp_path / "otlp").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for connection in silent:
        connection.close()


def timed(trace_id: str, start_ns: object) -> bytes:
    spans = [{"traceId": trace_id, "name": "x", "startTimeUnixNano": start_ns}]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def test_trace_ids_of_stored_exports_are_distinct_and_in_the_order_of_arrival() -> None:
    exports: list[tuple[bytes, Encoding]] = [(export(B, A), "protobuf"), (export_json(A, "C" * 32, "no id"), "json")]

    assert trace_ids_of(exports) == [B, A, "c" * 32]
    assert trace_ids_of([]) == []


@pytest.mark.parametrize("start_ns", [5_000, "5000"])
def test_trace_ids_of_earlier_spans_are_left_out(start_ns: object) -> None:
    exports: list[tuple[bytes, Encoding]] = [(timed(A, "4999"), "json"), (export(A), "protobuf")]

    assert trace_ids_of([*exports, (timed(B, start_ns), "json")], from_us=5) == [B]


@pytest.mark.parametrize(
    "body",
    [b"[1]", b"{", b'{"resourceSpans": 3}', timed(A, [1]), timed(A, "x"), timed(A, float("inf")), timed(A, None)],
)
def test_damaged_stored_export_is_left_out_and_logged(body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace_ids_of([(body, "json"), (b"\xff", "protobuf"), (timed(B, 7_000), "json")], from_us=5) == [B]
    assert capsys.readouterr().out.count("stored_export_not_read") == 2
