"""Files are replaced as a whole, with the permissions that the caller chooses."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relab.core.atomic_files import replace_file, replacing, synchronize_tree


def test_old_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"{}", b'{"phase": "ready"}'):
        replace_file(path, content, mode=0o600)
    assert path.read_bytes() == b'{"phase": "ready"}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file_and_removes_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    replace_file(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError("The disk is full.")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="The disk is full"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_several_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = [bytes([65 + number]) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: replace_file(path, content), contents * 5))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [False, True])
def test_new_file_takes_the_place_of_the_old_one(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    with replacing(path, durable=durable) as fresh:
        fresh.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with replacing(path) as fresh:
        fresh.write_text("ne")
        raise OSError(28, "full")


def test_old_file_stays_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    with pytest.raises(OSError, match=rf"Errno {errno.ENOSPC}\b"):
        write_half(path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_replacements_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"

    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_written_to_the_disk_with_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_bytes(b"text")
    (folder / "dangling").symlink_to("missing")
    inodes = sorted(entry.stat().st_ino for entry in (folder, folder / "inner", folder / "inner" / "file"))
    synchronized: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: synchronized.append(os.fstat(number).st_ino))

    synchronize_tree(folder)

    assert sorted(synchronized) == inodes
