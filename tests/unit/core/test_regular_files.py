"""Files that a user names: only regular ones are read."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from relab.core.regular_files import open_regular_file, read_regular_file


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
        read_regular_file(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path)


def test_null_device_is_an_empty_file() -> None:
    assert read_regular_file(Path(os.devnull)) == b""


def test_terminal_is_read_until_its_end_of_input() -> None:
    # /dev/stdin is a terminal if nothing is piped to a command.
    controller, terminal = pty.openpty()
    try:
        os.write(controller, b"text\n\x04")
        assert read_regular_file(Path(os.ttyname(terminal))) == b"text\n"
        with pytest.raises(OSError, match="Not a regular file"):
            open_regular_file(Path(os.ttyname(terminal)), allow_pipe=False)
    finally:
        os.close(controller)
        os.close(terminal)


@pytest.mark.parametrize("is_link", [False, True])
def test_pipe_of_the_shell_is_read_after_its_writer_ends(tmp_path: Path, is_link: bool) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "read line; echo text"], stdin=-1, stdout=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        path = Path(f"/dev/fd/{process.stdout.fileno()}")
        if is_link:
            (tmp_path / "link").symlink_to(path)
            path = tmp_path / "link"
        with open_regular_file(path) as file:
            # The writer has written nothing yet.
            process.stdin.write(b"go\n")
            process.stdin.close()
            assert file.read() == b"text\n"


def test_pipe_of_the_shell_is_rejected_where_a_file_is_read_again() -> None:
    readable, writable = os.pipe()
    try:
        with pytest.raises(OSError, match="Not a regular file"):
            open_regular_file(Path(f"/dev/fd/{readable}"), allow_pipe=False)
    finally:
        os.close(readable)
        os.close(writable)
