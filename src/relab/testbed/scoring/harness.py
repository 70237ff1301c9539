"""The harness that `lab run` starts for each trial: it runs and scores one episode (a test) of one responder.

The trial's task is the episode. The trial's variant is the responder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import ConfigurationError, MalformedBodyError
from relab.core.file_locks import file_lock
from relab.core.json import JsonValue, parse_json
from relab.core.validation import plain_message
from relab.testbed.scoring.episodes import Episode
from relab.testbed.scoring.observations import Observed
from relab.testbed.scoring.responder import Bindings
from relab.testbed.scoring.running import run_episode
from relab.testbed.scoring.score import Score, score
from relab.testbed.scoring.testbeds import hold_machine, lease_testbed

TIMELINE: Final = "timeline.json"
LEFT: Final = "responder"
"""Folder beside the output with a copy of the responder's home after the episode."""
HOME_VARIABLE: Final = "RELAB_HOME"
_RESPONDERS: Final = "responders"
_TESTBEDS: Final = "testbeds"
_MAX_LEFTOVER_BYTES: Final = 32 << 20


class WrongTrialError(ConfigurationError):
    """The input file of the trial is invalid, or `RELAB_HOME` (the testbeds' home folder) is not set."""

    code = "wrong_trial"


class _TestbedBindings(BaseModel):
    """The bindings (settings of a trial) about testbeds: the first port, and folders to hide from the responder."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    port_base: int = Field(23_000, ge=1_024, le=60_000)
    hides: list[Path] = Field([], max_length=20)
    """Folders that reveal the planned faults; those of the testbeds and of the run are hidden in any case."""


def read_trial(path: Path) -> dict[str, JsonValue]:
    """Return the content of a trial's input file (`trial_input_v1`): a mapping with `ids`, `task`, `bindings` and more.

    `task` is the episode (a test of a responder), and `bindings` says how to start the responder.

    Raises:
        WrongTrialError: the file cannot be read, is not JSON, or lacks one of the keys `ids`, `task` and `bindings`.
    """
    try:
        found = parse_json(path.read_bytes(), path.name)
    except (OSError, MalformedBodyError) as error:
        raise WrongTrialError(f"The trial's input {path.name} cannot be read: {error}") from error
    if not isinstance(found, dict) or not {"ids", "task", "bindings"} <= found.keys():
        raise WrongTrialError(f"{path.name} is not a trial_input_v1: ids, task and bindings are required.")
    return found


def run_trial(trial: Mapping[str, Any], *, stop: threading.Event, out: Path | None = None) -> dict[str, Any]:
    """Run and score the episode (a test of a responder) of one trial; return the trial's output (`trial_output_v1`).

    Args:
        trial: the trial's input (`trial_input_v1`): `task` is the episode, `bindings` says how to start the responder.
        stop: set this event to stop the episode early; the trial then has no result.
        out: folder for the observations (`timeline.json`) and a copy of the responder's files; None to keep neither.

    Raises:
        RelabError: the episode has no result, for example because it was stopped or the responder could not be started.
    """
    episode, bindings = Episode.from_row(trial["task"]), Bindings.read(trial["bindings"])
    testbeds = _testbed_bindings(trial["bindings"])
    with (
        _responder_home(bindings, trial["ids"]) as home,
        hold_machine(_home(), alone=episode.takes_the_machine),
        lease_testbed(_home(), testbeds.port_base) as bed,
    ):
        try:
            hidden = _outermost([_home() / _TESTBEDS, *([_run_of(out)] if out is not None else []), *testbeds.hides])
            seen, truth = run_episode(episode, bed, bindings, home=home, stop=stop, hidden=hidden)
        finally:
            if out is not None:
                _keep(home, out / LEFT)
    found = score(seen, truth)
    if out is not None:
        (out / TIMELINE).write_text(json.dumps(seen.to_json()), encoding="utf-8")
    return _output(trial["ids"], episode, seen, found)


def _run_of(out: Path) -> Path:
    """Return the folder `.lab` of the experiment to which a trial's output folder `out` belongs.

    If `out` is not inside a folder `.lab`, return the parent of its parent folder.
    """
    # The folder reveals the faults and their order, so responders must not see it.
    return next((folder for folder in out.parents if folder.name == ".lab"), out.parent.parent)


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that exist, sorted; leave out duplicates, and each folder inside another one of `folders`."""
    found = {folder.resolve() for folder in folders if folder.is_dir()}
    return sorted(folder for folder in found if not found & set(folder.parents))


def _output(ids: Any, episode: Episode, seen: Observed, found: Score) -> dict[str, Any]:
    metrics: dict[str, Any] = dict(found.metrics(seen.poll_s))
    last = next((item.causes for item in reversed(seen.sights) if item.causes), ())
    return {
        "schema_version": "trial_output_v1",
        "ids": ids,
        "outcome": "success" if found.is_success else "failure",
        "answer": {"diagnosis": list(last[:5]), "actions": [item.action for item in seen.acts], "notes": seen.notes},
        "metrics": {
            **metrics,
            "kind": episode.kind.value,
            "subject": episode.subject,
            "duration_s": round(seen.ended_s, 3),
            "blinded": seen.is_blinded,
        },
        "objective": {
            "name": "harm_user_error_s",
            "value": metrics["harm_user_error_s"],
            "direction": "minimize",
        },
    }


def error_output(ids: Any, kind: str, message: str) -> dict[str, Any]:
    """Return the output (`trial_output_v1`) of a trial that ended with an error and has no result.

    The trial gets the outcome `error`, because its episode says nothing about the responder.

    Args:
        ids: the value of the field `ids` in the trial's input file, which identifies the trial.
        kind: the code of the error.
        message: the message of the error.
    """
    return {
        "schema_version": "trial_output_v1",
        "ids": ids,
        "outcome": "error",
        "error": {"error_type": kind, "message": message},
    }


def _home() -> Path:
    found = os.environ.get(HOME_VARIABLE)
    if not found:
        raise WrongTrialError(
            f"{HOME_VARIABLE} is not set, so there is no folder for testbeds.",
            remedy="Set it in runtime.harness.environment, to a short path.",
        )
    return Path(found)


def _testbed_bindings(bindings: Any) -> _TestbedBindings:
    try:
        return _TestbedBindings.model_validate(bindings)
    except ValidationError as error:
        item = error.errors()[0]
        raise WrongTrialError(f"bindings.{'.'.join(map(str, item['loc']))}: {plain_message(item['msg'])}.") from error


def _keep(home: Path, kept: Path) -> None:
    """Copy the responder's files from `home` to `kept`.

    If the files exceed 32 MiB in total, write only a note with this fact into `kept`.
    """
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_size for path in files) > _MAX_LEFTOVER_BYTES:
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "TOO_LARGE").write_text(f"What the responder left is larger than {_MAX_LEFTOVER_BYTES:,} bytes.\n")
        return
    for path in files:
        copy = kept / path.relative_to(home)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


@contextmanager
def _responder_home(bindings: Bindings, ids: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the path of the responder's home folder; neither the path nor the content reveals the planned faults.

    If `bindings.keeps_home` is True, all trials of the responder in one run share a folder, one trial at a time.
    Otherwise the folder is new, and is deleted when the block ends.

    Args:
        bindings: how to start the responder.
        ids: the value of the field `ids` in the trial's input file, with `run_id` and `variant_id`.
    """
    if not bindings.keeps_home:
        # Not below the trial's folder, whose documents reveal what the trial is about.
        found = Path(tempfile.mkdtemp(prefix="responder-"))
        try:
            yield found
        finally:
            shutil.rmtree(found, ignore_errors=True)
        return
    # One folder per variant of a run, named by a hash because ids may be invalid as folder names.
    key = hashlib.sha256(json.dumps([ids["run_id"], ids["variant_id"]]).encode()).hexdigest()[:12]
    found = _home() / _RESPONDERS / key
    found.mkdir(parents=True, exist_ok=True)
    # Two responders at the same time would write to one database, and mix up their targets.
    with file_lock(found.parent / f"{key}.lock"):
        yield found
