"""The documents that runner and harness exchange: `trial_input_v1` in, `trial_output_v1` out, and the control file."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import MalformedBodyError
from relab.core.json import parse_json
from relab.core.validation import message_with_value
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.sanitization import contract_profile
from relab.experiments.models import ErrorType, TrialIds, TrialOutcome
from relab.experiments.plan.dataset import Task
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.protocol import Places
from relab.experiments.workspace.untrusted_files import open_plain, path_exists, read_plain

MAX_OUTPUT_BYTES: Final = 64 * 1_048_576
MAX_LAST_LINE_BYTES: Final = 16 * 1_048_576
MAX_METRICS: Final = 1_000
MAX_METRIC_NAME: Final = 200
_MAX_NAMED: Final = 10
_NO_OUTPUT: Final = (
    "no output, neither the file that AGENTLAB_TRIAL_OUTPUT names nor a JSON object in the last line of standard output"
)
_BUDGETS = ("max_steps", "max_total_tokens", "max_tool_calls")


def trial_input(
    config: ExperimentConfig, trial: Trial, places: Places, ext: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the document that the harness of one trial reads, the JSON object `trial_input_v1`.

    Args:
        config: the experiment, with overrides applied.
        trial: the trial. The document contains the variant's bindings (the values that the harness gets).
        places: the trial's folders, as paths inside the sandbox.
        ext: additions to the document's `ext`, for example about the pause of a resumed trial; None for no additions.
    """
    task = trial.task
    control_plane = config.runtime.harness.control_plane
    runtime: dict[str, Any] = {
        "paths": {
            "workspace": places.workspace,
            "state": places.state,
            "dataset": places.dataset,
            "out": places.out,
            "tmp": places.tmp,
        },
        "network": {
            "mode_requested": config.runtime.network.mode.value,
            "allowed_hosts": config.runtime.network.allowed_hosts,
        },
        "control_plane": {"mode": control_plane.mode, "path": places.inside(control_plane.path)},
    }
    budgets = budgets_of(config, task)
    if budgets:
        runtime["budgets"] = budgets
    timeouts = {"trial_seconds": trial_seconds(config, task), "tool_seconds": config.runtime.timeouts.tool_seconds}
    seconds = {name: value for name, value in timeouts.items() if value is not None}
    if seconds:
        # The contract has whole seconds. Rounded down, so that a harness that stops itself does so before the runner kills it.
        runtime["timeouts"] = {name: max(int(value), 1) for name, value in seconds.items()}
    profile, is_known = contract_profile(config.design.sanitization_profile)
    document: dict[str, Any] = {
        "schema_version": "trial_input_v1",
        "ids": trial.ids.to_json(),
        "task": task.payload,
        "workload": {"type": config.experiment.workload_type},
        "bindings": trial.variant.bindings,
        "design": {
            "sanitization_profile": profile,
            "integration_level": config.runtime.harness.integration_level.value,
        },
        "runtime": runtime,
    }
    added = dict(ext or {})
    if not is_known:
        added["sanitization_profile"] = config.design.sanitization_profile.value
    if any(value != runtime["timeouts"][name] for name, value in seconds.items()):
        added["timeouts"] = seconds
    if task.boundary:
        added["task_boundary_v1"] = _boundary(task)
    return {**document, "ext": added} if added else document


def budgets_of(config: ExperimentConfig, task: Task) -> dict[str, int]:
    """Return the limits of a trial on steps, tokens and tool calls, by name; a name without a limit is absent.

    The task's limits override those of the experiment (`config`).
    """
    given = config.runtime.budgets.model_dump()
    found = {name: task.limits.get(name, given[name]) for name in _BUDGETS}
    return {name: int(value) for name, value in found.items() if value is not None}


def trial_seconds(config: ExperimentConfig, task: Task) -> float | None:
    """Return the time-out of a trial in seconds, None for no limit; the task's time-out overrides the experiment's."""
    return task.limits.get("trial_seconds", config.runtime.timeouts.trial_seconds)


def _boundary(task: Task) -> dict[str, Any]:
    return {
        "workspace_files": [{"path": item.path, "executable": item.executable} for item in task.files],
        "mount_references": [
            {"dataset_pack_ref": mount.ref, "mount_path": mount.path, "read_only": True} for mount in task.mounts
        ],
        "limits": dict(task.limits),
    }


# --- the output --------------------------------------------------------------------------------------------------


class _Open(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Objective(_Open):
    """The objective of a training run: the metric that it optimizes, the metric's value, and the better direction."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_METRIC_NAME)]
    value: float | None
    direction: Literal["maximize", "minimize"] | None = None


class ArtifactRef(_Open):
    """A file of the workspace that the harness names as a result; `logical_name` is an optional name to show."""

    path: str
    logical_name: str | None = None
    mime_type: str | None = None


class Checkpoint(_Open):
    """A file or folder with a state from which a trial can be continued; `step` and `epoch` say when it was written."""

    path: str
    logical_name: str | None = None
    step: int | None = None
    epoch: int | None = None

    @property
    def name(self) -> str:
        """The name to show: the logical name (the harness gave it) or, without one, the path."""
        return self.logical_name or self.path


class OutputError(_Open):
    """The harness's own report of why a trial failed."""

    error_type: str | None = None
    message: str | None = None
    stack: str | None = None


class OutputIds(_Open):
    """The ids of the trial that the output belongs to; `repl_idx` is the number of the repeat, from 0."""

    run_id: str
    trial_id: str
    variant_id: str
    task_id: str
    repl_idx: int


class TrialOutput(_Open):
    """The document that a harness writes as the result of a trial (`trial_output_v1`).

    `answer` is the answer to the task, of any type. `metrics` is `{name: value}`. A harness that trains a model also
    reports its `objective` (the metric that it optimizes, with the value) and `checkpoints`. `error` says why the trial
    failed. Only `ext` may have unknown fields.
    """

    schema_version: Literal["trial_output_v1"]
    ids: OutputIds
    outcome: Annotated[TrialOutcome, Field(strict=False)]
    answer: Any = None
    metrics: dict[str, Any] = {}
    objective: Objective | None = None
    artifacts: list[ArtifactRef] = []
    checkpoints: list[Checkpoint] = []
    error: OutputError | None = None
    ext: dict[str, Any] = {}


@dataclass(frozen=True)
class ReadOutput:
    """The output of a harness, or the reason why it cannot be used.

    Attributes:
        raw: the JSON object as the harness wrote it; empty if the harness wrote none.
        output: the validated document; None if there is none, or it is invalid.
        error_type, message: why the output cannot be used, if `output` is None.
    """

    raw: dict[str, Any] = field(default_factory=dict)
    output: TrialOutput | None = None
    error_type: ErrorType | None = None
    message: str | None = None


def read_output(path: Path, stdout: Path, ids: TrialIds, exit_code: int | None, *, below: Path) -> ReadOutput:
    """Read and validate the output of a trial: the output file, or else a JSON object in the last line of stdout.

    Args:
        path: the output file.
        stdout: the file with the harness's standard output.
        ids: the ids that the output must contain.
        exit_code: the exit code of the harness, for the message about a missing output.
        below: the trial's folder; no link below it is followed.
    """
    if not path_exists(path, below=below):
        return _read_last_line(stdout, ids, exit_code, below)
    raw = read_plain(path, MAX_OUTPUT_BYTES, below=below)
    if raw is None:
        return _unread(
            ErrorType.INVALID_OUTPUT, f"the output must be a regular file of at most {MAX_OUTPUT_BYTES:,} bytes"
        )
    try:
        document = parse_json(raw, "the output")
    except MalformedBodyError as error:
        return _unread(ErrorType.INVALID_OUTPUT, str(error))
    if not isinstance(document, dict):
        return _unread(ErrorType.INVALID_OUTPUT, "the output must be a JSON object")
    return _check(document, ids)


def written_document(path: Path, stdout: Path, *, below: Path) -> dict[str, Any] | None:
    """Return the JSON object that a harness wrote as its output, without validating it; None if it wrote none.

    Args:
        path: the output file.
        stdout: the file with the harness's standard output, whose last line is used if there is no output file.
        below: the trial's folder; no link below it is followed.
    """
    is_file = path_exists(path, below=below)
    raw = read_plain(path, MAX_OUTPUT_BYTES, below=below) if is_file else last_line(stdout, below)
    try:
        document = parse_json(raw or b"")
    except MalformedBodyError:
        return None
    return document if isinstance(document, dict) else None


def _read_last_line(stdout: Path, ids: TrialIds, exit_code: int | None, below: Path) -> ReadOutput:
    line, document, hint = last_line(stdout, below) or b"", None, ""
    try:
        document = parse_json(line, "the last line of standard output")
    except MalformedBodyError as error:
        # A line that begins with `{` was meant as the output, so the message says why it cannot be read.
        hint = f": {str(error).rstrip('.')}" if line.startswith(b"{") else ""
    if isinstance(document, dict):
        return _check(document, ids)
    ended = "ended with" if exit_code is None or exit_code >= 0 else "was ended by signal"
    code = "no exit code" if exit_code is None else abs(exit_code) if exit_code < 0 else f"code {exit_code}"
    return _unread(ErrorType.HARNESS_PROCESS, f"the harness {ended} {code} and wrote {_NO_OUTPUT}{hint}")


def _check(document: dict[str, Any], ids: TrialIds) -> ReadOutput:
    try:
        output = TrialOutput.model_validate(document)
    except ValidationError as error:
        return ReadOutput(document, None, ErrorType.INVALID_OUTPUT, _problem_of(error))
    if output.ids.model_dump() != ids.to_json():
        wrong = [name for name, value in ids.to_json().items() if getattr(output.ids, name) != value]
        return ReadOutput(
            document,
            None,
            ErrorType.FOREIGN_OUTPUT,
            f"the output has the ids of another trial: {wrong[0]} is {str(getattr(output.ids, wrong[0]))[:100]!r}",
        )
    return ReadOutput(document, output)


def _problem_of(error: ValidationError) -> str:
    """Return why an output is invalid: all missing fields, or else the first wrong value, or else the unknown fields."""
    found = [(item["type"], ".".join(map(str, item["loc"]))[:200], item) for item in error.errors(include_url=False)]
    if missing := [name for kind, name, _ in found if kind == "missing"]:
        return f"the output lacks {', '.join(missing)}; its format: lab schema-validate --schema trial_output_v1"
    for kind, name, item in found:
        if kind != "extra_forbidden":
            return f"the output's field {name}: {message_with_value(item)}"
    unknown = ", ".join(name for _, name, _ in found[:_MAX_NAMED])
    return f"the output has fields that its format lacks: {unknown}; write numbers to metrics, other values to ext"


def _unread(error_type: ErrorType, message: str) -> ReadOutput:
    return ReadOutput({}, None, error_type, message)


def last_line(path: Path, below: Path) -> bytes | None:
    """Return the last non-blank line of a file, reading only the last `MAX_LAST_LINE_BYTES` bytes.

    Return None if the file has no such line. No link below the folder `below` is followed.
    """
    file = open_plain(path, below=below)
    if file is None:
        return None
    with file:
        file.seek(max(os.fstat(file.fileno()).st_size - MAX_LAST_LINE_BYTES, 0))
        tail = file.read(MAX_LAST_LINE_BYTES).rstrip()
    return tail.rsplit(b"\n", 1)[-1].strip() or None


def error_output(ids: TrialIds, outcome: TrialOutcome, error_type: str, message: str) -> dict[str, Any]:
    """Return the JSON object `trial_output_v1` that the runner writes for a trial with an error that the runner found.

    Args:
        ids: the ids of the trial.
        outcome: the outcome of the trial.
        error_type: the type of the error.
        message: one sentence about the error, such as an exceeded limit or an invalid output.
    """
    return {
        "schema_version": "trial_output_v1",
        "ids": ids.to_json(),
        "outcome": outcome.value,
        "error": {"error_type": error_type, "message": message},
    }


def numeric_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics that a table can hold: finite numbers, booleans, and texts cut to 1,000 characters.

    Metrics with a name of more than 200 characters are left out, and so are all after the first 1,000 metrics.
    """
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if len(found) >= MAX_METRICS:
            break
        if len(name) > MAX_METRIC_NAME:
            continue
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            # A scorer may print an integer that no float can hold.
            with contextlib.suppress(OverflowError):
                found[name] = float(value)
        elif isinstance(value, bool) or (isinstance(value, (int, float)) and math.isfinite(value)):
            found[name] = value
        elif isinstance(value, str):
            found[name] = value[:1_000]
    return found


# --- the control file ---------------------------------------------------------------------------------------------


def control_document(
    requested_at: str,
    *,
    seq: int = 0,
    action: Literal["continue", "checkpoint", "stop"] = "continue",
    label: str | None = None,
    requested_by: Literal["run_loop", "lab_pause"] = "run_loop",
) -> dict[str, Any]:
    """Return the content of the control file, the JSON object `control_plane_v1`.

    In the control file, the runner asks the harness to continue, to write a checkpoint, or to stop.

    With the defaults, this is the content at the start of a trial.

    Args:
        requested_at: the present time, in ISO 8601.
        seq: the number of the request; it counts up from 0.
        action: what the harness must do after its current step.
        label: a name for the checkpoint that the harness is asked for; None for no name.
        requested_by: the program that makes the request.
    """
    return {
        "schema_version": "control_plane_v1",
        "seq": seq,
        "action": action,
        "label": label,
        "requested_at": requested_at,
        "requested_by": requested_by,
    }


def write_json(path: Path, document: Any) -> bytes:
    """Write a document as indented JSON; return the bytes."""
    raw = to_json_bytes(document)
    path.write_bytes(raw)
    return raw


def to_json_bytes(document: Any, *, indent: int | None = 2) -> bytes:
    """Return a document as JSON in UTF-8, with a newline at the end.

    `indent` is the number of spaces per level; None writes the document on one line.
    """
    return pydantic_core.to_json(document, indent=indent) + b"\n"
