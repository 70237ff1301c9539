"""OTLP bodies that expand to many times their size: the memory that they take is bounded, and the response is clear.

The figures are peaks of the resident memory of this process, which also holds the client and the bodies.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from starlette.testclient import TestClient

from support.otlp.traces import (
    ENCODINGS,
    Encoding,
    Trace,
    assert_refused,
    assert_stored,
    assert_taken,
    encode,
    field,
    packed_body,
    post,
)

MB = 1_048_576
PROC = Path("/proc/self")
pytestmark = [
    pytest.mark.skipif(not (PROC / "clear_refs").exists(), reason="peaks of memory are read from Linux's /proc"),
    # Rejected bodies never reach a database, so one back end is enough.
    pytest.mark.parametrize("installation", ["sqlite+embedded"], indirect=True),
]


def in_memory_mb(name: str) -> float:
    """Return a memory figure of this process in MB: VmRSS is the current size, VmHWM the peak."""
    [line] = [line for line in (PROC / "status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1_024


@contextmanager
def takes_at_most(mb: float, what: str) -> Iterator[None]:
    """Assert that the memory of this process grows by at most `mb` while the block runs."""
    (PROC / "clear_refs").write_text("5")  # resets the peak to the current size
    before = in_memory_mb("VmRSS")
    yield
    peak = in_memory_mb("VmHWM") - before
    print(f"{what}: {peak:,.0f} MB")
    assert peak <= mb, f"{what} took {peak:,.0f} MB"


@pytest.fixture
def good(api: TestClient, run_id: str) -> Iterator[Callable[[], None]]:
    """Return a function that asserts that the API accepts a trace, and call it before and after the test."""
    numbers = iter(range(1_000))

    def assert_good() -> None:
        trace = Trace(f"{run_id} {next(numbers)}")
        assert assert_taken(post(api, encode(trace.good()))) == (0, "")
        assert_stored(api, trace)

    assert_good()
    yield assert_good
    assert_good()


def bomb(megabytes: int) -> bytes:
    """Return a gzip bomb: `megabytes` MB of zeros, compressed to a thousandth without holding them in memory."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # A block after a full flush does not depend on earlier data, so it can be repeated.
    block = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * megabytes


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gzip_bomb_is_rejected_without_being_decompressed(
    api: TestClient, good: Callable[[], None], encoding: Encoding
) -> None:
    raw = bomb(4_096)
    assert len(raw) < 8 * MB
    with takes_at_most(300, f"4 GB as {len(raw) / MB:.1f} MB of gzip"):
        answer = post(api, raw, encoding, **{"content-encoding": "gzip"})
    assert "RELAB_HTTP__MAX_BODY_MB" in assert_refused(answer, 413, encoding)


def test_zstandard_bomb_is_rejected_without_being_decompressed(api: TestClient, good: Callable[[], None]) -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    raw = b"".join([*(compressor.compress(bytes(MB)) for _ in range(2_048)), compressor.flush()])
    with takes_at_most(300, f"2 GB as {len(raw) / MB:.3f} MB of Zstandard"):
        answer = post(api, raw, **{"content-encoding": "zstd"})
    assert "RELAB_HTTP__MAX_BODY_MB" in assert_refused(answer, 413, "protobuf")


def test_nested_gzip_bomb_is_decompressed_only_once(api: TestClient, good: Callable[[], None]) -> None:
    with takes_at_most(300, "a bomb in gzip"):
        answer = post(api, gzip.compress(bomb(1_024)), **{"content-encoding": "gzip"})
    assert_refused(answer, 400, "protobuf")


EMPTY_SPANS = 8_000_000
EMPTY_JSON_SPANS = 2_000_000
MANY: dict[str, tuple[Encoding, Callable[[], bytes]]] = {
    "8,000,000 empty spans": ("protobuf", lambda: field(1, field(2, b"\x12\x00" * EMPTY_SPANS))),
    "8,000,000 empty scopes": ("protobuf", lambda: field(1, b"\x12\x00" * EMPTY_SPANS)),
    "8,000,000 empty resources": ("protobuf", lambda: b"\x0a\x00" * EMPTY_SPANS),
    "4,000,000 empty scopes of as many resources": ("protobuf", lambda: (field(1, b"\x12\x00")) * (EMPTY_SPANS // 2)),
    "2,000,000 empty spans in JSON": (
        "json",
        lambda: b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * EMPTY_JSON_SPANS + b"{}]}]}]}",
    ),
    "2,000,000 empty resources in JSON": ("json", lambda: b'{"resourceSpans":[' + b"{}," * EMPTY_JSON_SPANS + b"{}]}"),
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "make"), MANY.values(), ids=MANY)
def test_millions_of_empty_parts_are_rejected_as_too_many(
    api: TestClient,
    good: Callable[[], None],
    encoding: Encoding,
    make: Callable[[], bytes],
    request: pytest.FixtureRequest,
) -> None:
    raw = make()
    with takes_at_most(600, request.node.callspec.id):
        answer = post(api, raw, encoding)
    reason = assert_refused(answer, 413, encoding)
    assert "100,000 spans" in reason
    good()


def test_span_with_millions_of_empty_values_is_rejected_alone(
    api: TestClient, good: Callable[[], None], run_id: str
) -> None:
    trace = Trace(f"{run_id} attributes")
    bad = trace.span("bad", "root").SerializeToString()
    flat = bad + b"\x4a\x00" * 3_000_000
    nested = bad + field(9, b"\x0a\x01k" + field(2, field(5, b"\x0a\x00" * 1_000_000)))
    for name, spoiled in (("3,000,000 empty attributes", flat), ("a list of 1,000,000 empty values", nested)):
        raw = packed_body(spoiled, *trace.good())
        with takes_at_most(500, name):
            assert assert_taken(post(api, raw))[0] == 1
    assert api.get(f"/agent-runs/{trace.id}").json()["counts"] == {"steps": 1, "tool_calls": 1, "guardrail_events": 0}


def test_a_body_full_of_empty_json_objects_is_refused_before_it_is_parsed(
    api: TestClient, good: Callable[[], None]
) -> None:
    raw = b'{"resourceSpans":[{"attributes":[' + b"{}," * 20_000_000 + b"{}]}]}"
    with takes_at_most(300, "60 MB of empty objects"):
        answer = post(api, raw, "json")
    assert "braces" in assert_refused(answer, 413, "json")


def test_thousands_of_resources_are_accepted(api: TestClient, good: Callable[[], None], run_id: str) -> None:
    trace = Trace(f"{run_id} resources")
    raw = b"".join(encode([trace.span(f"s{n}", None)], resource={"service.instance.id": str(n)}) for n in range(2_000))
    with takes_at_most(500, "2,000 resources"):
        assert assert_taken(post(api, raw)) == (0, "")
    assert len(api.get(f"/agent-runs/{trace.id}/spans", params={"limit": 1_000}).json()["items"]) == 1_000


def test_repeated_bad_bodies_do_not_leak_memory(api: TestClient, good: Callable[[], None]) -> None:
    raw = field(1, field(2, b"\x12\x00" * 1_000_000))
    for _ in range(3):
        assert_refused(post(api, raw), 413, "protobuf")
    with takes_at_most(150, "20 bodies of 1,000,000 empty spans"):
        for _ in range(20):
            assert_refused(post(api, raw), 413, "protobuf")
