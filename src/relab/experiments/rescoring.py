"""Score the finished trials of a run again. No trial runs again.

A scorer, a command that the user gives, reads the files of each trial and prints a new outcome and new metrics. The
scores are stored outside of the run's folder, in `.lab/rescored/<run>/<name>/`; the run is not changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jiter
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.clock import Clock, format_time
from relab.core.errors import ConflictError, InvalidInputError
from relab.core.validation import plain_message
from relab.experiments.config.paths import LAB, RESCORED
from relab.experiments.errors import ExperimentInvalidError, RunDamagedError, damaged
from relab.experiments.models import StopSwitch, TrialOutcome
from relab.experiments.records.file_names import MANIFEST, RESOLVED, RUN_CONTROL
from relab.experiments.records.journal import journal_head, read_journal
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.records.seals import digest_of_file, seal
from relab.experiments.results.aggregates import STOPPING
from relab.experiments.results.integrity import damage_of_trial
from relab.experiments.results.result_tables import METRICS, TRIALS, tables_dir, write_tables
from relab.experiments.results.trial_views import changes_of, document_of
from relab.experiments.trial.trial_folder import INPUT, OUTPUT, trial_folder
from relab.experiments.trial.wire import numeric_metrics

RECORD: Final = "rescore.json"
SCORES: Final = "scores.jsonl"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_ANSWER: Final = 1_048_576
_LOOK_S: Final = 0.1
_COPIED: Final = (MANIFEST, RESOLVED, RUN_CONTROL, STOPPING)


class ScoresExistError(ConflictError):
    """The run already has scores of this name."""

    code = "scores_exist"


@dataclass(frozen=True)
class Scorer:
    """A command that scores trials, and how it is used.

    Attributes:
        name: the name under which the scores are stored.
        command: the program and its arguments; it runs in a copy of the trial's workspace.
        timeout_s: the time-out for one trial, in seconds.
        jobs: the number of trials that are scored at the same time.
    """

    name: str
    command: Sequence[str]
    timeout_s: float = 60.0
    jobs: int = 1


@dataclass(frozen=True)
class Rescored:
    """The scores of a run.

    Attributes:
        run_id: the id of the run.
        name: the name of the scores.
        folder: the folder of the scores.
        outcomes: `{variant id: {outcome: number of trials}}` according to the scorer.
        changed: the number of trials whose outcome differs from the outcome in the run.
        failed: the number of trials that the scorer could not score; their outcome is `error`.
        first_error: why the first of the `failed` trials could not be scored; None if `failed` is 0.
    """

    run_id: str
    name: str
    folder: Path
    outcomes: Mapping[str, Mapping[str, int]]
    changed: int
    failed: int
    first_error: str | None


class _Answer(BaseModel):
    """The JSON object that a scorer prints: `outcome`, and optionally `metrics` and `explanation`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    outcome: Literal["success", "failure"]
    metrics: dict[str, Any] = Field(default_factory=dict)
    explanation: Annotated[str, Field(max_length=10_000)] | None = None


def rescore(run: RunFolder, root: Path, scorer: Scorer, *, clock: Clock, stop: StopSwitch) -> Rescored:
    """Run a scorer on the trials of a run, and store the scores.

    Only trials with the outcome success or failure are scored; the other trials keep their outcomes.

    Args:
        run: the run.
        root: the folder of the project, below which the scores are written.
        scorer: the scorer.
        clock: the source of the time in the record.
        stop: when pressed, ends the running scorers, and no scores are stored.

    Raises:
        InvalidInputError: the name, the time-out or the number of jobs is invalid, or the command is empty.
        ExperimentInvalidError: the scorer's program does not exist.
        ScoresExistError: the run already has scores with this name.
        RunDamagedError: the journal or a document of a trial was changed.
        KeyboardInterrupt: `stop` was pressed.
    """
    _check(scorer)
    folder = root / LAB / RESCORED / run.run_id / scorer.name
    if folder.exists():
        raise ScoresExistError(
            f"{run.run_id} has scores {scorer.name!r} already.", remedy=f"Delete {folder}, or choose another name."
        )
    program = shutil.which(scorer.command[0])
    if program is None:
        raise ExperimentInvalidError(
            f"The program {scorer.command[0]!r} of the scorer does not exist or is not executable."
        )
    entries = list(read_journal(run.path))
    for entry in entries:
        for problem in damage_of_trial(run.path, entry):
            raise RunDamagedError(f"{problem}.", remedy="Restore the file from a copy; a changed trial is not scored.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{scorer.name}-", dir=folder.parent) as name:
        made, scratch = Path(name) / "scores", Path(name) / "scratch"
        made.mkdir()
        scratch.mkdir()
        # Absolute, because the scorer runs in the workspace, where a trial may have left a file of the same name.
        files = (str(Path(part).absolute()) if Path(part).is_file() else part for part in scorer.command[1:])
        command = [str(Path(program).absolute()), *files]
        with ThreadPoolExecutor(scorer.jobs) as pool:
            scored = list(pool.map(lambda entry: _score(run, entry, command, scorer.timeout_s, scratch, stop), entries))
        if stop.finish.is_set():
            raise KeyboardInterrupt
        _drop_figures_of_the_run(scored)
        _record(run, scorer, program, scored, made, clock)
        made.rename(folder)
    outcomes: dict[str, Counter[str]] = {}
    for document in scored:
        outcomes.setdefault(document["row"]["variant_id"], Counter())[document["row"]["outcome"]] += 1
    errors = [document["error"] for document in scored if document["error"] is not None]
    changed = sum(document["row"]["outcome"] != document["outcome_before"] for document in scored)
    return Rescored(run.run_id, scorer.name, folder, outcomes, changed, len(errors), next(iter(errors), None))


def rescored_folder(root: Path, run_id: str, name: str) -> Path:
    """Return the folder with the scores that `lab rescore` stored for a run, after a check of its files.

    Each file is checked against its digest in the record of the scores, and the record against its own digest.

    Args:
        root: the folder of the project.
        run_id: the id of the run.
        name: the name under which the scores were stored.

    Raises:
        InvalidInputError: there are no scores with this name.
        RunDamagedError: a file is missing or was changed after it was written.
    """
    folder = root / LAB / RESCORED / run_id / name
    if not _NAME.fullmatch(name) or not (folder / RECORD).is_file():
        known = sorted(path.name for path in folder.parent.glob("[!.]*")) if _NAME.fullmatch(name) else []
        raise InvalidInputError(
            f"{run_id} has no scores {name[:100]!r}.", remedy=f"It has: {', '.join(known) or 'none'}. See lab rescore."
        )
    try:
        record = jiter.from_json((folder / RECORD).read_bytes())
        sealed = (
            seal({**record, "ext": {key: value for key, value in record["ext"].items() if key != "seal"}}) == record
        )
        files = dict(record["ext"]["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder / RECORD, f"cannot be read: {error}") from error
    if not sealed:
        raise damaged(folder / RECORD, "was changed after it was written: its seal does not match")
    for path, digest in files.items():
        if digest_of_file(folder / path) != digest:
            raise damaged(folder / path, f"was changed after it was written: {RECORD} names another digest")
    return folder


def _check(scorer: Scorer) -> None:
    if not _NAME.fullmatch(scorer.name):
        raise InvalidInputError(
            f"The name {scorer.name[:100]!r} is invalid.", remedy="Use letters, digits, '.', '_' and '-'."
        )
    if not scorer.command:
        raise InvalidInputError("The scorer has no command.")
    if not 0 < scorer.timeout_s < float("inf") or not 1 <= scorer.jobs <= 1_000:
        raise InvalidInputError("The time-out must be above 0 s, and the number of jobs from 1 to 1,000.")


def _score(
    run: RunFolder, entry: Mapping[str, Any], command: Sequence[str], timeout_s: float, scratch: Path, stop: StopSwitch
) -> dict[str, Any]:
    """Score a trial with the program `command`; return `{row, outcome_before, metrics, explanation, error}`.

    `row` has the new outcome and metrics; `metrics` lists the names of the metrics that the scorer gave. `explanation`
    is the scorer's explanation; `error` says why the scorer failed. Either may be None.

    The row is unchanged if the trial ended in neither success nor failure, or if `stop` is set.

    `entry` is the journal's entry for the trial. `timeout_s` is the scorer's time-out in seconds. `scratch` is a folder
    for temporary files.
    """
    row = dict(entry["row"])
    document: dict[str, Any] = {
        "row": row, "outcome_before": row["outcome"], "metrics": [], "explanation": None, "error": None
    }  # fmt: skip
    if row["outcome"] not in {TrialOutcome.SUCCESS, TrialOutcome.FAILURE} or stop.finish.is_set():
        return document
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as name:
        try:
            answer = _Answer.model_validate_json(_run(run, entry, command, timeout_s, Path(name), stop))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            document["error"] = (
                f"the answer is invalid: {'.'.join(map(str, problem['loc'])) or 'JSON'}: {plain_message(problem['msg'])}"
            )
        except (OSError, subprocess.SubprocessError, _ScorerError) as error:
            document["error"] = str(error)
    if document["error"] is not None:
        row.update(outcome=TrialOutcome.ERROR.value, error_type="scorer_error", error_message=document["error"][:4_000])
    else:
        given = numeric_metrics(answer.metrics)
        row.update(outcome=answer.outcome, metrics={**row["metrics"], **given}, error_type=None, error_message=None)
        document |= {"metrics": list(given), "explanation": answer.explanation}
    row["success"] = row["outcome"] == TrialOutcome.SUCCESS
    if row["primary_metric_name"] == "success":
        row["primary_metric_value"] = float(row["success"])
    elif row["primary_metric_name"] in document["metrics"]:
        row["primary_metric_value"] = row["metrics"][row["primary_metric_name"]]
    return document


def _drop_figures_of_the_run(scored: Sequence[dict[str, Any]]) -> None:
    """If the scorer gave a metric for some trials only, remove the metric from the rows of the other trials.

    Otherwise a comparison would mix values from the scorer with values from the harness. `scored` has the result of
    `_score` for each trial; its rows are changed.
    """
    names = {name for document in scored for name in document["metrics"]}
    for document in scored:
        foreign = names.difference(document["metrics"])
        row = document["row"]
        row["metrics"] = {name: value for name, value in row["metrics"].items() if name not in foreign}
        if row["primary_metric_name"] in foreign - {"success"}:
            row["primary_metric_value"] = None


class _ScorerError(Exception):
    """The scorer took too long, ended with an exit code other than 0, printed too much, or was stopped."""


def _run(
    run: RunFolder, entry: Mapping[str, Any], command: Sequence[str], timeout_s: float, home: Path, stop: StopSwitch
) -> bytes:
    """Run the scorer `command` in a copy of a trial's workspace; return what the scorer printed.

    `entry` is the trial's journal entry. The folder `home` gets the copy, and is the scorer's home folder. The scorer
    is ended after `timeout_s` seconds, or when `stop` is pressed.

    Raises:
        _ScorerError: the scorer took too long, ended with an exit code other than 0, printed too much, or was stopped.
        OSError: the scorer cannot be started, or the workspace cannot be copied.
    """
    workspace, answer = home / "workspace", home / "answer"
    given = pydantic_core.to_json(_input(run, entry, workspace))
    (home / "score_input.json").write_bytes(given)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
    }
    environment["LAB_SCORE_INPUT"] = str(home / "score_input.json")
    with (
        answer.open("wb") as out,
        (home / "score_input.json").open("rb") as stdin,
        (home / "stderr").open("w+b") as err,
    ):
        process = subprocess.Popen(  # noqa: S603 the user's own scorer
            command, cwd=workspace, env=environment, stdin=stdin, stdout=out, stderr=err, start_new_session=True
        )  # fmt: skip
        try:
            code = _wait(process, timeout_s, stop)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            err.seek(0)
            said = err.read(_MAX_ANSWER).decode(errors="replace").strip()[-500:]
            ended = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
            raise _ScorerError(f"the scorer {ended}" + (f": {said}" if said else ""))
    if answer.stat().st_size > _MAX_ANSWER:
        raise _ScorerError("the scorer printed more than 1 MB")
    return answer.read_bytes()


def _wait(process: subprocess.Popen[bytes], timeout_s: float, stop: StopSwitch) -> int:
    end_by = time.monotonic() + timeout_s
    while not stop.finish.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(_LOOK_S, max(end_by - time.monotonic(), 0)))
        if time.monotonic() >= end_by:
            raise _ScorerError(f"the scorer took longer than {timeout_s:g} s")
    raise _ScorerError("the scorer was stopped")


def _input(run: RunFolder, entry: Mapping[str, Any], workspace: Path) -> dict[str, Any]:
    """Copy the workspace of a trial to `workspace`; return the scorer's input, the document `score_input_v1`.

    `entry` is the trial's journal entry. The copy is an empty folder if the run did not keep the workspace.
    """
    row = entry["row"]
    folder = trial_folder(run.path, row["trial_id"])
    has_workspace = folder.workspace.is_dir() and not folder.workspace.is_symlink()
    if has_workspace:
        shutil.copytree(folder.workspace, workspace, symlinks=True, ignore=_special_files)
    else:
        workspace.mkdir()
    trial_input = document_of(folder, INPUT) or {}
    names = ("trial_id", "variant_id", "task_id", "repl_idx")
    return {
        "schema_version": "score_input_v1",
        "ids": {"run_id": run.run_id, **{name: row[name] for name in names}},
        "task": trial_input.get("task"),
        "bindings": trial_input.get("bindings"),
        "outcome": row["outcome"],
        "metrics": row["metrics"],
        "output": document_of(folder, OUTPUT),
        "changes": changes_of(run.path, entry),
        "paths": {
            "workspace": str(workspace) if has_workspace else None,
            "stdout": str(folder.stdout),
            "stderr": str(folder.stderr),
            "events": str(folder.host_path(run.config.runtime.harness.events.path)),
        },
    }


def _special_files(folder: str, names: list[str]) -> list[str]:
    """Return the `names` in `folder` that are pipes, sockets or devices, which cannot be copied without blocking."""
    kinds = ((name, (Path(folder) / name).lstat().st_mode) for name in names)
    return [name for name, mode in kinds if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))]


def _record(
    run: RunFolder, scorer: Scorer, program: str, scored: Sequence[Mapping[str, Any]], folder: Path, clock: Clock
) -> None:
    for name in _COPIED:
        if (run.path / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / name, folder / name)
    with (folder / SCORES).open("wb") as file:
        file.writelines(pydantic_core.to_json(document, inf_nan_mode="constants") + b"\n" for document in scored)
    write_tables(folder, (document["row"] for document in scored))
    tables = [str((tables_dir(folder) / f"{name}.parquet").relative_to(folder)) for name in (TRIALS, METRICS)]
    kept = [name for name in (*_COPIED, SCORES, *tables) if (folder / name).is_file()]
    scripts = {part: digest_of_file(Path(part)) for part in (program, *scorer.command[1:]) if Path(part).is_file()}
    head = journal_head(run.path)
    record = {
        "schema_version": "rescore_v1",
        "run_id": run.run_id,
        "name": scorer.name,
        "created_at": format_time(clock.now_us()),
        "command": list(scorer.command),
        "digests": scripts,
        "journal": None if head is None else head.to_json(),
        "ext": {"files": {name: digest_of_file(folder / name) for name in kept}},
    }
    (folder / RECORD).write_bytes(pydantic_core.to_json(seal(record), indent=2) + b"\n")
