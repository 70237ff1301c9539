"""Checkpoints of a trial, whose paths and files the harness chooses: finding, keeping, and copying them into a fork."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import CheckpointInvalidError, CheckpointMissingError, RunDamagedError
from relab.experiments.trial.checkpoints import (
    ForkSource,
    begin_fork,
    find_checkpoint,
    keep_checkpoints,
    named_checkpoints,
)
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.trial.wire import Checkpoint
from relab.experiments.workspace.manifests import FileManifest
from relab.experiments.workspace.snapshots import Clone

CONFIG = ExperimentConfig.model_validate(
    {
        "version": "0.3",
        "experiment": {"id": "x", "name": "x"},
        "dataset": {"path": "tasks.jsonl"},
        "baseline": {"variant_id": "control"},
        "runtime": {"harness": {"command": ["true"]}},
    }
)


def make_trial(root: Path, inside: Path | None = None, **output: Any) -> TrialFolder:
    """Create a trial folder and return it; the harness saw its folders below `inside` (default: their real paths)."""
    folder = TrialFolder(root)
    for name in ("workspace", "state", "out"):
        (root / name).mkdir(parents=True)
    paths = {name: str((inside or root) / name) for name in ("workspace", "state", "out")}
    (root / "trial_input.json").write_text(json.dumps({"runtime": {"paths": paths}}))
    (root / "trial_output.json").write_text(json.dumps(output))
    return folder


def find(folder: TrialFolder, path: str) -> Any:
    return find_checkpoint(CONFIG, folder, Checkpoint(path=path))


def source(folder: TrialFolder, path: str) -> ForkSource:
    checkpoint = Checkpoint(path=path)
    file = find_checkpoint(CONFIG, folder, checkpoint)
    return ForkSource("run_1", "trial_1", folder.root, "step:1", False, checkpoint, file)


@pytest.mark.parametrize("path", ["/state/a", "{root}/state/a", "../state/a", "/elsewhere/state/a"])
def test_paths_of_each_sandbox_lead_to_the_file(tmp_path: Path, path: str) -> None:
    inside = Path("/elsewhere") if path.startswith("/elsewhere") else None
    folder = make_trial(tmp_path / "t", inside)
    (folder.state / "a").write_text("memory")
    if path.startswith(".."):
        # With symbolic links, `..` can lead to another folder than the path suggests.
        with pytest.raises(CheckpointInvalidError):
            find(folder, path)
        return

    found = find(folder, path.format(root=folder.root))

    assert (found.place, found.size, found.is_folder) == ("state/a", 6, False)


def test_relative_path_is_below_the_workspace(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    (folder.workspace / "a").mkdir()
    (folder.workspace / "a" / "b").write_text("12")

    found = find(folder, "a")

    assert (found.place, found.size, found.is_folder) == ("workspace/a", 2, True)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/state", "/state/", "/state/../../x", "/state/../state/a", "..", "/", "", "/state/lab_control.json", "/out/trial_input.json", "/out/harness_events.jsonl", "/state/linked", "/state/folder_link/a", "/state/pipe", "/state/socket/none/pipe/x"],
)  # fmt: skip
def test_hostile_checkpoint_is_refused(tmp_path: Path, path: str) -> None:
    folder = make_trial(tmp_path / "t")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a").write_text("secret")
    (folder.state / "linked").symlink_to(tmp_path / "secret" / "a")
    (folder.state / "folder_link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder.state / "pipe")
    (folder.state / "socket").write_text("a file where a folder should be")

    with pytest.raises(CheckpointInvalidError):
        find(folder, path)


def test_sparse_checkpoint_file_is_rejected(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    with (folder.state / "hollow").open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(CheckpointInvalidError, match="more holes than can be read"):
        find(folder, "/state/hollow")


@pytest.mark.parametrize("path", ["/state/gone", "/state/gone/deeper", "/state/" + "x/" * 10])
def test_missing_checkpoint_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(CheckpointMissingError, match="is gone"):
        find(make_trial(tmp_path / "t"), path)


@pytest.mark.parametrize("is_folder", [False, True])
def test_fork_gets_a_copy_of_its_checkpoint_only(tmp_path: Path, is_folder: bool) -> None:
    parent, child = make_trial(tmp_path / "parent"), make_trial(tmp_path / "child")
    place = parent.state / "memory" / "deep"
    place.parent.mkdir()
    if is_folder:
        place.mkdir()
        (place / "a").write_text("memory")
        (place / "link").symlink_to("/etc/passwd")
    else:
        place.write_text("memory")
    (parent.state / "later").write_text("later")

    begin_fork(source(parent, "/state/memory/deep"), child, Clone(child.workspace, FileManifest({})))

    copy = child.state / "memory" / "deep"
    assert (copy / "a" if is_folder else copy).read_text() == "memory"
    if is_folder:
        assert (copy / "link").is_symlink()
    assert not (child.state / "later").exists()


@pytest.mark.parametrize("change", ["removed", "changed", "linked"])
def test_checkpoint_that_changes_after_the_plan_is_refused(tmp_path: Path, change: str) -> None:
    parent, child = make_trial(tmp_path / "parent"), make_trial(tmp_path / "child")
    file = parent.state / "a"
    file.write_text("memory")
    planned = source(parent, "/state/a")
    file.unlink()
    if change == "changed":
        file.write_text("another")
    elif change == "linked":
        (tmp_path / "same").write_text("memory")
        file.symlink_to(tmp_path / "same")

    with pytest.raises(CheckpointMissingError, match="since the fork was planned"):
        begin_fork(planned, child, Clone(child.workspace, FileManifest({})))


def test_copied_workspace_checkpoint_is_part_of_the_initial_manifest(tmp_path: Path) -> None:
    parent, child = make_trial(tmp_path / "parent"), make_trial(tmp_path / "child")
    for folder, text in ((parent, "memory"), (child, "of the project")):
        (folder.workspace / "a").write_text(text)

    copied = begin_fork(source(parent, "a"), child, Clone(child.workspace, FileManifest({})))

    assert (child.workspace / "a").read_text() == "memory"
    assert copied.manifest == copied.now()


def test_workspace_checkpoint_is_kept_although_the_workspace_is_not(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    (folder.workspace / "a").write_text("memory")

    keep_checkpoints(CONFIG, folder, {"checkpoints": [{"path": path} for path in ("a", "gone", "/etc/passwd")]})

    assert not (folder.workspace / "a").exists()
    assert find(folder, "a").stored == "checkpoints/workspace/a"
    child = make_trial(tmp_path / "child")
    begin_fork(source(folder, "a"), child, Clone(child.workspace, FileManifest({})))
    assert (child.workspace / "a").read_text() == "memory"


def test_folder_is_kept_although_a_file_in_it_is_a_checkpoint_too(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    (folder.workspace / "all").mkdir()
    (folder.workspace / "all" / "step").write_text("memory")
    (folder.workspace / "all" / "rest").write_text("more")

    keep_checkpoints(CONFIG, folder, {"checkpoints": [{"path": "all/step"}, {"path": "all"}]})

    assert find(folder, "all/step").stored == "checkpoints/workspace/all/step"
    assert find(folder, "all").size == len("memory") + len("more")


@pytest.mark.parametrize("output", [{"checkpoints": [{"path": "b"}]}, {}], ids=["ended", "timed out"])
def test_workspace_checkpoint_from_before_a_pause_is_kept(tmp_path: Path, output: dict[str, Any]) -> None:
    folder = make_trial(tmp_path / "t")
    for number, text in enumerate(('{"checkpoints": [{"path": "a"}]}', "{ cut"), start=1):
        segment = folder.root / "segments" / str(number)
        segment.mkdir(parents=True)
        (segment / "trial_output.json").write_text(text)
    (folder.workspace / "a").write_text("memory")

    keep_checkpoints(CONFIG, folder, output)

    assert find(folder, "a").stored == "checkpoints/workspace/a"


def test_checkpoint_is_kept_although_the_written_output_is_nested_deeper_than_is_read(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    # As after an error: the output of the runner contains that of the harness, which was just shallow enough.
    (folder.root / "trial_output.json").write_text(
        '{"error": {}, "ext": {"harness_output": ' + "[" * 200 + "]" * 200 + "}}"
    )
    (folder.workspace / "a").write_text("memory")

    keep_checkpoints(CONFIG, folder, {"checkpoints": [{"path": "a"}]})

    assert find(folder, "a").stored == "checkpoints/workspace/a"


def test_checkpoint_that_only_stdout_named_before_a_pause_is_kept(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    segment = folder.root / "segments" / "1"
    segment.mkdir(parents=True)
    (segment / "stdout.log").write_text('step 1\n{"checkpoints": [{"path": "a"}]}\n')
    (folder.workspace / "a").write_text("memory")

    keep_checkpoints(CONFIG, folder, {})

    assert find(folder, "a").stored == "checkpoints/workspace/a"
    assert [each.path for each in named_checkpoints(CONFIG, folder)] == ["a"]


def test_documents_of_the_runner_are_read_although_they_contain_the_deepest_accepted_values(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t")
    deepest = "[" * 199 + "]" * 199
    (folder.root / "trial_output.json").write_text(
        '{"error": {}, "ext": {"harness_output": {"checkpoints": [{"path": "a"}], "answer": ' + deepest + "}}}"
    )
    given = (folder.root / "trial_input.json").read_text()
    (folder.root / "trial_input.json").write_text(given.replace("{", '{"task": {"deep": ' + deepest + "}, ", 1))
    (folder.workspace / "a").write_text("memory")

    (named,) = named_checkpoints(CONFIG, folder)

    assert find_checkpoint(CONFIG, folder, named).place == "workspace/a"


def test_checkpoints_before_pauses_count_and_later_ones_of_a_path_replace_them(tmp_path: Path) -> None:
    folder = make_trial(tmp_path / "t", checkpoints=[{"path": "/state/b", "step": 9}, {"path": "/state/c"}])
    for number, path in ((1, "a"), (2, "b")):
        segment = folder.root / "segments" / str(number)
        segment.mkdir(parents=True)
        (segment / "trial_output.json").write_text(json.dumps({"checkpoints": [{"path": f"/state/{path}"}]}))

    found = named_checkpoints(CONFIG, folder)

    assert [(each.path, each.step) for each in found] == [("/state/a", None), ("/state/b", 9), ("/state/c", None)]


def test_output_of_a_failed_trial_names_the_checkpoints_of_its_harness(tmp_path: Path) -> None:
    written = {"checkpoints": [{"path": "/state/a"}]}
    folder = make_trial(tmp_path / "t", error={"error_type": "trial_timeout"}, ext={"harness_output": written})

    assert [each.path for each in named_checkpoints(CONFIG, folder)] == ["/state/a"]


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_invalid_output_is_reported_as_damaged(tmp_path: Path, text: str) -> None:
    folder = make_trial(tmp_path / "t")
    (folder.root / "trial_output.json").write_text(text)

    with pytest.raises(RunDamagedError):
        named_checkpoints(CONFIG, folder)


@pytest.mark.parametrize("checkpoints", [None, 3, [3], [{"step": 1}], {"path": "x"}])
def test_checkpoints_of_another_shape_are_ignored(tmp_path: Path, checkpoints: Any) -> None:
    assert named_checkpoints(CONFIG, make_trial(tmp_path / "t", checkpoints=checkpoints)) == []
