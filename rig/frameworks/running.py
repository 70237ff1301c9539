"""Run a framework's program for one case in the framework's environment, and collect its results."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.frameworks.cases import CASES, MODELS, SESSION_ID, STEP_LIMIT, USER_ID, Case, TrueOutcome
from rig.frameworks.catalogue import PROGRAMS, Framework
from rig.frameworks.environments import command
from rig.frameworks.model_server import ModelCall, Script, scripted_model
from rig.frameworks.receiver import Export, receiving

TIMEOUT_S = 180
_ENDED = "ENDED "


class ProgramError(Exception):
    """A program did not run its case as expected; the message has the end of its output."""


@dataclass(frozen=True)
class Ran:
    """One run of a program.

    Attributes:
        answer: the final answer, or the answers by agent; None if there is none.
        raised: `{class, message}` of the exception that reached the program from the agent; None if none did.
        tool_runs: the calls that the tools logged, in order: `{tool, arguments, result}`, or `error`
            (`{class, message}`) in place of `result`.
        model_calls: the calls that the model server answered, in order.
        exports: the requests of the exporter, in order.
    """

    answer: Any
    raised: dict[str, str] | None
    tool_runs: Sequence[dict[str, Any]]
    model_calls: Sequence[ModelCall]
    exports: Sequence[Export]


def run_program(framework: Framework, case_name: str, environments: Path) -> Ran:
    """Run a framework's program for one case with a scripted model, and return its results.

    Args:
        framework: the framework.
        case_name: the name of the case in `CASES`.
        environments: the folder with the environments of all frameworks.

    Raises:
        ProgramError: the program crashed or did not do what the case requires, its model was called otherwise than
            scripted, or it exported nothing, or something other than OTLP.
        subprocess.TimeoutExpired: the program took more than three minutes.
    """
    script = Script(CASES[case_name])
    with (
        tempfile.TemporaryDirectory(prefix="framework-") as folder,
        scripted_model(script) as model_url,
        receiving() as received,
    ):
        log = Path(folder, "tools.jsonl")
        log.touch()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "PYTHONPATH": str(PROGRAMS),
            # Python would write compiled files next to the programs, into the repository.
            "PYTHONPYCACHEPREFIX": str(environments / "pycache"),
            "OPENAI_BASE_URL": model_url,
            "OPENAI_API_KEY": "scripted",
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "SHOP_LOG": str(log),
            "SHOP_QUESTIONS": json.dumps(CASES[case_name].questions),
            "SHOP_MODELS": json.dumps(MODELS),
            "SHOP_SESSION_ID": SESSION_ID,
            "SHOP_USER_ID": USER_ID,
            "SHOP_STEP_LIMIT": str(STEP_LIMIT),
            **framework.environment,
        }
        words = [*command(framework, environments), case_name]
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        tool_runs = [json.loads(line) for line in log.read_text().splitlines()]
    ended = next((line for line in reversed(done.stdout.splitlines()) if line.startswith(_ENDED)), None)
    found = json.loads(ended.removeprefix(_ENDED)) if ended else {"answer": None, "raised": None}
    ran = Ran(found["answer"], found["raised"], tool_runs, script.calls, received.exports)
    problems = [*script.problems, *received.problems, *_deviations(CASES[case_name], ran)]
    if done.returncode or ended is None or problems:
        raise ProgramError(
            f"{framework.folder} {case_name}: exit code {done.returncode}; {'; '.join(problems)}\n"
            f"{(done.stdout + done.stderr)[-4000:]}"
        )
    return ran


def _deviations(case: Case, ran: Ran) -> Iterator[str]:
    """Yield a message for each deviation of a run from its case."""
    if not ran.exports:
        yield "nothing was exported"
    if case.outcome is TrueOutcome.FAILED and ran.raised is None:
        yield "no exception reached the program"
    for agent in case.turns:
        if all(call.agent != agent for call in ran.model_calls):
            yield f"{agent} never called its model"
