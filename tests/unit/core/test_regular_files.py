"""Files that a user names: only regular ones are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relab.core.regular_files import read_regular_file


def test_regular_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")

    assert read_regular_file(tmp_path / "file") == b"text"
    assert read_regular_file(tmp_path / "link") == b"text"


def test_pipe_device_and_folder_are_rejected_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="Not a regular file"):
        read_regular_file(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        read_regular_file(Path(os.devnull))
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path)
