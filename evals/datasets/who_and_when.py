"""Who&When: conversations of teams of agents that all ended in a wrong answer.

Every history entry becomes the step `turn-<index>`, with the index that the labels use. The two subsets spell the
speaker differently: algorithm-generated entries have `name`, hand-crafted ones only `role`, such as `Orchestrator (->
WebSurfer)`. Where the executor reports the exit code of a script, that is also a tool call of the turn that wrote the
script. A turn itself does not fail; a call does, and so does the run: its error is the last exception that the runtime
logged, else the limit that stopped it. Labels (`mistake_*`, `ground_truth`) are never read. The log has no times: see
`synthetic_clock`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evals.datasets.source import Body, Record, Source, read_json
from evals.datasets.synthetic_clock import moment

NAME = "who-and-when"


@dataclass(frozen=True)
class Subset:
    """One of the two halves of the data set.

    Attributes:
        folder: the folder of its files.
        short: its part of a run id.
        agent: the name of the system that held the conversations.
    """

    folder: str
    short: str
    agent: str


ALGORITHM_GENERATED = Subset("Algorithm-Generated", "algorithm", "captain-agent")
HAND_CRAFTED = Subset("Hand-Crafted", "hand", "magentic-one")

EXECUTORS = frozenset({"Computer_terminal", "ComputerTerminal"})
"""The speakers that run scripts."""

_EXECUTION = (
    re.compile(r"exitcode: (?P<code>-?\d+) \(execution \w+\)\nCode output: ?(?P<output>.*)", re.DOTALL),
    re.compile(
        r"The script ran, then exited with Unix exit code: (?P<code>-?\d+)\nIts output was:\n(?P<output>.*)", re.DOTALL
    ),
    re.compile(
        r"The script ran but produced no output to console\. The Unix exit code was: (?P<code>-?\d+)\.(?P<output>).*"
    ),
)
"""The formats in which the executors of the two systems report that a script ran."""

_CODE_BLOCK = re.compile(r"```(?:[\w+-]*)\n(.*?)```", re.DOTALL)
_EXCEPTION = re.compile(
    r'^ +File ".*\n'
    r"(?:[ \t].*\n)*"
    r"(?P<class>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$",
    re.MULTILINE,
)
"""The end of a Python traceback: indented frames, then the exception with the first line of its message."""

_RUNTIME_CRASH = re.compile(r"^Error processing publish message\nTraceback ", re.MULTILINE)
"""The log of the hand-crafted subset's runtime, after the last turn, when an agent's handler raised an exception."""

_STOPPED = re.compile(r"Max (?:rounds|time) \(\w+\) reached\.")


def agent_run_of_conversation(record: Record, subset: Subset, number: str) -> Body:
    """Convert one conversation to the body of a run.

    Args:
        record: the record; only `history` and `question_ID` are read.
        subset: the half of the set that it belongs to.
        number: the name of its file without suffix, to which the published labels refer.
    """
    history: list[Record] = record["history"]
    calls = (_tool_call(history, index) for index in range(len(history)))
    run: Body = {
        "run_id": f"who-and-when-{subset.short}-{number}",
        "agent_name": subset.agent,
        "environment": NAME,
        "started_at": moment(0),
        "status": "failure",
        "task_id": record["question_ID"],
        "steps": [_step(entry, index) for index, entry in enumerate(history)],
        "tool_calls": [call for call in calls if call is not None],
    }
    error = _run_error(history[-1]["content"])
    if error is not None:
        run["error_type"], run["error_message"] = error
    return run


def _speaker(entry: Record) -> str:
    return str(entry.get("name") or entry["role"])


def _step(entry: Record, index: int) -> Body:
    speaker = _speaker(entry)
    return {
        "step_id": f"turn-{index}",
        "name": speaker,
        "agent_name": speaker.partition(" (")[0],
        "status": "success",
        "started_at": moment(index),
        "output_summary": entry["content"],
    }


def _tool_call(history: list[Record], index: int) -> Body | None:
    """Return the tool call of the script that an executor's turn reports on, or None for any other turn."""
    entry = history[index]
    speaker = _speaker(entry)
    if speaker not in EXECUTORS:
        return None
    report = next((match for form in _EXECUTION if (match := form.fullmatch(entry["content"]))), None)
    if report is None:
        return None
    author, blocks = _script(history, index)
    exit_code = int(report["code"])
    call: Body = {
        "call_id": f"call-{index}",
        "step_id": f"turn-{author}",
        "tool_name": speaker,
        "status": "success" if exit_code == 0 else "failure",
        "args_json": {"code": blocks} if blocks else None,
        "result_summary": report["output"],
        "exit_code": exit_code,
        "started_at": moment(index),
    }
    if exit_code != 0:
        call["error_class"], call["error_message"] = _last_exception(report["output"]) or (None, report["output"])
    return call


def _script(history: list[Record], index: int) -> tuple[int, list[str]]:
    """Return (turn, code blocks) of the newest earlier turn with code blocks, which wrote the script.

    Without such a turn, return the executor's own turn and no code blocks.
    """
    for author in range(index - 1, -1, -1):
        blocks = _CODE_BLOCK.findall(history[author]["content"])
        if blocks:
            return author, blocks
    return index, []


def _last_exception(text: str) -> tuple[str, str] | None:
    found = list(_EXCEPTION.finditer(text))
    return (found[-1]["class"], found[-1]["message"] or "") if found else None


def _run_error(last_turn: str) -> tuple[str | None, str] | None:
    crash = _RUNTIME_CRASH.search(last_turn)
    if crash:
        log = last_turn[crash.start() :]
        return _last_exception(log) or (None, log)
    stopped = _STOPPED.match(last_turn)
    return (None, stopped[0]) if stopped else None


def read(folder: Path) -> Iterator[Body]:
    """Yield the run of every conversation of both subsets."""
    for subset in (ALGORITHM_GENERATED, HAND_CRAFTED):
        paths = [path for path in (folder / subset.folder).glob("*.json") if path.stem.isdecimal()]
        for path in sorted(paths, key=lambda path: int(path.stem)):
            yield agent_run_of_conversation(read_json(path), subset, path.stem)


SOURCE = Source(NAME, expected=184, read=read)
