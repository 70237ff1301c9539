"""Ownership of trial files: afterwards they belong to the runner, without set-id bits; files outside are unchanged."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from relab.experiments.sandbox.ownership import give, lend, reclaim
from relab.experiments.sandbox.protocol import Folders, Launch
from relab.experiments.sandbox.trial_user import TrialUser

OTHER = TrialUser(71_000, 71_000)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    root = tmp_path / "trial"
    folders = Folders(**{field.name: root / field.name for field in fields(Folders)})
    for field in fields(Folders):
        getattr(folders, field.name).mkdir(parents=True)
    for name in ("stdin", "stdout", "stderr"):
        (root / name).touch()
    return Launch(["true"], {}, folders, root / "stdin", root / "stdout", root / "stderr")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6711, 0o4000])
def test_set_id_bits_are_removed_and_the_rest_stays(launch: Launch, bits: int) -> None:
    file, folder = launch.folders.out / "file", launch.folders.state / "folder"
    for path in (file, launch.stdout):
        path.write_text("content")
        path.chmod(bits)
    folder.mkdir()
    folder.chmod(bits | 0o700)
    reclaim(launch)
    assert mode(file) == bits & 0o777
    assert mode(launch.stdout) == bits & 0o777
    assert mode(folder) == (bits | 0o700) & 0o777


def test_hard_link_to_a_set_id_program_is_removed_and_the_program_unchanged(launch: Launch, tmp_path: Path) -> None:
    program = tmp_path / "sudo"
    program.touch()
    program.chmod(0o4755)
    os.link(program, launch.folders.out / "sudo")
    reclaim(launch)
    assert mode(program) == 0o4755
    assert list(launch.folders.out.iterdir()) == []


def test_pipes_and_sockets_are_removed_and_links_stay(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "program").touch()
    (outside / "program").chmod(0o4755)
    out = launch.folders.out
    os.mkfifo(out / "pipe")
    monkeypatch.chdir(out)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    (out / "file").symlink_to(outside / "program")
    (out / "folder").symlink_to(outside)
    reclaim(launch)
    assert sorted(path.name for path in out.iterdir()) == ["file", "folder"]
    assert mode(outside / "program") == 0o4755


def test_link_in_place_of_a_trial_folder_is_not_followed(launch: Launch, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "program").touch()
    (outside / "program").chmod(0o4755)
    launch.folders.out.rmdir()
    launch.folders.out.symlink_to(outside)
    reclaim(launch)
    assert mode(outside / "program") == 0o4755


def test_very_deep_tree_is_repaired_completely(launch: Launch) -> None:
    folder = os.open(launch.folders.out, os.O_RDONLY)
    for _ in range(2_000):
        os.mkdir("deeper", dir_fd=folder)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    descriptor = os.open("file", os.O_CREAT | os.O_RDONLY, 0o755, dir_fd=folder)
    os.fchmod(descriptor, 0o4755)
    reclaim(launch)
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o755
    os.close(descriptor)
    os.close(folder)
    # pytest removes trees recursively and fails on one this deep.
    subprocess.run(["rm", "-rf", launch.folders.out], check=True)


@needs_root
def test_writable_files_change_owner_before_the_trial_and_back_after_it(launch: Launch) -> None:
    inner = launch.folders.workspace / "a"
    inner.mkdir()
    (inner / "file").touch()
    (inner / "link").symlink_to("/etc")
    give(launch.folders, OTHER)
    written = [launch.folders.workspace, inner, inner / "file", inner / "link", launch.folders.out]
    assert {path.lstat().st_uid for path in written} == {OTHER.uid}
    assert Path("/etc").stat().st_uid == 0
    reclaim(launch)
    assert {path.lstat().st_uid for path in written} == {0}


@needs_root
def test_harness_file_changes_owner_only_if_it_is_unreadable(launch: Launch) -> None:
    harness = launch.folders.harness
    for name, bits in (("open", 0o644), ("closed", 0o600)):
        (harness / name).touch()
        (harness / name).chmod(bits)
    lend(harness, OTHER)
    assert [(harness / name).stat().st_uid for name in ("open", "closed")] == [0, OTHER.uid]
