"""The journal: a line is written completely or not at all, and each trial counts once."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.errors import RunDamagedError
from relab.experiments.records.journal import NAME, Journal, read_journal


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {"row": {"trial_id": f"trial_{number}", **fields}}


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    journal = Journal(folder)
    journal.open()
    for item in entries:
        journal.append(item)
    journal.close()
    return folder / NAME


def trial_ids(folder: Path) -> list[str]:
    return [found["row"]["trial_id"] for found in read_journal(folder)]


def test_appended_rows_are_read(tmp_path: Path) -> None:
    items = [entry(1, text="äöü \u2028\n"), entry(2, score=1.5, none=None)]
    written(tmp_path, *items)

    assert list(read_journal(tmp_path)) == items
    journal = Journal(tmp_path)
    assert journal.open() == {"trial_1", "trial_2"}
    journal.close()


def test_a_run_without_a_journal_has_no_results(tmp_path: Path) -> None:
    assert list(read_journal(tmp_path)) == []
    journal = Journal(tmp_path)
    assert journal.open() == set()
    journal.close()
    journal.close()


@pytest.mark.parametrize("kept", range(1, 30))
def test_torn_last_line_is_ignored(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path, entry(1), entry(2))
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: last + min(kept, len(whole) - last - 1)])

    assert trial_ids(tmp_path) == ["trial_1"]
    journal = Journal(tmp_path)
    assert journal.open() == {"trial_1"}
    journal.append(entry(3))
    journal.close()
    assert trial_ids(tmp_path) == ["trial_1", "trial_3"]


def test_a_trial_is_counted_once(tmp_path: Path) -> None:
    written(tmp_path, entry(1, outcome="success"), entry(2), entry(1, outcome="failure"))

    assert trial_ids(tmp_path) == ["trial_1", "trial_2"]
    assert next(read_journal(tmp_path))["row"]["outcome"] == "success"


@pytest.mark.parametrize(
    "line", ["nonsense", "", "[]", "7", "{}", '{"row": 1}', '{"row": {}}', '{"row": {"trial_id": [1]}}', "\ud800"]
)
def test_line_that_the_journal_did_not_write_is_reported_as_damage(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, entry(1))
    with path.open("a", encoding="utf-8", errors="surrogatepass") as file:
        file.write(line + "\n" + json.dumps(entry(2)) + "\n")

    with pytest.raises(RunDamagedError, match=r"journal\.jsonl:3 .*checksum"):
        list(read_journal(tmp_path))
    with pytest.raises(RunDamagedError, match=r"journal\.jsonl:3 .*checksum"):
        Journal(tmp_path).open()


def test_file_name_that_is_not_utf8_does_not_damage_the_journal(tmp_path: Path) -> None:
    written(tmp_path, entry(1, error_message=f"no such file: {os.fsdecode(b'caf' + bytes([0xE9]))}"), entry(2))

    assert trial_ids(tmp_path) == ["trial_1", "trial_2"]


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    numbers = range(400)
    threads = [
        threading.Thread(target=lambda part=part: [journal.append(entry(number, x="y" * 500)) for number in part])
        for part in (numbers[begin::8] for begin in range(8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()

    assert sorted(trial_ids(tmp_path)) == sorted(f"trial_{number}" for number in numbers)


def test_line_is_flushed_to_the_disk_although_no_other_line_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = threading.Event()

    def fsync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        sync(descriptor)
        flushed.set()

    journal = Journal(tmp_path)
    journal.open()
    monkeypatch.setattr(os, "fsync", fsync)

    journal.append(entry(1))

    assert flushed.wait(timeout=60)
    journal.close()


def test_append_and_close_report_that_earlier_lines_could_not_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def fail(_descriptor: int) -> None:
        tried.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal(tmp_path)
    journal.open()
    monkeypatch.setattr(os, "fsync", fail)
    journal.append(entry(1))
    assert tried.wait(timeout=60)
    monkeypatch.undo()

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        journal.append(entry(2))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        journal.close()

    assert trial_ids(tmp_path) == ["trial_1"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make writes beyond a file size fail in the kernel, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.append(entry(1))
    size = journal.path.stat().st_size
    with largest_file(size + 300):
        with pytest.raises(OSError, match=rf"Errno {errno.EFBIG}\b"):
            journal.append(entry(2, text="x" * 1_000))
        assert journal.path.stat().st_size == size
        journal.append(entry(3))
    journal.append(entry(4))
    journal.close()

    assert trial_ids(tmp_path) == ["trial_1", "trial_3", "trial_4"]


def test_a_journal_that_could_not_be_written_can_be_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    with largest_file(10), pytest.raises(OSError, match=rf"Errno {errno.EFBIG}\b"):
        journal.append(entry(1))
    journal.close()

    assert trial_ids(tmp_path) == []
