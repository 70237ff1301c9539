"""Workspaces: one snapshot per project state, a clone for each trial, and the changes that a trial made."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from relab.experiments.errors import ExperimentInvalidError, RunDiskFullError
from relab.experiments.plan.dataset import WorkspaceFile
from relab.experiments.trial.wire import to_json_bytes
from relab.experiments.workspace import copier, snapshots
from relab.experiments.workspace.copier import FileStamp, TreeCopier, seen_of
from relab.experiments.workspace.manifests import Diff, compare
from relab.experiments.workspace.snapshots import Clone, ProjectSnapshot, cached_snapshot, clone, take_snapshot
from relab.experiments.workspace.untrusted_trees import MAX_HOLES
from support.lab.unprivileged import permissions_hold


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name, text in {
        "a.txt": "one\n",
        "src/b.py": "print(1)\n",
        "src/deep/er/c.py": "x",
        ".lab/experiment.yaml": "no",
        ".git/HEAD": "no",
        "vendor/.git/HEAD": "no",
        "src/.lab/kept": "yes",
        "node_modules/m.js": "big",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "src" / "b.py").chmod(0o755)
    (root / "inside").symlink_to("src/b.py")
    (root / "outside").symlink_to("/etc/hostname")
    (root / "dangling").symlink_to("none")
    (root / "folder").symlink_to("src")
    return root


def snapshot_of(project: Path, *ignore: str) -> ProjectSnapshot:
    return take_snapshot(project, project / ".lab" / "cache", ignore)


@pytest.fixture
def trial(project: Path, tmp_path: Path) -> Clone:
    taken = snapshot_of(project)
    return clone(taken.copier, tmp_path / "trial")


def changes(trial: Clone) -> Diff:
    return compare(trial.manifest, trial.now())


def names(diff: Diff) -> tuple[list[str], list[str], list[str]]:
    return (
        [entry.path for entry in diff.added],
        [entry.path for entry in diff.removed],
        [new.path for _, new in diff.modified],
    )


def test_snapshot_contains_the_project_without_lab_and_git(project: Path) -> None:
    taken = snapshot_of(project, "node_modules/")

    assert sorted(taken.manifest.files) == [
        "a.txt",
        "dangling",
        "folder",
        "inside",
        "outside",
        "src/.lab/kept",
        "src/b.py",
        "src/deep/er/c.py",
    ]
    assert (taken.root / "src" / "b.py").read_text() == "print(1)\n"
    assert stat.S_IMODE((taken.root / "src" / "b.py").stat().st_mode) == 0o755
    assert taken.root.parent == project / ".lab" / "cache" / "snapshots"
    assert taken.root.name == taken.manifest.digest.removeprefix("sha256:")


@pytest.mark.parametrize("pattern", ["!.lab", "!/.lab/", "!.git", "!**", "!.git/"])
def test_lab_and_git_are_always_ignored(project: Path, pattern: str) -> None:
    found = snapshot_of(project, pattern).manifest.files

    assert not [path for path in found if path.startswith((".lab", ".git", "vendor/.git"))]


def test_a_link_named_lab_is_ignored_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".lab").symlink_to(tmp_path / "real")
    (tmp_path / "project" / "a").write_text("x")

    assert list(take_snapshot(tmp_path / "project", tmp_path / "cache").manifest.files) == ["a"]


def test_links_are_copied_as_links(project: Path, trial: Clone) -> None:
    for name in ("inside", "outside", "dangling", "folder"):
        assert (trial.root / name).readlink() == (project / name).readlink()
    # A link to another file of the project points into the trial's own copy.
    (trial.root / "inside").write_text("changed")
    assert (project / "src" / "b.py").read_text() == "print(1)\n"
    assert names(changes(trial)) == ([], [], ["src/b.py"])


def test_copy_has_no_set_id_bits(project: Path, tmp_path: Path) -> None:
    program = next(path for path in project.rglob("*") if path.is_file() and not path.is_symlink())
    program.chmod(0o6755)
    taken = snapshot_of(project)
    copied = clone(taken.copier, tmp_path / "trial")
    for root in (taken.root, copied.root):
        assert stat.S_IMODE((root / program.relative_to(project)).stat().st_mode) == 0o755
    assert cached_snapshot(project / ".lab" / "cache", taken.manifest.digest) is not None


def test_clone_is_independent_of_the_snapshot_and_the_project(project: Path, trial: Clone) -> None:
    taken = snapshot_of(project)
    (trial.root / "a.txt").write_text("changed in place")

    assert (taken.root / "a.txt").read_text() == "one\n"
    assert (project / "a.txt").read_text() == "one\n"
    original, copy = (project / "a.txt").stat(), (taken.root / "a.txt").stat()
    assert original.st_mtime_ns == copy.st_mtime_ns
    assert copy.st_nlink == 1


def test_an_unchanged_project_shares_its_snapshot(project: Path) -> None:
    first = snapshot_of(project)
    inode = (first.root / "a.txt").stat().st_ino
    (project / "a.txt").touch()
    second = snapshot_of(project)

    assert second.root == first.root
    assert (second.root / "a.txt").stat().st_ino == inode
    (project / "a.txt").chmod(0o755)
    assert snapshot_of(project).manifest.digest != first.manifest.digest
    assert len(list(first.root.parent.iterdir())) == 2


def test_changed_snapshot_is_made_again(project: Path) -> None:
    taken = snapshot_of(project)
    cache = project / ".lab" / "cache"
    (taken.root / "a.txt").write_text("two\n")

    assert cached_snapshot(cache, taken.manifest.digest) is None
    again = snapshot_of(project)
    assert again.root == taken.root
    assert (again.root / "a.txt").read_text() == "one\n"
    assert cached_snapshot(cache, taken.manifest.digest) is not None
    assert cached_snapshot(cache, "sha256:" + "0" * 64) is None


def test_snapshot_that_another_run_created_first_is_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TreeCopier.copy
    others: list[int] = []

    def slow(self: TreeCopier, target: Path) -> dict[str, FileStamp]:
        seen = real(self, target)
        # Another run takes the same snapshot between this run's check and its rename.
        monkeypatch.undo()
        others.append(snapshot_of(project).root.stat().st_ino)
        return seen

    monkeypatch.setattr(TreeCopier, "copy", slow)
    taken = snapshot_of(project)

    assert taken.root.stat().st_ino == others[0]
    assert [path.name for path in taken.root.parent.iterdir()] == [taken.root.name]


def test_failed_snapshot_is_removed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copier, "write_all", full)
    with pytest.raises(RunDiskFullError, match="project"):
        snapshot_of(project)
    assert list((project / ".lab" / "cache" / "snapshots").iterdir()) == []


def test_invalid_pattern_is_reported_with_its_field(project: Path) -> None:
    with pytest.raises(ExperimentInvalidError, match=r"runtime\.workspace\.ignore: "):
        snapshot_of(project, "!")


def test_unreadable_project_file_is_reported_by_name(project: Path) -> None:
    (project / "a.txt").chmod(0o000)
    with permissions_hold(), pytest.raises(ExperimentInvalidError, match=r"a\.txt .*Permission denied"):
        snapshot_of(project)
    with permissions_hold():
        assert "a.txt" not in snapshot_of(project, "a.txt").manifest.files
    assert stat.S_IMODE((project / "a.txt").stat().st_mode) == 0, "the project's own permissions are not touched"


def test_sparse_file_is_reported_by_name(project: Path) -> None:
    with (project / "disk.img").open("wb") as file:
        file.truncate(2 * MAX_HOLES)

    with pytest.raises(ExperimentInvalidError, match=r"disk\.img") as caught:
        snapshot_of(project)
    assert "runtime.workspace.ignore" in caught.value.remedy


def test_unchanged_clone_has_an_empty_diff(trial: Clone) -> None:
    assert changes(trial) == Diff()


def test_changes_of_a_trial_are_listed(trial: Clone) -> None:
    (trial.root / "new.txt").write_text("12345")
    (trial.root / "a.txt").write_text("two two\n")
    (trial.root / "src" / "deep" / "er" / "c.py").unlink()
    (trial.root / "src" / "b.py").chmod(0o644)
    diff = changes(trial)

    assert names(diff) == (["new.txt"], ["src/deep/er/c.py"], ["a.txt", "src/b.py"])
    assert diff.changed_bytes == 5 + 8 + 9
    document = diff.to_json()
    assert document["summary"] == {"added": 1, "removed": 1, "modified": 2}
    assert [item["op"] for item in diff.to_patch()["changes"]] == ["add", "remove", "modify", "modify"]
    assert diff.to_patch()["format"] == "file_digest_delta"


@pytest.mark.parametrize("ticks", [True, False], ids=["a clock that ticks", "a clock too slow to tell"])
def test_change_with_a_restored_modification_time_is_found(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: bool
) -> None:
    """Keep the size, and write right after the copy: with some kernels' clocks both have the same time."""
    if not ticks:
        for module in (copier, snapshots):
            monkeypatch.setattr(module, "seen_of", lambda status: seen_of(status)._replace(ctime_ns=7))
    taken = snapshot_of(project)
    trial = clone(taken.copier, tmp_path / "trial")
    for name in ("a.txt", "src/b.py", "src/deep/er/c.py"):
        path = trial.root / name
        before = path.stat()
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert names(changes(trial)) == ([], [], ["a.txt", "src/b.py", "src/deep/er/c.py"])


def test_replaced_file_is_a_change(trial: Clone) -> None:
    path = trial.root / "a.txt"
    before = path.stat()
    path.unlink()
    path.write_text("owt\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert names(changes(trial)) == ([], [], ["a.txt"])


def replace_by_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def replace_by_folder(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


@pytest.mark.parametrize(
    ("replace", "expected"),
    [
        (replace_by_link, ([], [], ["a.txt"])),
        (replace_by_folder, (["a.txt/x"], ["a.txt"], [])),
        (os.mkfifo, ([], ["a.txt"], [])),
        (Path.mkdir, ([], ["a.txt"], [])),
    ],
)
def test_file_replaced_by_another_kind_of_entry_is_a_change(
    trial: Clone, replace: Callable[[Path], None], expected: tuple[list[str], list[str], list[str]]
) -> None:
    (trial.root / "a.txt").unlink()
    replace(trial.root / "a.txt")

    assert names(changes(trial)) == expected


def test_changed_link_is_a_change(trial: Clone) -> None:
    (trial.root / "inside").unlink()
    (trial.root / "inside").symlink_to("a.txt")
    (trial.root / "folder").unlink()
    (trial.root / "folder").mkdir()

    assert names(changes(trial)) == ([], ["folder"], ["inside"])


def test_links_out_of_the_workspace_are_not_followed(trial: Clone, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("x")
    (trial.root / "way-out").symlink_to(host)

    assert names(changes(trial)) == (["way-out"], [], [])


def test_link_in_place_of_the_workspace_is_an_error(trial: Clone, tmp_path: Path) -> None:
    trial.root.rename(tmp_path / "moved")
    trial.root.symlink_to("/")

    with pytest.raises(NotADirectoryError, match="link"):
        trial.now()


def test_change_in_a_file_without_permissions_is_found(trial: Clone) -> None:
    (trial.root / "new").mkdir()
    (trial.root / "new" / "x").write_text("x")
    (trial.root / "a.txt").write_text("hidden")
    for name, mode in {"new/x": 0o000, "new": 0o000, "a.txt": 0o000}.items():
        (trial.root / name).chmod(mode)
    with permissions_hold():
        assert names(changes(trial)) == (["new/x"], [], ["a.txt"])


def test_name_that_is_not_utf8_can_be_written(trial: Clone) -> None:
    Path(os.fsdecode(os.fsencode(trial.root) + b"/caf\xe9")).write_text("x")
    after = trial.now()
    diff = compare(trial.manifest, after)

    documents = [after.to_json("now"), diff.to_json(), diff.to_patch()]
    assert [json.loads(to_json_bytes(document)) for document in documents] == documents
    assert diff.to_json()["added"][0]["path"] == "caf\\udce9"
    assert after.digest.startswith("sha256:")


def test_deep_tree_is_read_and_one_with_too_long_paths_is_an_error(trial: Clone) -> None:
    folder = trial.root
    for _ in range(300):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "x").write_text("x")
    assert names(changes(trial)) == (["d/" * 300 + "x"], [], [])

    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 255, dir_fd=descriptor)
        inner = os.open("d" * 255, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    with pytest.raises(OSError, match=rf"Errno {errno.ENAMETOOLONG}\b"):
        trial.now()


def test_changed_workspace_can_be_cloned_again(trial: Clone, tmp_path: Path) -> None:
    (trial.root / "a.txt").write_text("two")
    (trial.root / "new").mkdir()
    (trial.root / "new" / "x").write_text("x")
    after = trial.now()
    second = clone(TreeCopier(trial.root, after), tmp_path / "second")

    assert changes(second) == Diff()
    assert second.now().digest == after.digest


def test_files_of_the_task_replace_those_of_the_project(project: Path, tmp_path: Path) -> None:
    taken = snapshot_of(project)
    extra = [
        WorkspaceFile("a.txt", b"of the task", executable=True),
        WorkspaceFile("new/deep/x", b"\x00\xff"),
        WorkspaceFile("inside", b"no longer a link"),
        WorkspaceFile("folder/b.py", b"not through the link"),
        WorkspaceFile("src/deep/er/c.py/d", b"a folder now"),
    ]
    trial = clone(taken.copier, tmp_path / "trial", extra)

    for item in extra:
        assert (trial.root / item.path).read_bytes() == item.content
        assert not (trial.root / item.path).is_symlink()
    assert os.access(trial.root / "a.txt", os.X_OK)
    assert (trial.root / "src" / "b.py").read_text() == "print(1)\n"
    assert (project / "src" / "b.py").read_text() == "print(1)\n"
    # The task's own files do not count as changes by the harness.
    assert changes(trial) == Diff()


def test_clone_into_an_existing_folder_is_rejected(project: Path, tmp_path: Path) -> None:
    taken = snapshot_of(project)
    (tmp_path / "trial").mkdir()

    with pytest.raises(FileExistsError):
        clone(taken.copier, tmp_path / "trial")


def test_snapshot_document_has_the_fields_of_the_contract(trial: Clone) -> None:
    document = trial.manifest.to_json("2026-01-01T00:00:00Z")

    assert set(document) == {"schema_version", "captured_at", "file_count", "total_bytes", "files"}
    assert document["file_count"] == len(document["files"]) == len(trial.manifest.files)
    assert document["total_bytes"] == sum(item["size_bytes"] for item in document["files"])
    assert set(document["files"][0]) == {"path", "digest", "size_bytes"}
    assert [item["path"] for item in document["files"]] == sorted(trial.manifest.files)
