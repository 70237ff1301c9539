"""Output files: a failed write, as on a full disk, keeps the old file and leaves no part of the new one."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relab.cli.output import write_text
from relab.core.errors import ConfigurationError, ConflictError


@contextmanager
def no_space(size: int) -> Iterator[None]:
    """Make writes of this process fail if the file would exceed `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_old_file_stays_if_there_is_no_space_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with no_space(10), pytest.raises(ConfigurationError, match="cannot be written"):
        write_text(path, "new" * 100, overwrite=True)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_part_of_a_new_file_is_left_if_there_is_no_space(tmp_path: Path, overwrite: bool) -> None:
    with no_space(10), pytest.raises(ConfigurationError, match="cannot be written"):
        write_text(tmp_path / "page.html", "new" * 100, overwrite=overwrite)

    assert list(tmp_path.iterdir()) == []


def test_replaced_file_keeps_its_permissions_and_its_link(tmp_path: Path) -> None:
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    path.touch()
    path.chmod(0o664)
    link.symlink_to(path)
    write_text(link, "new\r\n", overwrite=True)

    assert path.read_bytes() == b"new\r\n"
    assert path.stat().st_mode & 0o777 == 0o664
    assert link.is_symlink()
    with pytest.raises(ConflictError, match="exists"):
        write_text(path, "other", overwrite=False)


def test_file_that_a_dangling_link_names_is_created_only_if_overwriting_is_asked_for(tmp_path: Path) -> None:
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(path)
    with pytest.raises(ConflictError, match="exists"):
        write_text(link, "new", overwrite=False)
    write_text(link, "new", overwrite=True)

    assert path.read_text() == "new"
    assert link.is_symlink()


def test_file_with_a_long_name_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    path.write_text("old")
    write_text(path, "new", overwrite=True)

    assert path.read_text() == "new"


@pytest.mark.parametrize("reason", [errno.EBUSY, errno.EACCES, errno.EROFS])
def test_file_that_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "replace", refuse)
    write_text(path, "new", overwrite=True)

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    path = tmp_path / "page.html"
    path.touch()
    os.chown(path, 1, 2)
    write_text(path, "new", overwrite=True)

    assert (path.stat().st_uid, path.stat().st_gid) == (1, 2)


def test_no_part_of_a_new_file_is_left_if_the_command_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "page.html", "new", overwrite=False)

    assert list(tmp_path.iterdir()) == []


def test_text_is_written_to_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(path, "new", overwrite=True)
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert path.is_fifo()
