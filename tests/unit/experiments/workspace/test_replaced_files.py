"""A file is replaced as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.workspace.replaced_files import replacing


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

    with pytest.raises(OSError, match="full"):
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
