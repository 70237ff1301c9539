"""Read the tasks of an experiment: check the whole JSON Lines file once, then read single lines when trials need them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from relab.core.errors import MalformedBodyError
from relab.core.ids import check_id
from relab.core.json import parse_json
from relab.core.regular_files import open_regular_file
from relab.experiments.errors import ExperimentInvalidError, RunChangedError

MAX_LINE_BYTES: Final = 16 * 1_048_576
MAX_PROBLEMS: Final = 20
_SHORT_BYTES = 8_192
_SHARES = 16
_BOUNDARY = "task_boundary_v1"
_BOUNDARY_FIELDS = ("workspace_files", "mount_references", "limits")
LIMITS: Final = ("max_steps", "max_total_tokens", "max_tool_calls", "trial_seconds")


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A file that a task adds to the workspace: its path there, its content, and whether it is executable."""

    path: str
    content: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """A data set pack (a file or folder below `.lab/dataset_packs/`) that a task reads.

    Attributes:
        ref: the name of the pack: its path below `.lab/dataset_packs/`. The first colon in it stands for a slash, so
            `a:b` is the path `a/b`.
        path: the path at which the trial finds the pack, relative to the workspace.
    """

    ref: str
    path: str


@dataclass(frozen=True, slots=True)
class Task:
    """One row of the data set.

    Attributes:
        payload: the object that the harness gets as `task`.
        boundary: whether the row has the format `task_boundary_v1`. Such a row has the payload in its field `task`,
            and the files, mounts and limits in other fields. Any other row is the payload itself.
        files: files that are added to the workspace.
        mounts: the data set packs (files or folders below `.lab/dataset_packs/`) that the task reads.
        limits: `{name: value}` of limits for this task, which replace the experiment's limits; `LIMITS` has the names.
    """

    task_id: str
    payload: dict[str, Any]
    boundary: bool = False
    files: tuple[WorkspaceFile, ...] = ()
    mounts: tuple[Mount, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)

    def cluster(self, name: str | None) -> str | None:
        """Return the id of the task's cluster, which is the value of the task's field `name` as text.

        The tasks of a cluster depend on each other. Return None if `name` is None, or if the field is missing or null.
        """
        value = None if name is None else self.payload.get(name)
        return None if value is None else str(value)


@dataclass(frozen=True)
class TaskIndex:
    """The position of each task in the file of a data set.

    Attributes:
        path: the file.
        offsets: the offset of each task's line in bytes, in the order of the file.
        marks: an 8-byte digest of each task's id. The digests need less memory than the ids.
        digest: the SHA-256 of the whole file, as `sha256:` and hexadecimal digits.
        warnings: sentences to show to the user before the run.
        id_field: the field from which the ids of the tasks are made; None for `task_id` or `id`.
    """

    path: Path
    offsets: array[int]
    marks: array[int]
    digest: str
    warnings: tuple[str, ...] = ()
    id_field: str | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, index: int) -> Task:
        """Read the task with this index (from 0) from the file.

        Raises:
            RunChangedError: the file was changed since it was indexed.
        """
        try:
            task = _task(self._line(self.offsets[index]), self.id_field)
        except (OSError, ValueError) as error:
            raise RunChangedError(f"The data set {self.path} has changed during the run: {error}.") from error
        if _mark(task.task_id) != self.marks[index]:
            raise RunChangedError(
                f"The data set {self.path} has changed during the run: {task.task_id!r} is a different task."
            )
        return task

    def moved_to(self, path: Path) -> TaskIndex:
        """Return an index of the same tasks in another file: the copy of the data set at `path`.

        Raises:
            RunChangedError: the copy differs from the file that was indexed.
            OSError: the copy cannot be read.
        """
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if digest != self.digest:
            raise RunChangedError(f"The data set {self.path} was changed while the run began.", remedy="Start again.")
        return replace(self, path=path)

    def _line(self, offset: int) -> bytes:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            # Most tasks are short, so a small read is usually enough.
            line = os.pread(descriptor, _SHORT_BYTES, offset)
            if b"\n" not in line and len(line) == _SHORT_BYTES:
                line = os.pread(descriptor, MAX_LINE_BYTES + 1, offset)
        finally:
            os.close(descriptor)
        return line[: line.find(b"\n") + 1] or line


def index_tasks(path: Path, limit: int | None = None, id_field: str | None = None) -> TaskIndex:
    """Check every line of a data set, and return the index of its first `limit` tasks.

    Args:
        path: the file.
        limit: the largest number of tasks in the index; None for all tasks.
        id_field: the name of the field with the ids of the tasks. Its values may contain slashes or be numbers; valid
            task ids are made from them. None: the ids are in the field `task_id` or `id`.

    Raises:
        ExperimentInvalidError: the file is unreadable or has no tasks, or lines are invalid; the error lists at most
            `MAX_PROBLEMS` of those lines.
    """
    offsets, marks = array("q"), array("Q")
    problems: list[tuple[int, str]] = []
    warnings: list[str] = []
    digest = hashlib.sha256()
    for number, offset, line in _lines(path, digest):
        try:
            task = _task(line, id_field)
            marks.append(_mark(task.task_id))
        except ValueError as error:
            problems.append((number, str(error)))
            if len(problems) >= MAX_PROBLEMS:
                break
            continue
        if not warnings and _has_unused_limits(task):
            warnings.append(
                f"{path}:{number}: limits is passed to the harness and limits nothing; to limit the task, write "
                f'{{"schema_version": "{_BOUNDARY}", "task_id": …, "task": {{…}}, "limits": {{…}}}}'
            )
        offsets.append(offset)
    if _has_equals(marks):
        problems = sorted([*problems, *_duplicates(path, marks, id_field)])[:MAX_PROBLEMS]
    if problems:
        named = tuple((f"{path}:{number}", problem) for number, problem in problems)
        raise ExperimentInvalidError(
            f"The data set {path} has {len(named)} invalid line{'s' if len(named) > 1 else ''}; "
            f"the first is {named[0][0]}: {named[0][1]}.",
            problems=named,
        )
    if not offsets:
        raise ExperimentInvalidError(f"The data set {path} has no tasks.", remedy="Write one JSON object per line.")
    return TaskIndex(path, offsets[:limit], marks[:limit], f"sha256:{digest.hexdigest()}", tuple(warnings), id_field)


def _mark(task_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _has_equals(marks: array[int]) -> bool:
    """Return whether any two of the digests in `marks` are equal."""
    # One group of digests at a time, to keep few Python objects in memory.
    for share in range(_SHARES):
        found = [mark for mark in marks if mark % _SHARES == share]
        if len(set(found)) < len(found):
            return True
    return False


def _duplicates(path: Path, marks: Iterable[int], id_field: str | None) -> Iterator[tuple[int, str]]:
    """Yield `(line number, message)` for each line of a data set whose task_id is already used on an earlier line.

    `marks` has a short digest (`_mark`) of each task id; only ids with equal digests are compared. `id_field` is the
    field with the ids; None for `task_id` or `id`.
    """
    # Only ids with equal digests are read and compared, to save memory.
    repeated = {mark for mark, count in Counter(marks).items() if count > 1}
    first_lines: dict[str, int] = {}
    for number, _, line in _lines(path, hashlib.sha256()):
        try:
            task_id = _task(line, id_field).task_id
        except ValueError:
            continue
        if _mark(task_id) in repeated:
            first = first_lines.setdefault(task_id, number)
            if first != number:
                yield number, f"the task_id {task_id!r} is already used on line {first}"


def _lines(path: Path, digest: Any) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    try:
        # Tasks are read again later, at their offsets; a pipe can be read only once.
        with open_regular_file(path, allow_pipe=False) as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                digest.update(line)
                if line.strip() or len(line) > MAX_LINE_BYTES:
                    yield number, offset, line
                offset += len(line)
                if len(line) > MAX_LINE_BYTES:
                    return
    except OSError as error:
        raise ExperimentInvalidError(
            f"The data set {path} cannot be read: {os.strerror(error.errno or 0)}.",
            remedy="dataset.path is relative to the folder of experiment.yaml.",
        ) from error


def _task(line: bytes, id_field: str | None) -> Task:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        row = parse_json(line.strip(), "the task")
    except MalformedBodyError as error:
        raise ValueError(str(error).rstrip(".")) from error
    if not isinstance(row, dict):
        raise ValueError("a task must be a JSON object")  # noqa: TRY004 reported with its line, like the other problems
    if not _is_boundary(row):
        return Task(_task_id(row, id_field), row)
    if "task" not in row:
        raise ValueError(f"a row of {_BOUNDARY} needs the field task")
    payload = row["task"]
    if not isinstance(payload, dict):
        raise ValueError(f"the field task of a row of {_BOUNDARY} must be a JSON object")  # noqa: TRY004 as above
    task_id = _task_id(row if (id_field or "task_id") in row else payload, id_field)
    return Task(
        task_id,
        payload,
        boundary=True,
        files=tuple(_file(item) for item in _list(row, "workspace_files")),
        mounts=tuple(_mount(item) for item in _list(row, "mount_references")),
        limits=_limits(row.get("limits")),
    )


def _is_boundary(row: Mapping[str, Any]) -> bool:
    return row.get("schema_version") == _BOUNDARY or (
        isinstance(row.get("task"), dict) and any(name in row for name in _BOUNDARY_FIELDS)
    )


def _has_unused_limits(task: Task) -> bool:
    """Return whether a task has a field `limits` that has no effect.

    Limits have an effect only in a row of the format `task_boundary_v1`, which wraps a task with its files and limits.
    """
    given = None if task.boundary else task.payload.get("limits")
    return isinstance(given, dict) and not given.keys().isdisjoint(LIMITS)


def _task_id(row: Mapping[str, Any], id_field: str | None) -> str:
    name = id_field or ("task_id" if "task_id" in row else "id")
    found = row.get(name)
    if found is None:
        others = [name for name, value in row.items() if name.lower().endswith("id") and isinstance(value, str)]
        hint = f"; set dataset.task_id_field: {others[0][:80]}" if others else ""
        raise ValueError(f"{id_field or 'task_id'} is missing{hint}")
    if id_field is not None and (isinstance(found, str) or type(found) is int):
        # Ids are parts of addresses, so they have no slash.
        return check_id(str(found).replace("/", "-"))
    if not isinstance(found, str):
        raise ValueError(f"{name} must be text, not {found!r}{_hint(name, found)}")  # noqa: TRY004 as above
    try:
        return check_id(found)
    except ValueError as error:
        raise ValueError(f"{error}{_hint(name, found)}") from error


def _hint(name: str, found: Any) -> str:
    """Return advice for the end of an error message about an invalid task id: to set `dataset.task_id_field`.

    With this setting, an id may be a number or contain slashes. If the id is invalid for another reason, return "".

    Args:
        name: the field that contains the id.
        found: the id.
    """
    is_usable = type(found) is int or (isinstance(found, str) and "/" in found)
    return f"; to replace its slashes and use numbers as text, set dataset.task_id_field: {name}" if is_usable else ""


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    found = row.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{name} must be a list of objects")
    return found


def _file(item: Mapping[str, Any]) -> WorkspaceFile:
    path, content, encoding = item.get("path"), item.get("content"), item.get("encoding", "utf8")
    if not isinstance(path, str) or not isinstance(content, str):
        raise ValueError("a workspace file needs the texts path and content")  # noqa: TRY004 as above
    if encoding not in ("utf8", "base64"):
        raise ValueError(f"the encoding of {path!r} must be utf8 or base64, not {encoding!r}")
    executable = item.get("executable", False)
    if not isinstance(executable, bool):
        raise ValueError(f"executable of {path!r} must be true or false, not {executable!r}")  # noqa: TRY004 as above
    try:
        raw = content.encode() if encoding == "utf8" else base64.b64decode(content, validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"the content of {path!r} is not {encoding}: {error}") from error
    return WorkspaceFile(check_inside(path), raw, executable)


def _mount(item: Mapping[str, Any]) -> Mount:
    ref, path = item.get("dataset_pack_ref"), item.get("mount_path")
    if not isinstance(ref, str) or not isinstance(path, str):
        raise ValueError("a mount needs the texts dataset_pack_ref and mount_path")  # noqa: TRY004 as above
    if item.get("read_only", True) is not True:
        raise ValueError(f"the mount {path!r} must be read-only")
    return Mount(ref, check_inside(path.removeprefix("/workspace/")))


def _limits(given: Any) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError("limits must be an object")  # noqa: TRY004 as above
    for name, value in given.items():
        if name not in LIMITS:
            raise ValueError(f"limits has no field {name!r}; its fields are {', '.join(LIMITS)}")
        if value is not None and (type(value) not in {int, float} or value <= 0):
            raise ValueError(f"limits.{name} must be a positive number, not {value!r}")
        if value is not None and name != "trial_seconds" and value != int(value):
            raise ValueError(f"limits.{name} must be a whole number, not {value!r}")
    return {name: value for name, value in given.items() if value is not None}


def check_inside(path: str) -> str:
    """Check that a relative path stays in its folder; return the normalised path.

    Raises:
        ValueError: the path is empty or absolute, contains `..`, or contains a NUL.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\x00" in path:
        raise ValueError(f"the path {path!r} leads out of the workspace")
    return str(PurePosixPath(*parts))
