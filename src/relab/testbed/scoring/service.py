"""Create evaluations in folders, find them again, and read their results. The command line uses this module."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replace_file
from relab.core.errors import InvalidInputError
from relab.testbed.scoring import evaluation
from relab.testbed.scoring.episodes import WrongEpisodeError
from relab.testbed.scoring.evaluation import COMPARED, UNKNOWN, WITH_MODEL, EvaluationRequest, ModelAccess
from relab.testbed.scoring.responder import Bindings
from relab.testbed.scoring.testbeds import keep_testbeds_running

__all__ = [
    "COMPARED",
    "UNKNOWN",
    "Bindings",
    "EvaluationRequest",
    "ModelAccess",
    "begin",
    "kept",
    "outputs",
    "read_plan",
    "read_responder",
    "runs",
    "wants_model",
]

_PLAN: Final = "evaluation.json"
_OUTPUTS: Final = "trials/*/trial_output.json"
"""The runner's own outputs: they include trials whose harness failed or did something that trials may not do."""


class NoEvaluationError(InvalidInputError):
    """A folder has no evaluation, or the evaluation's plan cannot be read."""

    code = "no_evaluation"


class EvaluationExistsError(InvalidInputError):
    """No evaluation can be created in a folder, because the folder already has one."""

    code = "evaluation_exists"


def begin(folder: Path, wanted: EvaluationRequest, *, home: Path, port_base: int) -> dict[str, Any]:
    """Create an evaluation: write its plan, and an experiment for each of its parts; return the plan as JSON.

    A part is a group of episodes (tests) with the responders that run all of them. The plan has the keys `seed`,
    `timeout_s`, `concurrency`, `parts`, `home` and `port_base`.

    Args:
        folder: the new folder of the evaluation.
        wanted: the request for the evaluation.
        home: relab's home folder for the testbeds' files; a short path.
        port_base: the first port of the first testbed.

    Raises:
        EvaluationExistsError: the folder already has an evaluation.
        WrongEpisodeError: the episodes cannot be generated, or `wanted` requests no episodes.
        OSError: the folder cannot be written.
    """
    path = folder / _PLAN
    if path.exists():
        raise EvaluationExistsError(
            f"{folder} already has an evaluation.",
            remedy="Continue it (--continue), read its report (--report), or choose another folder.",
        )
    parts = evaluation.parts_of(wanted)
    if not parts:
        raise WrongEpisodeError(
            "The evaluation has no episodes.", remedy="Request episodes, or episodes with unknown causes."
        )
    evaluation.write(folder, parts, home=home, wanted=wanted, port_base=port_base)
    plan = {**evaluation.to_json(wanted, parts), "home": str(home), "port_base": port_base}
    # Written last, so that a folder with a plan has all of its parts.
    replace_file(path, json.dumps(plan, indent=2).encode())
    return plan


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the stored plan of an evaluation: which experiments it has, and how to run them.

    Args:
        folder: the folder of the evaluation, in which `begin` has written the plan.

    Raises:
        NoEvaluationError: there is no plan, or it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / _PLAN).read_bytes())
    except (OSError, ValueError) as error:
        raise NoEvaluationError(
            f"{folder} has no evaluation to continue.", remedy="Start one without --continue and --report."
        ) from error
    return found


def wants_model(plan: Mapping[str, Any]) -> bool:
    """Return whether a responder in this plan uses a language model, so that the evaluation needs the model's key."""
    return any(WITH_MODEL in part["responders"] for part in plan["parts"])


def read_responder(text: str) -> tuple[str, Bindings]:
    """Return `(name, bindings)` of a responder from the text `NAME=COMMAND`; bindings are its start settings.

    The command is split into words as a shell does.

    Raises:
        WrongEpisodeError: the text does not have this form.
        WrongBindingsError: the command is empty.
    """
    name, equals, command = text.partition("=")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise WrongEpisodeError(f"The command of the responder {name[:100]!r} cannot be read: {error}.") from error
    if not (name and equals):
        raise WrongEpisodeError(f"A responder must be NAME=COMMAND, not {text[:200]!r}.")
    return name, Bindings.read({"responder_command": words})


def kept(plan: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Return a context manager that keeps the testbeds of an evaluation running while its block runs.

    Args:
        plan: the plan of the evaluation, from `begin` or `read_plan`.

    Raises:
        SupervisorBusyError, StartError: a testbed cannot be started; raised when the block is entered.
    """
    return keep_testbeds_running(Path(plan["home"]), plan["concurrency"], plan["port_base"])


def runs(folder: Path) -> list[Path]:
    """Return the folders of the runs of one part (one experiment) of an evaluation, oldest first.

    Args:
        folder: the folder of the part, inside the evaluation's folder.
    """
    return sorted(path for path in (folder / ".lab" / "runs").glob("*") if path.is_dir())


def outputs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the outputs (`trial_output_v1`) of all trials that have ended so far in one part (one experiment).

    Args:
        folder: the folder of the part, inside the evaluation's folder.
    """
    for run in runs(folder):
        for path in sorted(run.glob(_OUTPUTS)):
            yield json.loads(path.read_bytes())
