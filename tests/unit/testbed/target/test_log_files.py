"""Log files of the target: rotation, pages with cursors, gaps, and a limit of lines per event."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import InvalidInputError
from relab.testbed.target import log_files
from relab.testbed.target.log_files import FILES_PER_WORKER, PAGE_BYTES, LogFiles, log_time, read_page
from relab.testbed.target.logs import LINES_PER_SECOND, LibraryHandler, Logger
from support.clocks import MovableClock


def line(index: int, worker: int) -> dict[str, Any]:
    return {"time": log_time(1_000_000 * index), "worker": worker, "n": index}


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [entry["n"] for entry in lines]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write 1", "write 2", "restart 1", "restart 2", "read", "half 2"]), st.integers(1, 9)
        ),
        max_size=60,
    )
)
def test_a_reader_gets_every_line_once_and_in_order(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Writers rotate and restart, one is killed in the middle of a line, and the reader requests pages of any size."""
    log_path = tmp_path_factory.mktemp("logs") / "target.log"
    starts = {1: 1, 2: 1}

    def open_files(worker: int) -> LogFiles:
        # Files are small enough to rotate, and the number of lines is too low for a file to be removed.
        return LogFiles(log_path, worker=worker, started_us=starts[worker], file_bytes=2_000)

    writers = {worker: open_files(worker) for worker in (1, 2)}
    written: list[int] = []
    read: list[int] = []
    cursor: str | None = None
    for index, (step, limit) in enumerate(steps):
        kind, _, which = step.partition(" ")
        worker = int(which or 1)
        if kind == "write":
            writers[worker].write(line(index, worker))
            written.append(index)
        elif kind == "restart" and starts[worker] < FILES_PER_WORKER:
            writers[worker].close()
            starts[worker] += 1
            writers[worker] = open_files(worker)
        elif kind == "half" and starts[worker] < FILES_PER_WORKER:
            os.write(writers[worker]._descriptor, b'{"time":"19')
            writers[worker].close()
            starts[worker] += 1
            writers[worker] = open_files(worker)
        elif kind == "read":
            page = read_page(log_path, cursor, limit=limit)
            assert len(page.lines) <= limit
            assert not page.gap
            assert page.lines == sorted(page.lines, key=lambda entry: entry["time"])
            read += numbers(page.lines)
            cursor = page.cursor
    while True:
        page = read_page(log_path, cursor, limit=7)
        read += numbers(page.lines)
        cursor = page.cursor
        if not page.more:
            break
    for writer in writers.values():
        writer.close()

    assert sorted(read) == written
    assert read_page(log_path, cursor, limit=7).lines == []


def test_files_are_bounded_and_a_late_reader_is_informed_of_the_gap(tmp_path: Path) -> None:
    log_path = tmp_path / "target.log"
    files = LogFiles(log_path, worker=1, started_us=5, file_bytes=500)
    files.write(line(0, 1))
    first = read_page(log_path, None, limit=10)
    for index in range(1, 200):
        files.write(line(index, 1))
    files.close()

    later = read_page(log_path, first.cursor, limit=1_000)

    kept = list(tmp_path.glob("*.jsonl"))
    assert len(kept) == FILES_PER_WORKER
    assert sum(path.stat().st_size for path in kept) <= FILES_PER_WORKER * 500
    assert later.gap
    assert numbers(later.lines) == list(range(200 - len(later.lines), 200))
    assert not read_page(log_path, later.cursor, limit=10).gap


def test_since_accepts_times_and_latest(tmp_path: Path) -> None:
    log_path = tmp_path / "target.log"
    files = LogFiles(log_path, worker=1, started_us=5)
    for index in range(5):
        files.write(line(index, 1))

    assert numbers(read_page(log_path, "1970-01-01T00:00:03Z", limit=10).lines) == [3, 4]
    latest = read_page(log_path, "latest", limit=10)
    assert latest.lines == []
    files.write(line(9, 1))
    files.close()
    assert numbers(read_page(log_path, latest.cursor, limit=10).lines) == [9]


def test_pages_after_a_time_have_no_line_from_before_it(tmp_path: Path) -> None:
    """The lines before the time are more than one page reads of a worker."""
    log_path = tmp_path / "target.log"
    files = LogFiles(log_path, worker=1, started_us=5, file_bytes=PAGE_BYTES * 2)
    for index in range(300):
        files.write({**line(index, 1), "text": "x" * 10_000})
    files.close()

    page = read_page(log_path, "1970-01-01T00:04:50Z", limit=6)

    assert numbers(page.lines) == list(range(290, 296))
    assert page.more
    assert numbers(read_page(log_path, page.cursor, limit=10).lines) == list(range(296, 300))


def test_files_with_only_earlier_lines_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_path = tmp_path / "target.log"
    files = LogFiles(log_path, worker=1, started_us=5, file_bytes=5_000)
    for index in range(300):
        files.write(line(index, 1))
    files.close()
    parsed: list[bytes | str] = []

    def counting(text: bytes | str) -> Any:
        parsed.append(text)
        return json.loads(text)

    monkeypatch.setattr(log_files, "json", SimpleNamespace(loads=counting))

    page = read_page(log_path, "1970-01-01T00:04:50Z", limit=100)

    assert numbers(page.lines) == list(range(290, 300))
    assert len(parsed) < 150


def test_pages_after_an_early_time_have_every_line_once(tmp_path: Path) -> None:
    log_path = tmp_path / "target.log"
    files = LogFiles(log_path, worker=1, started_us=5, file_bytes=PAGE_BYTES * 2)
    for index in range(300):
        files.write({**line(index, 1), "text": "x" * 10_000})
    files.close()

    page = read_page(log_path, "1970-01-01T00:00:03Z", limit=1_000)
    read = numbers(page.lines)
    while page.more:
        page = read_page(log_path, page.cursor, limit=1_000)
        read += numbers(page.lines)

    assert read == list(range(3, 300))


def test_text_that_utf_8_cannot_encode_is_written_with_a_replacement(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "target.log", worker=1, started_us=5)
    files.write({**line(1, 1), "text": "a\ud800b"})
    files.close()

    assert read_page(tmp_path / "target.log", None, limit=10).lines[0]["text"] == "a?b"


@pytest.mark.parametrize(
    "since", ["nonsense", "1.2.3", "1.2.3.4_x", "1.2.3.-4", "1.2.3." + "9" * 18, "../../etc/passwd"]
)
def test_invalid_cursor_is_rejected(tmp_path: Path, since: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_page(tmp_path / "target.log", since, limit=10)

    assert refused.value.problems[0][0] == "since"


def test_empty_log_has_a_cursor(tmp_path: Path) -> None:
    log_path = tmp_path / "logs" / "target.log"
    empty = read_page(log_path, None, limit=10)
    files = LogFiles(log_path, worker=1, started_us=5)
    files.write(line(1, 1))
    files.close()

    assert empty.lines == []
    assert numbers(read_page(log_path, empty.cursor, limit=10).lines) == [1]


def test_one_event_cannot_flood_the_log(tmp_path: Path) -> None:
    clock = MovableClock()
    log_path = tmp_path / "target.log"
    logger = Logger(LogFiles(log_path, worker=2, started_us=5), worker=2, clock=clock)
    for index in range(LINES_PER_SECOND + 40):
        logger.log("error", "db_error", f"DB_ERROR: {index}", route="product", sqlstate="53300")
    logger.log("info", "other", "is not kept out by it")
    clock.us += 1_000_000
    logger.log("error", "db_error", "DB_ERROR: again")
    logger.close()

    lines = [json.loads(text) for path in tmp_path.glob("*.jsonl") for text in path.read_text().splitlines()]
    events = [entry["event"] for entry in lines]
    assert events.count("db_error") == LINES_PER_SECOND + 1
    assert events.count("other") == 1
    told = next(entry for entry in lines if entry["event"] == "log_lines_suppressed")
    assert told["fields"] == {"of": "db_error", "count": 40}
    assert lines[0] == {
        "time": "2023-11-14T22:13:20.000000Z", "level": "error", "event": "db_error", "message": "DB_ERROR: 0",
        "route": "product", "worker": 2, "fields": {"sqlstate": "53300"},
    }  # fmt: skip


def test_foreign_line_is_skipped(tmp_path: Path) -> None:
    log_path = tmp_path / "target.log"
    files = LogFiles(log_path, worker=1, started_us=5)
    files.write(line(1, 1))
    os.write(files._descriptor, b"not ours\n")
    files.close()

    page = read_page(log_path, None, limit=10)

    assert numbers(page.lines) == [1]
    assert not page.more


def test_log_call_of_a_library_with_wrong_arguments_is_written(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "target.log", worker=1, started_us=5)
    handler = LibraryHandler(Logger(files, worker=1))
    handler.handle(logging.LogRecord("library", logging.WARNING, "f.py", 1, "%d items", ("no",), None))
    files.close()

    (found,) = read_page(tmp_path / "target.log", None, limit=10).lines
    assert found["message"] == "%d items ('no',)"
