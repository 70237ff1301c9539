"""List the trials of a run, show a trial with its documents and files, and compare two trials."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiter

from relab.core.errors import MalformedBodyError
from relab.core.json import parse_own_json
from relab.experiments.config.paths import LAB
from relab.experiments.errors import TrialNotFoundError, damaged
from relab.experiments.models import ErrorType, TrialIds
from relab.experiments.records.forks import sources_of
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder, open_run
from relab.experiments.results.listing import find_run
from relab.experiments.trial.events import read_events
from relab.experiments.trial.evidence import STORE
from relab.experiments.trial.pausing import read_paused
from relab.experiments.trial.trial_folder import INPUT, OUTPUT, TrialFolder, trial_folder
from relab.experiments.workspace.snapshots import snapshot_folder
from relab.experiments.workspace.untrusted_files import open_plain, read_plain

MAX_DOCUMENT_BYTES: Final = 1_048_576
MAX_PATCHED_BYTES: Final = 65_536
MAX_PATCHES: Final = 50
MAX_COMPARED_EVENTS: Final = 5_000
LAST_EVENTS: Final = 20
TAIL_LINES: Final = 40
_TAIL_BYTES: Final = 65_536
_CONTEXT_LINES: Final = 3
_TRIAL_ID: Final = re.compile(r"trial_[0-9]{1,12}")
_LISTED: Final = (
    "trial_id", "variant_id", "task_id", "repl_idx", "outcome", "error_type", "duration_ms", "primary_metric_name",
    "primary_metric_value", "attempts", "agent_run_id", "cached_from",
)  # fmt: skip
_COMPARED: Final = (
    "variant_id",
    "task_id",
    "repl_idx",
    "outcome",
    "error_type",
    "error_message",
    "duration_ms",
    "exit_code",
)


@dataclass(frozen=True)
class _Seen:
    """A trial that has a result, with its run, its folder, its row in the results, and its journal entry."""

    run: RunFolder
    folder: TrialFolder
    row: Mapping[str, Any]
    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.run.run_id}.{self.row['trial_id']}"


def list_trials(
    root: Path, named: Path, *, outcome: str | None = None, variant: str | None = None, task: str | None = None
) -> list[dict[str, Any]]:
    """Return the trials of a run that have a result, as JSON, in the order in which they ended.

    If the trials of the run are forks (trials that begin at a checkpoint of an earlier trial), the key `parent` of
    each has the ids of this earlier trial, as `<run>.<trial>`.

    Args:
        root: the folder of the project.
        named: the run's folder or its id.
        outcome: only trials with this outcome.
        variant: only trials of the variant with this id.
        task: only trials of the task with this id.

    Raises:
        RunNotFoundError: there is no such run.
        RunDamagedError: the journal is damaged.
    """
    run = open_run(find_run(root, named))
    wanted = {"outcome": outcome, "variant_id": variant, "task_id": task}
    parents = {name: f"{source.parent_run_id}.{source.parent_trial_id}" for name, source in sources_of(run).items()}
    return [
        {name: row.get(name) for name in _LISTED} | ({"parent": parents[row["trial_id"]]} if parents else {})
        for row in (entry["row"] for entry in read_journal(run.path))
        if all(value is None or row[name] == value for name, value in wanted.items())
    ]


def show_trial(root: Path, named: str) -> dict[str, Any]:
    """Return a trial as JSON.

    The result has the trial's row of the results table, its input and output documents, its last events, the ends of
    its standard output and error, its changed files, and sentences about the reasons for its outcome or pause.

    Args:
        root: the folder of the project.
        named: the folder of the trial, or `<run>.<trial>`. `<run>` is the id or the folder of the run.

    Raises:
        RunNotFoundError, TrialNotFoundError: there is no such run, or the trial has neither a result nor a folder.
        RunDamagedError: the journal, or the record of a pause or of the changed files, is damaged.
    """
    run, trial_id = _find(root, named)
    folder = trial_folder(run.path, trial_id)
    entry = _entry_of(run, trial_id)
    if entry is None and not folder.root.is_dir():
        raise TrialNotFoundError(
            f"{run.run_id} has no trial {trial_id!r} with a result or a folder.",
            remedy=f"To see its trials: lab trials {run.run_id}",
        )
    row: Mapping[str, Any] = entry["row"] if entry is not None else {}
    events = _events(run, folder, row)
    changes = changes_of(run.path, entry)
    paused = read_paused(folder) if entry is None else None
    return {
        "trial": f"{run.run_id}.{trial_id}",
        "trial_dir": str(folder.root),
        "status": "ended" if entry is not None else "paused" if paused is not None else "open",
        "row": dict(row),
        "why": [*_why(row), *([] if paused is None else [paused.reason])],
        "input": document_of(folder, INPUT),
        "output": document_of(folder, OUTPUT),
        "events": {"total": len(events), "last": events[-LAST_EVENTS:]},
        "stdout": _tail(folder, folder.stdout),
        "stderr": _tail(folder, folder.stderr),
        "changes": changes,
        "patches": _patches(run, folder, changes),
    }


def diff_trials(root: Path, first: str, second: str) -> dict[str, Any]:
    """Return how two trials differ, as JSON: values of their rows, metrics, events, answers and changed files.

    Args:
        root: the folder of the project.
        first: the first trial, as `<run>.<trial>` or as the trial's folder.
        second: the second trial, also as `<run>.<trial>` or as the trial's folder.

    Raises:
        RunNotFoundError, TrialNotFoundError: there is no such run, or a trial has no result.
        RunDamagedError: a journal, or the record of the changed files, is damaged.
    """
    one, other = _seen(root, first), _seen(root, second)
    names = sorted({*one.row["metrics"], *other.row["metrics"]})
    lines = [
        [_line(event) for event in _events(seen.run, seen.folder, seen.row)[:MAX_COMPARED_EVENTS]]
        for seen in (one, other)
    ]
    answers = [(document_of(seen.folder, OUTPUT) or {}).get("answer") for seen in (one, other)]
    return {
        "trials": [one.name, other.name],
        "same_task": one.row["task_id"] == other.row["task_id"],
        "rows": {name: [one.row[name], other.row[name]] for name in _COMPARED},
        "metrics": {name: [one.row["metrics"].get(name), other.row["metrics"].get(name)] for name in names},
        "answers": answers,
        "events": {
            "counts": [len(lines[0]), len(lines[1])],
            "diff": _unified(lines[0], lines[1], one.name, other.name),
        },
        "files": list(_file_differences(one, other)),
    }


def _find(root: Path, named: str) -> tuple[RunFolder, str]:
    path = Path(named)
    if path.parent.name == "trials" and _TRIAL_ID.fullmatch(path.name) and path.is_dir():
        return open_run(path.parent.parent.absolute()), path.name
    run, dot, trial_id = named.rpartition(".")
    if not dot or not _TRIAL_ID.fullmatch(trial_id):
        raise TrialNotFoundError(
            f"{named[:200]!r} names no trial.", remedy="Give <run>.<trial>, such as run_20261124_120000_ab12cd.trial_3."
        )
    return open_run(find_run(root, Path(run))), trial_id


def _seen(root: Path, named: str) -> _Seen:
    run, trial_id = _find(root, named)
    entry = _entry_of(run, trial_id)
    if entry is None:
        raise TrialNotFoundError(
            f"{run.run_id} has no trial {trial_id!r} with a result.",
            remedy=f"To see its trials: lab trials {run.run_id}",
        )
    return _Seen(run, trial_folder(run.path, trial_id), entry["row"], entry)


def _entry_of(run: RunFolder, trial_id: str) -> Mapping[str, Any] | None:
    return next((entry for entry in read_journal(run.path) if entry["row"]["trial_id"] == trial_id), None)


def _why(row: Mapping[str, Any]) -> list[str]:
    """Return sentences about the problems of a trial: error, exit code, guardrails, violations and invalid events.

    A violation is a violated condition of the sanitization profile (conditions that must be equal for all trials).
    `row` is the trial's row in the results.
    """
    found = []
    if row.get("error_type"):
        found.append(f"{row['error_type']}: {row['error_message'] or 'no message'}")
    # Rows of earlier versions have the exit code -1 if the sandbox failed, as after signal 1.
    if row.get("exit_code") and row.get("error_type") != ErrorType.SANDBOX:
        code = row["exit_code"]
        found.append(f"the harness was ended by signal {-code}" if code < 0 else f"the harness ended with code {code}")
    for name, text in (
        ("guardrails_exceeded", "above its guardrail: "),
        ("violations", "violated: "),
        ("hook_event_problems", "events, "),
    ):
        found += [text + str(item) for item in row.get(name, ())]
    return found


def document_of(folder: TrialFolder, name: str) -> dict[str, Any] | None:
    """Return a JSON document of a trial; None if it is missing, unreadable or larger than 1 MB."""
    raw = read_plain(folder.root / name, MAX_DOCUMENT_BYTES, below=folder.root)
    try:
        document = parse_own_json(raw) if raw is not None else None
    except MalformedBodyError:
        return None
    return document if isinstance(document, dict) else None


def events_of(run: RunFolder, folder: TrialFolder, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the valid events of a trial, in the order of the file; `row` is the trial's row."""
    ids = TrialIds(run.run_id, row["trial_id"], row["variant_id"], row["task_id"], row["repl_idx"])
    path = folder.host_path(run.config.runtime.harness.events.path)
    return read_events(path, ids, below=folder.root).events


def _events(run: RunFolder, folder: TrialFolder, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    events = events_of(run, folder, row) if row else []
    return [{name: value for name, value in event.items() if name != "ids"} for event in events]


def _line(event: Mapping[str, Any]) -> str:
    """Return an event as one line of text, without its time and its number."""
    parts = [str(event["event_type"])]
    if event.get("step_index") is not None:
        parts.append(f"step {event['step_index']}")
    for name, key in (("tool", "name"), ("model", "identity"), ("outcome", "status")):
        value = event.get(name)
        if isinstance(value, dict) and value.get(key) is not None:
            parts.append(f"{name} {value[key]}")
        elif isinstance(value, str):
            parts.append(f"{name} {value}")
    if event.get("message") is not None:
        parts.append(str(event["message"])[:200])
    return " · ".join(parts)


def _tail(folder: TrialFolder, path: Path) -> str:
    file = open_plain(path, below=folder.root)
    if file is None:
        return ""
    with file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL_BYTES, 0))
        text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def changes_of(run_dir: Path, entry: Mapping[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Return the files that a trial changed, as `{"added": files, "removed": files, "modified": files}`.

    Each file has a path and a digest. `entry` is the trial's journal entry. The lists are empty if `entry` is None or
    has no record of the changes.

    Raises:
        RunDamagedError: the record cannot be read, or is not valid.
    """
    path = ((entry or {}).get("evidence") or {}).get("paths", {}).get("diff_incremental")
    empty: dict[str, list[dict[str, Any]]] = {"added": [], "removed": [], "modified": []}
    if not isinstance(path, str):
        return empty
    raw = read_plain(run_dir / path, 64 * MAX_DOCUMENT_BYTES, below=run_dir / STORE)
    try:
        document = jiter.from_json(raw) if raw is not None else {}
    except ValueError as error:
        raise damaged(run_dir / path, f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise damaged(run_dir / path, "is not a JSON object")
    changes = {name: document.get(name, []) for name in empty}
    for name, files in changes.items():
        if not isinstance(files, list) or not all(_is_file(each) for each in files):
            raise damaged(run_dir / path, f"has no valid list of files in {name!r}")
    return changes


def _is_file(item: object) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(name), str) for name in ("path", "digest"))


def _patches(
    run: RunFolder, folder: TrialFolder, changes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, str]]:
    """Return `{path, patch}` of at most `MAX_PATCHES` text files that a trial changed or added.

    The patch is the unified difference from the project's snapshot to the trial's workspace. A file is left out if one of
    its versions is not kept, too large, or not text. `changes` is the result of `changes_of`.
    """
    before = snapshot_folder(Path(run.facts["project_root"]) / LAB / "cache", run.facts["snapshot"])
    found: list[dict[str, str]] = []
    for item in [*changes["modified"], *changes["added"]]:
        old = _text(before, item["path"], item.get("previous_digest")) if "previous_digest" in item else ""
        new = _text(folder.workspace, item["path"], item["digest"])
        if old is None or new is None or len(found) >= MAX_PATCHES:
            continue
        lines = _unified(old.splitlines(), new.splitlines(), f"before/{item['path']}", f"after/{item['path']}")
        found.append({"path": item["path"], "patch": "\n".join(lines)})
    return found


def _text(below: Path, path: str, digest: str | None) -> str | None:
    """Return the text of a file, if its content has the expected digest.

    Return None if the digest differs, or if the file does not exist, is larger than `MAX_PATCHED_BYTES` or is not text.

    Args:
        below: the folder that contains the file: a workspace or a snapshot.
        path: the path of the file below this folder.
        digest: the expected digest, as `sha256:<hexadecimal>`.
    """
    raw = read_plain(below / path, MAX_PATCHED_BYTES, below=below)
    if raw is None or f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest or b"\0" in raw:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _file_differences(one: _Seen, other: _Seen) -> Iterator[dict[str, Any]]:
    """Yield `{path, changed, patch}` for each file that at least one of two trials changed.

    - `changed`: `only in the first` or `only in the second` trial, or `alike` or `different` if both changed the file.
    - `patch`: the unified difference from the first to the second trial if `changed` is `different` and both versions
      are available as text; else empty.
    """
    changed = [_changed(one), _changed(other)]
    for path in sorted({*changed[0], *changed[1]}):
        first, second = changed[0].get(path), changed[1].get(path)
        if path in changed[0] and path in changed[1]:
            how = "alike" if first == second else "different"
        else:
            how = "only in the first" if path in changed[0] else "only in the second"
        patch: list[str] = []
        if how == "different" and first is not None and second is not None:
            texts = _text(one.folder.workspace, path, first), _text(other.folder.workspace, path, second)
            if texts[0] is not None and texts[1] is not None:
                patch = _unified(texts[0].splitlines(), texts[1].splitlines(), one.name, other.name)
        yield {"path": path, "changed": how, "patch": "\n".join(patch)}


def _changed(seen: _Seen) -> dict[str, str | None]:
    """Return `{path: digest}` of the files that the trial `seen` changed; the digest of a removed file is None."""
    changes = changes_of(seen.run.path, seen.entry)
    kept: dict[str, str | None] = {item["path"]: item["digest"] for item in [*changes["added"], *changes["modified"]]}
    return kept | {item["path"]: None for item in changes["removed"]}


def _unified(first: Sequence[str], second: Sequence[str], one: str, other: str) -> list[str]:
    return list(difflib.unified_diff(first, second, one, other, n=_CONTEXT_LINES, lineterm=""))
