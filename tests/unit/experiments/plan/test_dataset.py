"""The data set: all lines are checked, invalid lines are named, and tasks are read one at a time."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.errors import ExperimentInvalidError, RunChangedError
from relab.experiments.plan import dataset
from relab.experiments.plan.dataset import Mount, Task, TaskIndex, WorkspaceFile, check_inside, index_tasks


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def ids_of(index: TaskIndex) -> list[str]:
    return [index.read(number).task_id for number in range(len(index))]


def problems(path: Path) -> list[tuple[str, str]]:
    with pytest.raises(ExperimentInvalidError) as caught:
        index_tasks(path)
    return list(caught.value.problems)


def wrong(folder: Path, row: Any) -> str:
    found = problems(write(folder, row))
    assert [place for place, _ in found] == [f"{folder / 'tasks.jsonl'}:1"]
    return found[0][1]


def boundary(**fields: Any) -> dict[str, Any]:
    return {"schema_version": "task_boundary_v1", "task_id": "t", "task": {"x": 1}, **fields}


def test_a_task_is_passed_through_whole(tmp_path: Path) -> None:
    row = {"task_id": "t1", "prompt": "äöü \u2028", "nested": {"a": [1, None, 2.5]}}
    index = index_tasks(write(tmp_path, {"task_id": "t0"}, row))

    assert ids_of(index) == ["t0", "t1"]
    task = index.read(1)
    assert task.task_id == "t1"
    assert task.payload == row
    assert task.boundary is False
    assert index.read(0).task_id == "t0"


def test_blank_lines_and_a_missing_last_line_end_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'\n{"task_id": "a"}\r\n  \n{"task_id": "b"}')
    index = index_tasks(path)

    assert [index.read(place).task_id for place in range(len(index))] == ["a", "b"]
    assert index.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_limit_takes_the_first_tasks_but_checks_all(tmp_path: Path) -> None:
    path = write(tmp_path, {"task_id": "a"}, {"task_id": "b"}, {"task_id": "c"})
    assert ids_of(index_tasks(path, 2)) == ["a", "b"]
    assert ids_of(index_tasks(path, 9)) == ["a", "b", "c"]

    with pytest.raises(ExperimentInvalidError) as caught:
        index_tasks(write(tmp_path, {"task_id": "a"}, "{"), 1)
    assert caught.value.problems[0][0].endswith("tasks.jsonl:2")


def test_a_bad_line_40000_is_named(tmp_path: Path) -> None:
    rows = [f'{{"task_id": "t{number}"}}' for number in range(40_010)]
    rows[39_999] = '{"task_id": "t39999", '
    path = write(tmp_path, *rows)

    assert [place for place, _ in problems(path)] == [f"{path}:40000"]
    with pytest.raises(ExperimentInvalidError) as caught:
        index_tasks(path)
    assert caught.value.problems[0][0].endswith("tasks.jsonl:40000")
    assert len(caught.value.problems) == 1


def test_the_first_twenty_wrong_lines_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, *["nonsense"] * 100)

    assert [place for place, _ in problems(path)] == [f"{path}:{number}" for number in range(1, 21)]


def test_a_task_id_that_occurs_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, {"task_id": "a"}, {"task_id": "b"}, "", {"task_id": "a"})

    assert problems(path) == [(f"{path}:4", "the task_id 'a' is already used on line 1")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, "task_id is missing"),
        ({"task_id": None}, "task_id is missing"),
        (
            {"instance_id": "django__django-1", "repo": "django"},
            "task_id is missing; set dataset.task_id_field: instance_id",
        ),
        ({"row_id": 7, "questionId": "q7"}, "task_id is missing; set dataset.task_id_field: questionId"),
        ({"task_id": 7}, "task_id must be text, not 7"),
        ({"task_id": ""}, "an id has 1 to 200 characters, not 0"),
        ({"task_id": "a/b"}, "an id must not contain '/'"),
        ({"task_id": ".."}, "'..' cannot be an id"),
        ([1], "a task must be a JSON object"),
        ("'a'", "is not valid JSON"),
        ('{"task_id": "a", "task_id": "b"}', "is not valid JSON"),
        ('{"task_id": "a", "x": NaN}', "is not valid JSON"),
        ('{"task_id": "a", "x": 1e999}', "holds a number beyond the range of a double"),
        ('{"task_id": "a\\u0000"}', "holds a NUL character"),
        ('{"task_id": "\\ud800"}', "is not valid JSON"),
        ("[" * 5_000, "is not valid JSON"),
    ],
)
def test_invalid_row_is_rejected_with_its_reason(tmp_path: Path, row: Any, message: str) -> None:
    assert message in wrong(tmp_path, row)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'{"task_id": "a"}\n{"task_id": "caf\xe9"}\n')

    assert [place for place, _ in problems(path)] == [f"{path}:2"]


def test_a_line_that_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_LINE_BYTES", 100)
    path = write(tmp_path, {"task_id": "a"}, {"task_id": "b", "prompt": "x" * 200}, {"task_id": "c"})

    assert problems(path) == [(f"{path}:2", "the line is longer than 100 bytes")]


def test_blank_line_that_is_too_long_does_not_end_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_LINE_BYTES", 100)
    path = write(tmp_path, {"task_id": "a"}, " " * 200, {"task_id": "c"})

    assert problems(path) == [(f"{path}:2", "the line is longer than 100 bytes")]


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_an_empty_data_set_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(text)

    with pytest.raises(ExperimentInvalidError, match=r"has no tasks"):
        index_tasks(path)


def test_missing_data_set_is_reported_with_the_rule_for_paths(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError) as caught:
        index_tasks(tmp_path / "none.jsonl")
    assert "No such file" in caught.value.message
    assert caught.value.remedy == "dataset.path is relative to the folder of experiment.yaml."
    with pytest.raises(ExperimentInvalidError, match="Is a directory"):
        index_tasks(tmp_path)


def test_a_changed_data_set_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, {"task_id": "a"}, {"task_id": "b"})
    index = index_tasks(path)
    write(tmp_path, {"task_id": "a"}, {"task_id": "x"})

    assert index.read(0).task_id == "a"
    with pytest.raises(RunChangedError, match="'x' is a different task"):
        index.read(1)
    path.write_text("")
    with pytest.raises(RunChangedError) as caught:
        index.read(0)
    assert caught.value.code == "run_changed"
    path.unlink()
    with pytest.raises(RunChangedError) as caught:
        index.read(0)
    assert caught.value.code == "run_changed"


def test_a_boundary_row_brings_files_mounts_and_limits(tmp_path: Path) -> None:
    row = boundary(
        workspace_files=[
            {"path": "src/./a.py", "content": "print(1)\n", "encoding": "utf8", "executable": True},
            {"path": "b.bin", "content": "AAH/", "encoding": "base64"},
        ],
        mount_references=[
            {"dataset_pack_ref": "sha256:abc", "mount_path": "/workspace/data", "read_only": True},
        ],
        limits={"max_steps": 5, "trial_seconds": 1.5, "max_tool_calls": None},
    )
    task = index_tasks(write(tmp_path, row)).read(0)

    assert task.task_id == "t"
    assert task.payload == {"x": 1}
    assert task.boundary is True
    assert task.files == (WorkspaceFile("src/a.py", b"print(1)\n", True), WorkspaceFile("b.bin", b"\x00\x01\xff"))
    assert task.mounts == (Mount("sha256:abc", "data"),)
    assert task.limits == {"max_steps": 5, "trial_seconds": 1.5}


def test_boundary_is_recognised_by_its_fields(tmp_path: Path) -> None:
    index = index_tasks(
        write(
            tmp_path,
            {"task": {"task_id": "inner"}, "limits": {}},
            {"task_id": "plain", "task": "a word of its own"},
            {"task_id": "also plain", "limits": 3},
        )
    )

    assert [index.read(place).boundary for place in range(3)] == [True, False, False]
    assert ids_of(index) == ["inner", "plain", "also plain"]
    assert index.read(1).payload == {"task_id": "plain", "task": "a word of its own"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workspace_files": {}}, "workspace_files must be a list of objects"),
        ({"workspace_files": ["a"]}, "workspace_files must be a list of objects"),
        ({"workspace_files": [{"path": "a"}]}, "a workspace file needs the texts path and content"),
        ({"workspace_files": [{"path": "a", "content": "x", "encoding": "hex"}]}, "must be utf8 or base64, not 'hex'"),
        ({"workspace_files": [{"path": "a", "content": "x", "encoding": []}]}, "must be utf8 or base64, not []"),
        ({"workspace_files": [{"path": "a", "content": "?", "encoding": "base64"}]}, "is not base64"),
        ({"workspace_files": [{"path": "a", "content": "x", "executable": "no"}]}, "must be true or false, not 'no'"),
        ({"workspace_files": [{"path": "../a", "content": "x"}]}, "leads out of the workspace"),
        ({"workspace_files": [{"path": "/etc/passwd", "content": "x"}]}, "leads out of the workspace"),
        ({"workspace_files": [{"path": "a/../../b", "content": "x"}]}, "leads out of the workspace"),
        ({"mount_references": None}, "mount_references must be a list of objects"),
        ({"mount_references": [{}]}, "a mount needs the texts dataset_pack_ref and mount_path"),
        (
            {"mount_references": [{"dataset_pack_ref": "a", "mount_path": "b", "read_only": False}]},
            "must be read-only",
        ),
        ({"mount_references": [{"dataset_pack_ref": "a", "mount_path": "/etc"}]}, "leads out of the workspace"),
        ({"limits": []}, "limits must be an object"),
        ({"limits": {"max_step": 3}}, "limits has no field 'max_step'"),
        ({"limits": {"max_steps": 0}}, "limits.max_steps must be a positive number, not 0"),
        ({"limits": {"max_steps": True}}, "limits.max_steps must be a positive number, not True"),
        ({"limits": {"max_steps": 0.5}}, "limits.max_steps must be a whole number, not 0.5"),
        ({"limits": {"trial_seconds": "1"}}, "limits.trial_seconds must be a positive number, not '1'"),
    ],
)
def test_invalid_boundary_row_is_rejected_with_its_reason(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    assert message in wrong(tmp_path, boundary(**fields))


def test_boundary_row_requires_a_task(tmp_path: Path) -> None:
    assert wrong(tmp_path, {"schema_version": "task_boundary_v1", "task_id": "t"}) == (
        "a row of task_boundary_v1 needs the field task"
    )
    assert wrong(tmp_path, {"schema_version": "task_boundary_v1", "task_id": "t", "task": "text"}) == (
        "the field task of a row of task_boundary_v1 must be a JSON object"
    )
    assert wrong(tmp_path, {"task": {}, "limits": {}}) == "task_id is missing"


@pytest.mark.parametrize("row", [{"prompt": "?"}, {"task": "text"}])
def test_limits_without_effect_are_passed_to_the_harness_with_a_warning(tmp_path: Path, row: dict[str, Any]) -> None:
    limited = {"task_id": "t", **row, "limits": {"max_steps": 3}}
    path = write(tmp_path, {"task_id": "s"}, limited, {**limited, "task_id": "u"})

    index = index_tasks(path)

    assert index.read(1) == Task("t", limited)
    [warning] = index.warnings
    assert f"{path}:2" in warning
    assert "task_boundary_v1" in warning


def test_field_of_the_task_that_is_called_limits_gives_no_warning(tmp_path: Path) -> None:
    row = {"task_id": "t", "prompt": "?", "limits": {"budget_eur": 3}}

    index = index_tasks(write(tmp_path, row))

    assert index.read(0) == Task("t", row)
    assert index.warnings == ()


def test_row_whose_task_is_text_is_passed_as_a_whole(tmp_path: Path) -> None:
    row = {"task_id": "t", "task": "text", "limits": {"anything": 1}}

    assert index_tasks(write(tmp_path, row)).read(0) == Task("t", row)


@pytest.mark.parametrize("path", ["", ".", "/", "..", "a/..", "/a", "a\x00b", "../a"])
def test_path_out_of_the_workspace_is_rejected(path: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(path))):
        check_inside(path)


def test_cluster_of_a_task_is_read_from_its_field(tmp_path: Path) -> None:
    task = index_tasks(write(tmp_path, {"task_id": "a", "document": 7})).read(0)

    assert task.cluster("document") == "7"
    assert task.cluster("nothing") is None
    assert task.cluster(None) is None


def test_tasks_whose_cluster_field_is_null_share_no_cluster(tmp_path: Path) -> None:
    task = index_tasks(write(tmp_path, {"task_id": "a", "document": None})).read(0)

    assert task.cluster("document") is None


def test_invalid_lines_and_repeated_ids_are_reported_in_file_order(tmp_path: Path) -> None:
    path = write(tmp_path, {"task_id": "a"}, "nonsense", {"task_id": "b"}, {"task_id": "a"}, "[]", {"task_id": "b"})

    assert [place.rpartition(":")[2] for place, _ in problems(path)] == ["2", "4", "5", "6"]
    assert problems(path)[3][1] == "the task_id 'b' is already used on line 3"


def test_index_moves_only_to_an_identical_copy(tmp_path: Path) -> None:
    index = index_tasks(write(tmp_path, {"task_id": "a"}))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(index.path.read_bytes())

    moved = index.moved_to(copy)
    assert moved.path == copy
    assert ids_of(moved) == ["a"]
    copy.write_text('{"task_id": "b"}\n')
    with pytest.raises(RunChangedError) as caught:
        index.moved_to(copy)
    assert caught.value.code == "run_changed"


def test_ids_are_made_from_the_configured_field(tmp_path: Path) -> None:
    rows = [{"instance_id": "django__django-11099"}, {"instance_id": "HumanEval/0", "task_id": 7}, {"instance_id": 12}]
    path = write(tmp_path, *rows, boundary(instance_id="outer"), boundary(task={"instance_id": "inner"}))

    index = index_tasks(path, id_field="instance_id")

    assert ids_of(index) == ["django__django-11099", "HumanEval-0", "12", "outer", "inner"]
    # The harness gets the row as it is.
    assert index.read(1).payload == rows[1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"number": "a"}, "instance_id is missing"),
        ({"instance_id": None, "uid": "a"}, "instance_id is missing; set dataset.task_id_field: uid"),
        ({"instance_id": True}, "instance_id must be text, not True"),
        ({"instance_id": ".."}, "'..' cannot be an id"),
    ],
)
def test_wrong_configured_id_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentInvalidError, match=re.escape(message)):
        index_tasks(write(tmp_path, row), id_field="instance_id")


def test_ids_that_are_equal_without_slashes_are_duplicates(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError, match="'a-b' is already used on line 1"):
        index_tasks(write(tmp_path, {"id": "a/b"}, {"id": "a-b"}), id_field="id")


@pytest.mark.parametrize("row", [{"task_id": "HumanEval/0"}, {"id": "HumanEval/0"}, {"task_id": 7}])
def test_message_about_an_unusable_id_names_the_setting_that_makes_it_usable(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    assert f"dataset.task_id_field: {next(iter(row))}" in wrong(tmp_path, row)
