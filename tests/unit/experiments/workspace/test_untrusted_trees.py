"""File trees that a harness leaves, deleted, read and measured regardless of depth, permissions and links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relab.experiments.workspace import untrusted_trees
from relab.experiments.workspace.untrusted_trees import make_accessible, remove_tree, use_of_disk, walk
from support.lab.unprivileged import permissions_hold


def deep(root: Path, levels: int, name: str) -> None:
    """Create nested folders through descriptors, because the path may exceed the maximum path length."""
    root.mkdir()
    folder = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(os.open("file", os.O_CREAT, dir_fd=inner))
        os.close(folder)
        folder = inner
    os.close(folder)


@pytest.mark.parametrize(("levels", "name"), [(1_500, "d"), (60, "d" * 255), (3_000, "d" * 20)])
def test_a_tree_of_any_depth_is_deleted(tmp_path: Path, levels: int, name: str) -> None:
    deep(tmp_path / "root", levels, name)
    remove_tree(tmp_path / "root")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444, 0o555])
def test_tree_without_permissions_is_deleted(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    for path in (root / "x", root / "a" / "y", root / "a" / "b" / "z"):
        path.write_text("x")
        path.chmod(mode)
    for path in (root / "a" / "b", root / "a", root):
        path.chmod(mode)
    with permissions_hold():
        remove_tree(root)

    assert not root.exists()


def test_links_are_deleted_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (outside / "precious").chmod(0o400)
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "precious")
    (root / "dangling").symlink_to(tmp_path / "none")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    os.link(outside / "precious", root / "hard")
    remove_tree(root)

    assert not root.exists()
    assert (outside / "precious").read_text() == "x"
    assert stat.S_IMODE((outside / "precious").stat().st_mode) == 0o400


@pytest.mark.parametrize("target", ["outside", "none"])
def test_link_in_place_of_the_tree_is_deleted_and_its_target_kept(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    root = tmp_path / "root"
    root.symlink_to(tmp_path / target)
    remove_tree(root)

    assert not os.path.lexists(root)
    assert (tmp_path / "outside" / "precious").exists()


def test_deleting_an_absent_tree_succeeds(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    remove_tree(tmp_path / "file")

    assert list(tmp_path.iterdir()) == []


def test_walk_returns_folders_before_their_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = [os.path.relpath(entry.path, tmp_path) for entry in walk(tmp_path)]

    assert sorted(found) == ["a", "a/b", "a/b/c", "link"]
    assert found.index("a") < found.index("a/b") < found.index("a/b/c")


def test_permissions_are_added_to_every_entry(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "x"
    path.write_text("x")
    path.chmod(0o000)
    (tmp_path / "a").chmod(0o000)
    with permissions_hold():
        make_accessible(tmp_path)
        assert path.read_text() == "x"


def test_disk_usage_counts_allocated_blocks_and_not_holes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(os.urandom(100_000))
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(10 * untrusted_trees.MAX_HOLES)
    (tmp_path / "link").symlink_to("/")

    assert 100_000 <= use_of_disk(tmp_path, tmp_path / "none")[0] <= 200_000


def test_size_of_a_copy_counts_holes_of_sparse_files(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(5_000_000)
    (tmp_path / "data").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("holes")

    copied, largest = untrusted_trees.size_of_copy(tmp_path, tmp_path / "none")

    assert 5_100_000 <= copied <= 5_200_000
    assert largest == 5_000_000


def test_only_sparse_files_are_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    with outside.open("wb") as file:
        file.truncate(5_000_000)
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        with (tree / name).open("wb") as file:
            file.truncate(1_000_000)
    (tree / "data").write_bytes(b"x" * 100_000)
    (tree / "empty").touch()
    (tree / "link").symlink_to(outside)

    assert untrusted_trees.remove_hollow_files(tree, tmp_path / "none") == 2
    assert sorted(path.name for path in tree.iterdir()) == ["data", "deep", "empty", "link"]
    assert outside.stat().st_size == 5_000_000
