"""The log reader: bounds memory, keeps the original line numbers, and removes the envelope of a CI system."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.builds.logs.models import BuildLog
from relab.builds.logs.reading import MAX_HEAD_BYTES, MAX_LINE_CHARS, MAX_TAIL_BYTES, read_log, unwrap
from support.telemetry.runs import examples

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def read(data: bytes) -> BuildLog:
    return read_log(io.BytesIO(data))


class Pipe(io.BytesIO):
    """A stream that returns few bytes per read, as a pipe does."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 70_001))


def test_each_kind_of_line_end_ends_one_line() -> None:
    log = read(b"one\r\ntwo\rthree\n\nfive")

    assert [(line.number, line.text) for line in log.lines] == [
        (1, "one"), (2, "two"), (3, "three"), (4, ""), (5, "five")
    ]  # fmt: skip
    assert log.total_lines == 5


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_other_separators_of_unicode_do_not_end_a_line(separator: str) -> None:
    assert read(f"a{separator}b\nc".encode()).total_lines == 2


@given(st.lists(st.sampled_from(["a", "\r", "\n", "\r\n", "b c"])))
@examples(100)
def test_lines_are_numbered_as_python_counts_them(parts: list[str]) -> None:
    data = "".join(parts).encode()

    log = read(data)

    expected = io.TextIOWrapper(io.BytesIO(data), newline=None).read().splitlines()
    assert [line.text for line in log.lines] == expected
    assert log.total_lines == len(expected)


@pytest.mark.parametrize("before", range(8_188, 8_195))
def test_line_end_and_character_across_two_pieces_of_the_decoder_are_read_as_one(before: int) -> None:
    text = f"{'a' * before}\r\n{'b' * before}\u20ac"
    assert [line.text[-1] for line in read_log(io.BytesIO(text.encode())).lines] == ["a", "b"]
    last = f"{'c' * 1_000}\n" * 8 + f"{'d' * (before - 8_008)}\u20ac"
    assert [line.text for line in read_log(io.BytesIO(last.encode())).lines] == last.split("\n")


def test_empty_log_has_no_lines() -> None:
    assert read(b"") == BuildLog((), 0)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("2024-05-01T10:00:00.1234567Z ##[error]no such file", "##[error]no such file"),
        ("\ufeff2024-05-01T10:00:00.1234567Z first line", "first line"),
        ("build\tRun tests\t2024-05-01T10:00:00.1234567Z FAILED", "FAILED"),
        ("2024-05-01T10:00:00.123456Z 01O make: *** [all] Error 2", "make: *** [all] Error 2"),
        ("[2024-05-01T10:00:00.123Z] ERROR: no", "ERROR: no"),
        ("section_start:1560896352:build[collapsed=true]\x1b[0Kbuild", "build"),
        ("travis_fold:start:git.checkout\x1b[0Kclone", "clone"),
        ("\x1b[31;1merror\x1b[0m: bad", "error: bad"),
        ("\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\link", "link"),
        ("a\x9b31mb\x08\x00c", "a31mbc"),
        ("token [MASKED] and ***", "token [MASKED] and ***"),
    ],
)
def test_envelope_and_escape_sequences_are_removed(raw: str, text: str) -> None:
    assert unwrap(raw) == ("", text)


@pytest.mark.parametrize(
    ("raw", "worker", "text"),
    [
        ("#12 3.456 gcc: error", "12", "gcc: error"),
        ("db-1  | ready", "db-1", "ready"),
        ("@shop/cart:build: error TS2304", "@shop/cart:build", "error TS2304"),
        ("main.c:5: error: no", "", "main.c:5: error: no"),
    ],
)
def test_prefix_of_a_worker_is_separated(raw: str, worker: str, text: str) -> None:
    assert unwrap(raw) == (worker, text)


@given(st.text())
@examples(200)
def test_text_of_a_line_has_no_control_characters(raw: str) -> None:
    worker, text = unwrap(raw)

    assert not CONTROL.search(worker + text)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_middle_of_a_large_log_is_left_out_and_other_lines_keep_their_numbers(end: bytes) -> None:
    count = (MAX_HEAD_BYTES + MAX_TAIL_BYTES) // 1_000 + 5_000
    data = b"".join(b"%0999d%s" % (number, end) for number in range(1, count + 1))

    log = read_log(Pipe(data))

    assert log.total_lines == count
    assert log.left_out is not None
    first, last = log.left_out
    assert len(log.lines) == count - (last - first + 1)
    assert len(log.lines) * 1_000 <= MAX_HEAD_BYTES + MAX_TAIL_BYTES + 2_000_000
    assert all(line.number == int(line.text) for line in (log.lines[0], log.lines[first - 2], log.lines[first - 1]))
    assert (log.lines[-1].number, log.lines[-1].text) == (count, b"%0999d".__mod__(count).decode())


def test_long_line_is_shortened_and_counted() -> None:
    log = read(b"x" * 5_000_000 + b"\nerror: no\n")

    assert [len(line.text) for line in log.lines] == [MAX_LINE_CHARS, len("error: no")]
    assert log.shortened_lines == 1


def test_binary_log_is_reported_as_binary() -> None:
    log = read(bytes(range(256)) * 100)

    assert log.is_binary
    assert not any(CONTROL.search(line.text) for line in log.lines)


def test_text_with_few_nul_bytes_is_not_binary() -> None:
    log = read(b'2022-05-09T15:19:25.3709712Z {"aChar":"\x00"}\n' * 2 + b"[INFO] BUILD SUCCESS\n" * 1_000)

    assert not log.is_binary
    assert log.lines[0].text == '{"aChar":""}'


def test_lines_after_a_first_line_larger_than_the_head_keep_their_numbers() -> None:
    line = b"y" * 4_095 + b"\n"
    data = b"x" * (MAX_HEAD_BYTES + 10) + b"\n" + line * (MAX_TAIL_BYTES // len(line) + 1_000)

    log = read(data)

    assert log.total_lines == data.count(b"\n")
    assert log.lines[-1].number == log.total_lines
    assert log.left_out is not None
    assert log.left_out[0] == 2


def test_large_log_of_one_line_leaves_out_no_line() -> None:
    log = read(b"x" * (MAX_HEAD_BYTES + MAX_TAIL_BYTES + 5_000_000))

    assert log.total_lines == 1
    assert log.left_out is None


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_log_in_utf_16_with_a_byte_order_mark_is_read(encoding: str, chunk: int) -> None:
    data = "\ufeffcl main.c\r\nmain.c(3): error C2065: \u00e4 \U0001f600\r\n".encode(encoding)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, chunk))

    log = read_log(Slow(data))

    assert [line.text for line in log.lines] == ["cl main.c", "main.c(3): error C2065: \u00e4 \U0001f600"]
    assert not log.is_binary


def test_odd_bytes_of_utf_16_end_the_log_without_an_error() -> None:
    assert read_log(io.BytesIO(b"\xff\xfea\0b\0\xd8")).lines[0].text.startswith("ab")
    assert read_log(io.BytesIO(b"\xff")).lines[0].text == "\ufffd"
