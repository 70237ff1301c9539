"""Line numbers of a shortened log: those of the whole log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from relab.builds.ingest.ends import RememberingSource
from relab.builds.logs.reading import LineEnds
from relab.builds.logs.shortened import read_shortened_log
from relab.builds.monitor.build_log import HEAD_BYTES, TAIL_BYTES, bounded_log
from relab.builds.suggestions.models import SuggestionRequest
from relab.builds.suggestions.service import answer, examine, shipped_failures

LINE_COUNT = 200_000
ERROR = "main.c:5:32: error: 'offset' undeclared (first use in this function)"


@pytest.fixture(params=["\n", "\r\n"], ids=["LF", "CRLF"])
def raw(request: pytest.FixtureRequest) -> bytes:
    lines = [f"step {number}" for number in range(1, LINE_COUNT + 1)]
    lines[LINE_COUNT - 11] = ERROR
    return str(request.param).join([*lines, ""]).encode()


def test_line_after_the_middle_has_its_number_in_the_whole_log(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(raw)

    log = read_shortened_log(bounded_log(tmp_path / "log")[0])

    assert log.total_lines == LINE_COUNT
    assert log.left_out is not None
    first, last = log.left_out
    assert log.lines[first - 1].text.startswith("[relab left out ")
    assert {line.text == f"step {line.number}" for line in log.lines if line.text.startswith("step")} == {True}
    assert log.lines[first].number == last + 1
    assert [line.number for line in log.lines if line.text == ERROR] == [LINE_COUNT - 10]


def test_log_from_a_stream_is_shortened_in_the_same_way(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(raw)
    source = RememberingSource(io.BytesIO(raw))
    while source.read(100_001):
        pass

    assert source.text() == bounded_log(tmp_path / "log")[0]


def test_suggestion_quotes_the_line_number_of_the_whole_log(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(raw)

    fix = answer(examine(SuggestionRequest(log=bounded_log(tmp_path / "log")[0]), shipped_failures()))

    assert LINE_COUNT - 10 in [quote.number for quote in fix.quotes]


def test_log_of_one_line_keeps_positive_numbers(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * (HEAD_BYTES + TAIL_BYTES + 1))

    log = read_shortened_log(bounded_log(tmp_path / "log")[0])

    assert [line.number for line in log.lines] == [1, 2, 1]
    assert log.left_out is None


def test_log_that_an_earlier_version_shortened_is_read() -> None:
    log = read_shortened_log("one\n[relab left out 9,000 bytes of the middle of this log]\ntwo\n")

    assert [line.number for line in log.lines] == [1, 2, 3]


@pytest.mark.parametrize("number", [",", ",,1", "0", "12345", "9,999,999,999,999,999,999"])
def test_line_of_a_build_that_only_resembles_the_middle_moves_no_number(number: str) -> None:
    line = f"[relab left out 9,000 bytes of the middle of this log; it goes on with line {number}]"

    log = read_shortened_log(f"one\n{line}\ntwo\n")

    assert [line.number for line in log.lines] == [1, 2, 3]
    assert log.left_out is None


def test_log_that_is_cut_while_it_is_read_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a line\n" * (HEAD_BYTES + TAIL_BYTES))
    count = LineEnds.add
    pieces: list[bytes] = []

    def cut_and_count(ends: LineEnds, data: bytes) -> None:
        pieces.append(data)
        assert len(pieces) < 10, "the reading goes on after the end of the file"
        log.write_bytes(b"")
        count(ends, data)

    with monkeypatch.context() as patch:
        patch.setattr(LineEnds, "add", cut_and_count)
        text, size = bounded_log(log)

    assert text.startswith("a line\n")
    assert size == 7 * (HEAD_BYTES + TAIL_BYTES)
