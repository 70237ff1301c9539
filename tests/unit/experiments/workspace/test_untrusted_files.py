"""Reading files below a folder in which another program chooses the names and links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relab.experiments.workspace.untrusted_files import digest_plain, open_plain, path_exists, read_plain


def _opened(path: Path, below: Path) -> bytes | None:
    file = open_plain(path, below=below)
    if file is None:
        return None
    with file:
        return file.read()


READERS: list[Callable[[Path, Path], object]] = [
    lambda path, below: read_plain(path, 1_000, below=below),
    _opened,
    lambda path, below: digest_plain(path, below=below),
]


@pytest.fixture
def below(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"outside")
    (tmp_path / "trial" / "out" / "deep").mkdir(parents=True)
    (tmp_path / "trial" / "out" / "deep" / "file").write_bytes(b"inside")
    # The path to the trusted folder may contain links, as a home folder's path often does.
    (tmp_path / "way").symlink_to(tmp_path / "trial")
    return tmp_path / "way"


@pytest.mark.parametrize("reader", READERS)
def test_plain_file_in_plain_folders_is_read(below: Path, reader: Callable[[Path, Path], object]) -> None:
    assert reader(below / "out" / "deep" / "file", below)


def _link_the_file(below: Path) -> None:
    (below / "out/deep/file").unlink()
    (below / "out/deep/file").symlink_to(below.parent / "outside" / "file")


def _link_its_folder(below: Path) -> None:
    (below / "out/deep").rename(below / "was")
    (below / "out/deep").symlink_to(below.parent / "outside")


def _link_its_folder_relatively(below: Path) -> None:
    (below / "out/deep").rename(below / "was")
    (below / "out/deep").symlink_to("../../outside")


def _link_a_folder_above(below: Path) -> None:
    (below / "out").rename(below / "was")
    (below.parent / "outside" / "deep").mkdir()
    (below.parent / "outside" / "deep" / "file").write_bytes(b"outside")
    (below / "out").symlink_to(below.parent / "outside")


def _link_in_a_circle(below: Path) -> None:
    (below / "out/deep").rename(below / "was")
    (below / "out/deep").symlink_to("deep")


def _link_inside(below: Path) -> None:
    (below / "out/deep").rename(below / "was")
    (below / "out/deep").symlink_to("../was")


def _make_a_pipe(below: Path) -> None:
    (below / "out/deep/file").unlink()
    os.mkfifo(below / "out/deep/file")


def _make_a_folder(below: Path) -> None:
    (below / "out/deep/file").unlink()
    (below / "out/deep/file").mkdir()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "plant",
    [
        _link_the_file,
        _link_its_folder,
        _link_its_folder_relatively,
        _link_a_folder_above,
        _link_in_a_circle,
        _link_inside,
        _make_a_pipe,
        _make_a_folder,
    ],
)
def test_only_regular_files_are_read_and_no_links_followed(
    below: Path, plant: Callable[[Path], None], reader: Callable[[Path, Path], object]
) -> None:
    plant(below)

    assert reader(below / "out" / "deep" / "file", below) is None
    assert path_exists(below / "out" / "deep" / "file", below=below)


@pytest.mark.parametrize("path", ["out/../../outside/file", "../outside/file", "", "out/absent", "absent/file"])
def test_path_out_of_the_folder_or_to_nothing_is_not_read(below: Path, path: str) -> None:
    assert all(reader(below / path, below) is None for reader in READERS)


def test_path_outside_the_folder_is_not_read(below: Path) -> None:
    assert all(reader(below.parent / "outside" / "file", below) is None for reader in READERS)


@pytest.mark.parametrize("path", ["out/absent", "absent/file"])
def test_absent_file_does_not_exist(below: Path, path: str) -> None:
    assert not path_exists(below / path, below=below)


def test_descriptors_are_closed(below: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 names alone

    for reader in READERS:
        for path in ("out/deep/file", "out/deep", "absent/file", "out/deep/file/none"):
            reader(below / path, below)

    # The garbage collection of objects of earlier tests may close others meanwhile.
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 as above
