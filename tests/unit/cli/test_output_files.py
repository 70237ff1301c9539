"""Files that commands write: a disk without space costs neither the old file nor leaves a part of the new one."""

from __future__ import annotations

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
    """Let writes of this process fail that would make a file larger than `size` bytes."""
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
    path.touch(mode=0o600)
    link.symlink_to(path)
    write_text(link, "new\r\n", overwrite=True)

    assert path.read_bytes() == b"new\r\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink()
    with pytest.raises(ConflictError, match="exists"):
        write_text(path, "other", overwrite=False)


def test_text_is_written_to_what_is_no_regular_file() -> None:
    write_text(Path(os.devnull), "new", overwrite=True)
