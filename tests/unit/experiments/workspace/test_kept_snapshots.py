"""One snapshot of a project is kept up to date: what changed is copied, and nothing else is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.workspace import kept_snapshots
from relab.experiments.workspace.copier import FileStamp, seen_of
from relab.experiments.workspace.kept_snapshots import keep_snapshot
from relab.experiments.workspace.manifests import FileEntry
from relab.experiments.workspace.snapshots import ProjectSnapshot, manifest_of

DIGEST = "sha256:" + 64 * "0"
ROW = f'[1, 2, 3, 4, "{DIGEST}", 5, 420]'


def later_ns() -> int:
    """Return a time at which no file counts as just changed."""
    return time.time_ns() + 10**9


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src" / "main.c").write_text("int main;")
    (root / "Makefile").write_text("all:")
    (root / "link").symlink_to("Makefile")
    return root


def kept(project: Path, *ignore: str) -> ProjectSnapshot:
    return keep_snapshot(project, project.parent / "kept", ignore, now_ns=later_ns)


def change(path: Path, text: str) -> None:
    """Write a text of the same length, again until the time of the file's last change differs from the earlier one."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def is_exact(snapshot: ProjectSnapshot, project: Path) -> bool:
    return manifest_of(snapshot.root).files == snapshot.manifest.files == manifest_of(project).files


def test_first_snapshot_has_all_files_of_the_project(project: Path) -> None:
    assert is_exact(kept(project), project)


def test_unchanged_files_are_not_copied_again(project: Path) -> None:
    before = (kept(project).root / "Makefile").stat()
    (project / "src" / "main.c").write_text("int other;")
    snapshot = kept(project)

    assert (snapshot.root / "Makefile").stat().st_ino == before.st_ino
    assert is_exact(snapshot, project)


def test_only_one_snapshot_stays(project: Path) -> None:
    first = kept(project)
    (project / "Makefile").write_text("all: check")
    second = kept(project)

    assert list(first.root.parent.iterdir()) == [second.root]


def test_added_removed_and_replaced_files_are_followed(project: Path) -> None:
    kept(project)
    (project / "link").unlink()
    (project / "link").mkdir()
    (project / "link" / "inside").write_text("x")
    (project / "src" / "main.c").unlink()
    (project / "src").rmdir()
    (project / "src").write_text("a file")
    before = (project / "Makefile").stat()
    while (project / "Makefile").stat().st_ctime_ns == before.st_ctime_ns:
        (project / "Makefile").chmod(0o755)

    assert is_exact(kept(project), project)


def test_change_with_the_same_size_and_modification_time_is_found(project: Path) -> None:
    kept(project)
    change(project / "Makefile", "any:")

    assert is_exact(kept(project), project)


def test_file_that_changed_just_before_the_call_is_not_recorded(project: Path) -> None:
    # The clock of the call stands at the last change, so a second change may get the same stamp.
    folder = project.parent / "kept"
    at_ns = (project / "Makefile").stat().st_ctime_ns
    keep_snapshot(project, folder, now_ns=lambda: at_ns)

    assert '"Makefile"' not in (folder / "snapshot-index.json").read_text()


def test_changed_snapshot_is_repaired(project: Path) -> None:
    snapshot = kept(project)
    (snapshot.root / "Makefile").write_text("rm:")
    (snapshot.root / "src" / "main.c").unlink()
    (snapshot.root / "added").write_text("x")

    assert is_exact(kept(project), project)


def test_link_in_place_of_a_folder_of_the_snapshot_is_not_followed(project: Path, tmp_path: Path) -> None:
    snapshot = kept(project)
    outside = tmp_path / "outside"
    (snapshot.root / "src").rename(outside)
    (snapshot.root / "src").symlink_to(outside)
    (project / "src" / "main.c").write_text("int new;")

    assert is_exact(kept(project), project)
    assert (outside / "main.c").read_text() == "int main;"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        f'{{"format": 9, "digest": "{DIGEST}", "project": {{"Makefile": {ROW}}}, "copies": {{}}}}',
        f'{{"format": 1, "digest": "{DIGEST}", "project": [], "copies": {{}}}}',
        '{"format": 1, "digest": 5, "project": {}, "copies": {}}',
        f'{{"format": 1, "digest": "{DIGEST}", "project": {{"Makefile": 5}}, "copies": {{}}}}',
        f'{{"format": 1, "digest": "{DIGEST}", "project": {{"Makefile": [1, 2, 3, 4, 5, 6, 7]}}, "copies": {{}}}}',
        "[" * 100_000,
    ],
)
def test_damaged_index_costs_only_time(project: Path, text: str) -> None:
    kept(project)
    (project.parent / "kept" / "snapshot-index.json").write_text(text)

    assert is_exact(kept(project), project)


def test_interrupted_call_leaves_no_index_to_trust(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(project)
    with monkeypatch.context() as patch:
        patch.setattr(kept_snapshots, "check_copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        (project / "large").write_bytes(b"x" * 200_000)
        with pytest.raises(KeyboardInterrupt):
            kept(project)

    assert is_exact(kept(project), project)


def test_ignored_files_are_not_copied(project: Path) -> None:
    snapshot = kept(project, "*.c")

    assert sorted(snapshot.manifest.files) == ["Makefile", "link"]


def test_invalid_pattern_is_reported(project: Path) -> None:
    with pytest.raises(ExperimentInvalidError, match="ignore"):
        kept(project, "!")


def test_name_that_is_not_utf8_is_kept(project: Path) -> None:
    (project / os.fsdecode(b"caf\xe9")).write_text("x")
    kept(project)

    assert is_exact(kept(project), project)


def test_index_cannot_name_a_folder_outside_of_the_snapshots(project: Path, tmp_path: Path) -> None:
    kept(project)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("x")
    index = '{"format": 1, "digest": "sha256:../../outside", "project": {}, "copies": {}}'
    (project.parent / "kept" / "snapshot-index.json").write_text(index)
    kept(project)

    assert (tmp_path / "outside" / "file").read_text() == "x"


def test_change_within_a_second_is_found_where_stamps_are_whole_seconds(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ns = 100 * 10**9

    def coarse(status: os.stat_result) -> FileStamp:
        return seen_of(status)._replace(mtime_ns=at_ns, ctime_ns=at_ns)

    monkeypatch.setattr(kept_snapshots, "seen_of", coarse)
    for text in ("any:", "all:"):
        (project / "Makefile").write_text(text)
        snapshot = keep_snapshot(project, project.parent / "kept", now_ns=lambda: at_ns + 5 * 10**8)

    assert is_exact(snapshot, project)


def test_touched_file_has_its_new_time_beside_another_change(project: Path) -> None:
    kept(project)
    (project / "src" / "main.c").write_text("int other;")
    os.utime(project / "Makefile", ns=(5 * 10**9, 5 * 10**9))

    assert (kept(project).root / "Makefile").stat().st_mtime_ns == 5 * 10**9


def test_copy_that_changed_after_its_check_is_replaced(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process that survived a build without isolation may write into the snapshot at any time.
    check = kept_snapshots.check_copy

    def check_then_change(root: Path, copy: Path, entry: FileEntry) -> None:
        check(root, copy, entry)
        if entry.path == "Makefile":
            (copy / "Makefile").write_text("rm:")

    with monkeypatch.context() as patch:
        patch.setattr(kept_snapshots, "check_copy", check_then_change)
        kept(project)

    assert is_exact(kept(project), project)
