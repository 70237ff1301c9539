"""Watch a running trial, and end it if it exceeds its time-out, output, disk or resource limits, or its budgets."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jiter

from relab.experiments.config.limits import describe_exceeded
from relab.experiments.models import ErrorType
from relab.experiments.sandbox.protocol import RunningAttempt, SandboxLimits
from relab.experiments.workspace.untrusted_files import open_plain
from relab.experiments.workspace.untrusted_trees import size_of_copy

_MIN_POLL_INTERVAL_S: Final = 0.05
_MAX_POLL_INTERVAL_S: Final = 0.5
_DISK_SHARE: Final = 20
"""The disk is measured for at most a twentieth of the time, because a walk over many files takes long."""
MB: Final = 1_048_576
_MAX_READ_BYTES: Final = 64 * MB


@dataclass(frozen=True)
class WatchLimits:
    """The limits of a trial that the runner checks while the trial runs.

    Attributes:
        seconds: the trial's time-out; None for no limit.
        grace_s: the time between SIGTERM and SIGKILL to its processes, in seconds.
        output_bytes: the largest size of each file in `outputs`.
        outputs: the files with the harness's standard output and error.
        disk_bytes: the largest size of all files below `disk` together, and of a single file.
        disk: the folders that the trial writes.
        budgets: `max_steps`, `max_total_tokens`, `max_tool_calls`, counted from its events.
        events: the file of its events.
        root: the trial's folder; no link below it is followed.
        limits: the limits of its sandbox, for the message about an exceeded one.
    """

    seconds: float | None
    grace_s: float
    output_bytes: int
    outputs: tuple[Path, ...]
    disk_bytes: int
    disk: tuple[Path, ...]
    budgets: Mapping[str, int]
    events: Path
    root: Path
    limits: SandboxLimits = field(default_factory=SandboxLimits)


@dataclass(frozen=True)
class AttemptEnd:
    """The end of an attempt's processes.

    Attributes:
        exit_code: the exit code of the harness.
        ended_for: why the attempt is an error, such as an exceeded limit or STOPPED; None if it ended by itself
            normally.
        message: one sentence about the error; None without one.
    """

    exit_code: int
    ended_for: ErrorType | None = None
    message: str | None = None


@dataclass
class BudgetCount:
    """The numbers of steps, tokens and tool calls of a trial, counted from its events as they are written.

    Attributes:
        path: the file of the events.
        below: the trial's folder; no link below it is followed.
    """

    path: Path
    below: Path
    steps: int = 0
    tokens: float = 0
    tool_calls: int = 0
    _offset: int = 0
    _rest: bytes = field(default=b"", repr=False)
    _is_too_long: bool = False

    def read(self) -> bool:
        """Count the events that were written since the last call, 64 MB at most; return whether there were any bytes.

        A line of more than 64 MB is not an event.
        """
        # `open_plain` refuses a link out of the trial's folder, and a pipe without a writer, which would block.
        file = open_plain(self.path, below=self.below)
        if file is None:
            return False
        with file:
            file.seek(self._offset)
            data = file.read(_MAX_READ_BYTES)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._is_too_long:
            # The end of a line whose begin was dropped.
            del lines[0]
            self._is_too_long = False
        for line in lines:
            self._count(line)
        if len(self._rest) > _MAX_READ_BYTES:
            self._rest, self._is_too_long = b"", True
        return bool(data)

    def finish(self) -> None:
        """Count the remaining events, and a last line without a line end."""
        while self.read():
            pass
        rest, self._rest = self._rest, b""
        if not self._is_too_long:
            self._count(rest)

    def exceeded(self, budgets: Mapping[str, int]) -> str | None:
        """Return a message about the first budget that the counts exceed; None if they exceed none."""
        used = {"max_steps": self.steps, "max_total_tokens": self.tokens, "max_tool_calls": self.tool_calls}
        for name, most in budgets.items():
            if used[name] > most:
                return f"{name.removeprefix('max_').replace('_', ' ')}: {used[name]:g} of {most:g}"
        return None

    def _count(self, line: bytes) -> None:
        try:
            event = jiter.from_json(line) if line.strip() else None
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        kind = event.get("event_type")
        self.steps += kind == "agent_step_start"
        self.tool_calls += kind == "tool_call_end"
        if kind == "model_call_end":
            usage = event.get("usage")
            for name in ("tokens_in", "tokens_out"):
                value = usage.get(name) if isinstance(usage, dict) else None
                if isinstance(value, (int, float)) and value > 0:
                    self.tokens += value


def watch(running: RunningAttempt, bounds: WatchLimits, stop_now: threading.Event) -> AttemptEnd:
    """Wait until the attempt `running` ends, and return how; end it if it exceeds one of `bounds` or `stop_now` is set."""
    started = time.monotonic()
    budget = BudgetCount(bounds.events, bounds.root)
    next_disk_look = started + 2 * _MAX_POLL_INTERVAL_S
    look_s = _MIN_POLL_INTERVAL_S
    while True:
        left = None if bounds.seconds is None else bounds.seconds - (time.monotonic() - started)
        code = running.wait(look_s if left is None else max(min(look_s, left), 0))
        if code is not None:
            return _ended_by_itself(running, code, bounds, budget)
        look_s = min(look_s * 2, _MAX_POLL_INTERVAL_S)
        now = time.monotonic()
        reason: tuple[ErrorType, str] | None = None
        if stop_now.is_set():
            reason = ErrorType.STOPPED, "the run was stopped"
        elif bounds.seconds is not None and now - started >= bounds.seconds:
            reason = ErrorType.TIMEOUT, f"the trial took longer than {bounds.seconds:g} s"
        else:
            reason = _exceeded(running, bounds) or _passed(bounds, budget)
        if reason is None and now >= next_disk_look:
            reason = _disk(running, bounds)
            took = time.monotonic() - now
            next_disk_look = time.monotonic() + max(2 * _MAX_POLL_INTERVAL_S, _DISK_SHARE * took)
        if reason is not None:
            # An immediate stop gives no grace period.
            grace_s = 0.0 if reason[0] is ErrorType.STOPPED else bounds.grace_s
            return AttemptEnd(running.end(grace_s), *reason)


def _ended_by_itself(running: RunningAttempt, code: int, bounds: WatchLimits, budget: BudgetCount) -> AttemptEnd:
    if bounds.budgets:
        budget.finish()
    reason = _exceeded(running, bounds) or _passed(bounds, budget, is_read=True) or _disk(running, bounds)
    if reason is None and code == -signal.SIGXFSZ:
        reason = _too_much_written(bounds)
    return AttemptEnd(code) if reason is None else AttemptEnd(code, *reason)


def _passed(bounds: WatchLimits, budget: BudgetCount, *, is_read: bool = False) -> tuple[ErrorType, str] | None:
    for path in bounds.outputs:
        if _size(path) > bounds.output_bytes:
            what = f"{path.name} is larger than {bounds.output_bytes / MB:g} MB"
            return ErrorType.OUTPUT_LIMIT, f"{what}; to allow more, set runtime.workspace.max_output_mb"
    if bounds.budgets:
        if not is_read:
            budget.read()
        over = budget.exceeded(bounds.budgets)
        if over is not None:
            return ErrorType.BUDGET, over
    return None


def _exceeded(running: RunningAttempt, bounds: WatchLimits) -> tuple[ErrorType, str] | None:
    limit = running.exceeded()
    return describe_exceeded(limit, bounds.limits) if limit is not None else None


def _disk(running: RunningAttempt, bounds: WatchLimits) -> tuple[ErrorType, str] | None:
    # Holes in files count: the runner reads files completely for their digests, and a copy for the next trial may fill them.
    total, largest = size_of_copy(*bounds.disk)
    # A file of exactly the largest size was cut by the limit, even if the harness ignored the error.
    if total + running.hidden_bytes() > bounds.disk_bytes or largest >= bounds.disk_bytes:
        return _too_much_written(bounds)
    return None


def _too_much_written(bounds: WatchLimits) -> tuple[ErrorType, str]:
    what = f"the trial has written more than {bounds.disk_bytes / MB:,.0f} MB, including its copy of the project"
    return ErrorType.DISK_LIMIT, f"{what}; to allow more, set runtime.workspace.max_written_mb"


def _size(path: Path) -> int:
    try:
        # `lstat`, because a link that a harness made may lead to a file that the runner must not measure or cut.
        return path.lstat().st_size
    except OSError:
        return 0


def cut(path: Path, limit: int) -> bool:
    """Cut a file to `limit` bytes and append a line about the cut; return whether the file was longer."""
    if _size(path) <= limit:
        return False
    with path.open("r+b") as file:
        file.truncate(limit)
        file.seek(0, 2)
        file.write(f"\n[cut by the runner after {limit:,} bytes]\n".encode())
    return True
