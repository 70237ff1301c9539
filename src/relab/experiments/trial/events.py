"""Read `harness_events.jsonl`, the events that a harness writes while it works, and validate each line.

An invalid line does not affect the other lines; the trial's row has the number of invalid lines. The schema
`hook_events_v1` of AgentLab (an experiment runner whose file formats relab keeps) defines the kinds of events and their
fields.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from relab.core.clock import parse_time
from relab.core.errors import MalformedBodyError
from relab.core.json import is_number, parse_json
from relab.experiments.models import TrialIds
from relab.experiments.workspace.untrusted_files import open_plain

REQUIRED: Final = ("event_type", "ts", "seq", "ids")
MAX_EVENTS_BYTES: Final = 256 * 1_048_576
MAX_LINE_BYTES: Final = 1_048_576
MAX_EVENTS: Final = 100_000
MAX_KINDS: Final = 1_000
MAX_KIND_CHARS: Final = 200
MAX_PROBLEMS: Final = 20
_VERSION = re.compile("sha256:[0-9a-f]{64}")


@dataclass
class EventStream:
    """The events of a trial, and the problems in its file of events.

    Attributes:
        events: the valid events, in the order of the file. An event that only violates the control protocol is valid.
        counts: the number of events by type, including unknown types.
        problems: the first `MAX_PROBLEMS` problems, each with its line number.
        problem_count: the number of problems.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def note(self, line: int, problem: str) -> None:
        """Record a problem of the line with this number in the events file."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"line {line}: {problem}")

    def sum_of(self, kind: str, *path: str) -> float | None:
        """Return the sum of a field over the events of a kind; values that are not numbers are ignored.

        Return None if no event has a number in the field, or the sum is too large to store. `path` has the names of
        nested fields, the outermost first.
        """
        found = [value for event in self.events if event["event_type"] == kind for value in [_at(event, path)]]
        numbers = [value for value in found if is_number(value)]
        if not numbers:
            return None
        try:
            total = sum(numbers)
        except OverflowError:
            return None
        # A sum that the tables cannot store is dropped.
        return total if abs(total) < 2**63 else None


class _Dialogue:
    """Checks the events of a harness against the control protocol.

    The runner writes a command to the control file: continue, write a checkpoint, or stop. After the end of each step,
    the harness reads this file and reports an event `control_ack`. After it has acknowledged a stop, it must not start
    a step until the trial is resumed.

    Args:
        is_answered: whether the harness must report `control_ack`; the integration levels `sdk_control` and `sdk_full`
            require it.
        resumed_after: the `seq` of the last event before each pause of the trial, ascending.
    """

    def __init__(self, *, is_answered: bool, resumed_after: Sequence[int] = ()) -> None:
        self._is_answered = is_answered
        self._pauses = deque(resumed_after)
        self._owed: int | None = None
        self._stopped = False

    def problem(self, event: dict[str, Any], line: int) -> str | None:
        """Return a sentence that says how the next event violates the control protocol; None if it does not.

        `line` is the number of the event's line in the file.
        """
        kind, owed = event["event_type"], self._owed
        while self._pauses and event["seq"] > self._pauses[0]:
            self._pauses.popleft()
            self._stopped = False
        if kind == "control_ack":
            self._owed = None
            self._stopped = self._stopped or event.get("action_observed") == "stop"
            version = event.get("control_version")
            if self._is_answered and not (isinstance(version, str) and _VERSION.fullmatch(version)):
                return "control_version is sha256: and 64 hex digits, of the control file as it was read"
        elif kind == "agent_step_start" and self._stopped:
            return "a step starts after a stop was acknowledged"
        elif kind in {"agent_step_start", "agent_step_end"}:
            self._owed = line if kind == "agent_step_end" else None
            return self._unanswered(owed)
        return None

    def last_problem(self) -> str | None:
        """Return a sentence if the events end before the `control_ack` that must follow a step's end; else None.

        Call this method after `problem` was called for all events.
        """
        return self._unanswered(self._owed)

    def _unanswered(self, owed: int | None) -> str | None:
        if not self._is_answered or owed is None:
            return None
        return f"no control_ack follows the agent_step_end of line {owed}"


def read_events(
    path: Path, ids: TrialIds, *, below: Path, is_answered: bool = False, resumed_after: Sequence[int] = ()
) -> EventStream:
    """Read and validate the events that a harness has written; the result is empty if the file does not exist.

    Args:
        path: the file.
        ids: the ids that each event must have.
        below: the trial's folder; no link below it is followed.
        is_answered: whether an event `control_ack` must follow the end of each step, as the integration levels
            `sdk_control` and `sdk_full` require. It acknowledges the runner's command.
        resumed_after: the `seq` of the last event before each pause of the trial, ascending. After a pause, steps may
            start again, although the harness has acknowledged a stop.
    """
    stream = EventStream()
    file = open_plain(path, below=below)
    if file is None:
        return stream
    with file:
        _read_into(stream, file, ids, _Dialogue(is_answered=is_answered, resumed_after=resumed_after))
    return stream


def _read_into(stream: EventStream, file: BinaryIO, ids: TrialIds, dialogue: _Dialogue) -> None:
    last_seq: int | None = None
    number = 0
    for number, raw in _lines(file, stream):
        event = _event(raw, ids, number, stream)
        if event is None:
            continue
        if last_seq is not None and event["seq"] <= last_seq:
            stream.note(number, f"seq {event['seq']} does not come after {last_seq}")
            continue
        problem = dialogue.problem(event, number)
        if problem is not None:
            stream.note(number, problem)
        if len(stream.counts) >= MAX_KINDS and event["event_type"] not in stream.counts:
            stream.note(number, f"more than {MAX_KINDS:,} kinds of events")
            continue
        last_seq = event["seq"]
        stream.events.append(event)
        stream.counts[event["event_type"]] += 1
        if len(stream.events) >= MAX_EVENTS:
            stream.note(number, f"more than {MAX_EVENTS:,} events; the rest is not read")
            return
    unanswered = dialogue.last_problem()
    if unanswered is not None:
        stream.note(number, unanswered)


def _lines(file: BinaryIO, stream: EventStream) -> Iterator[tuple[int, bytes]]:
    taken = number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        taken += len(line)
        is_long = len(line) > MAX_LINE_BYTES
        while is_long and line and not line.endswith(b"\n") and taken <= MAX_EVENTS_BYTES:
            line = file.readline(MAX_LINE_BYTES)
            taken += len(line)
        if is_long:
            stream.note(number, f"longer than {MAX_LINE_BYTES:,} bytes")
        if taken > MAX_EVENTS_BYTES:
            stream.note(number, f"more than {MAX_EVENTS_BYTES:,} bytes; the rest is not read")
            return
        if not is_long and line.strip():
            yield number, line


def _event(raw: bytes, ids: TrialIds, number: int, stream: EventStream) -> dict[str, Any] | None:
    try:
        event = parse_json(raw.strip(), "the event")
    except MalformedBodyError as error:
        stream.note(number, str(error))
        return None
    problem = _wrong(event, ids)
    if problem is not None or not isinstance(event, dict):
        stream.note(number, problem or "an event is a JSON object")
        return None
    return event


def _wrong(event: Any, ids: TrialIds) -> str | None:
    if not isinstance(event, dict):
        return "an event is a JSON object"
    missing = [name for name in REQUIRED if name not in event]
    if missing:
        return f"{missing[0]} is missing"
    kind, seq = event["event_type"], event["seq"]
    if (
        not isinstance(kind, str)
        or not 1 <= len(kind) <= MAX_KIND_CHARS
        or type(seq) is not int
        or not 0 <= seq < 2**63
    ):
        return f"event_type is a text of 1 to {MAX_KIND_CHARS} characters, and seq a whole number from 0 on"
    if event["ids"] != ids.to_json():
        return "ids belong to another trial"
    try:
        parse_time(event["ts"])
    except (ValueError, TypeError, AttributeError):
        return f"ts {str(event['ts'])[:60]!r} is no time"
    return None


def _at(event: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        event = event.get(part) if isinstance(event, dict) else None
    return event
