"""The answers of `lab` commands, typed, and the error of a command that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class LabRunnerError(Exception):
    """A command of `lab` failed.

    Attributes:
        code: the error code, such as `experiment_invalid`.
        details: further details of the error, as JSON values.
        exit_code: the exit code of the process; None if it could not be started.
        stderr: the text that the process wrote to stderr.
        command: the program and its arguments.
    """

    def __init__(
        self, code: str, message: str, *, details: Any, exit_code: int | None, stderr: str, command: Sequence[str]
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.exit_code = exit_code
        self.stderr = stderr
        self.command = list(command)


@dataclass(frozen=True, slots=True)
class Described:
    """The answer of `lab describe`; `summary` is the plan of the experiment as JSON."""

    summary: dict[str, Any]

    @property
    def total_trials(self) -> int:
        """The number of planned trials."""
        return int(self.summary["total_trials"])


@dataclass(frozen=True, slots=True)
class RunReference:
    """The id and the folder of a run."""

    run_id: str
    run_dir: str


@dataclass(frozen=True, slots=True)
class RunResponse:
    """The result of a run.

    Attributes:
        run: the id and the folder of the run.
        finished: whether no trial is left to run.
        outcomes: `{variant id: {outcome: number of trials}}`.
        response: the whole answer of `lab`, as JSON.
    """

    run: RunReference
    finished: bool
    outcomes: dict[str, dict[str, int]]
    response: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Validated:
    """The answer of a validation command: `knobs-validate`, `hooks-validate` or `schema-validate`.

    Attributes:
        valid: always True, because an invalid file raises `LabRunnerError`.
        values: after `knobs-validate`, the value of each knob; after `hooks-validate`, `events` (their number) and
            `counts` (the number by type); after `schema-validate`, `schema` (its name) and `documents` (their number).
    """

    valid: bool
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """The verdict on a run; `response` is the whole answer of `lab`, as JSON.

    `verdict` is PASS, FAIL, EDGE (the confidence interval is too wide to decide between PASS and FAIL) or INVALID.
    """

    verdict: str
    response: dict[str, Any]
