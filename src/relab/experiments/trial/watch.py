"""Watch a running trial, and end it if it exceeds its time-out, output, disk or resource limits, or its budgets."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from relab.experiments.config.limits import describe_exceeded
from relab.experiments.models import ErrorType
from relab.experiments.sandbox.protocol import RunningAttempt, SandboxLimits
from relab.experiments.trial.event_chain import EventChain
from relab.experiments.trial.event_tail import EventTail
from relab.experiments.trial.pausing import PauseDialogue, PauseEnd
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.workspace.untrusted_trees import remove_hollow_files, size_of_copy

_MIN_POLL_INTERVAL_S: Final = 0.05
_MAX_POLL_INTERVAL_S: Final = 0.25
_DISK_INTERVAL_S: Final = 1.0
_DISK_SHARE: Final = 20
"""The disk is measured for at most a twentieth of the time, because a walk over many files takes long."""
MB: Final = 1_048_576
_MAX_TOKENS: Final = 2**63
"""The most tokens that one event can add to the count."""


@dataclass(frozen=True)
class WatchLimits:
    """The limits of a trial that the runner checks while the trial runs.

    Attributes:
        seconds: the trial's time-out; None for no limit.
        grace_s: the seconds between SIGTERM and SIGKILL when the trial's processes are ended.
        output_bytes: the largest size of each file in `outputs`.
        outputs: the files with the harness's standard output and error.
        disk_bytes: the largest total size of the files below `disk`. Each single file must be smaller.
        disk: the folders that the trial writes.
        budgets: the limits `max_steps`, `max_total_tokens`, `max_tool_calls`, counted from the trial's events.
        events: the file of the trial's events.
        root: the trial's folder; no link below it is followed.
        limits: the limits of the sandbox, for the message about an exceeded limit.
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
    """How an attempt (one execution of a trial's harness) ended.

    Attributes:
        exit_code: the exit code of the harness: `-n` if signal n ended the harness. None if the sandbox failed, so that
            the exit code is unknown.
        ended_for: PAUSED, or the type of the error that the runner found: the reason for which it ended the attempt,
            an exceeded limit, or an error of the sandbox. None if there was neither a pause nor such an error.
        message: one sentence about this pause or error; None if `ended_for` is None.
        pause: how the pause ended, if `ended_for` is PAUSED; else None.
        rewrote_events: whether the harness changed events that the runner had already read.
    """

    exit_code: int | None
    ended_for: ErrorType | None = None
    message: str | None = None
    pause: PauseEnd | None = None
    rewrote_events: bool = False


@dataclass
class BudgetCount:
    """The numbers of steps, tokens and tool calls of a trial, counted from its events as they are written."""

    steps: int = 0
    tokens: float = 0
    tool_calls: int = 0

    def exceeded(self, budgets: Mapping[str, int]) -> str | None:
        """Return a message about the first budget (limit of a trial) that the counts exceed; None if there is none."""
        used = {"max_steps": self.steps, "max_total_tokens": self.tokens, "max_tool_calls": self.tool_calls}
        for name, most in budgets.items():
            if used[name] > most:
                return f"{name.removeprefix('max_').replace('_', ' ')}: {used[name]:g} of {most:g}"
        return None

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Add the steps, tokens and tool calls in these events to the counts."""
        for event in events:
            kind = event.get("event_type")
            self.steps += kind == "agent_step_start"
            self.tool_calls += kind == "tool_call_end"
            if kind == "model_call_end":
                usage = event.get("usage")
                for name in ("tokens_in", "tokens_out"):
                    value = usage.get(name) if isinstance(usage, dict) else None
                    if isinstance(value, (int, float)) and value > 0:
                        # A harness may write numbers beyond the range of a double, which no sum or message can hold.
                        self.tokens += min(value, _MAX_TOKENS)


def watch(running: RunningAttempt, bounds: WatchLimits, stop_now: threading.Event, pause: PauseDialogue) -> AttemptEnd:
    """Wait until an attempt (one execution of a trial's harness) ends, and return how it ended.

    The attempt is ended if it exceeds a limit, if `stop_now` is set, or if a pause takes too long.

    Args:
        running: the attempt.
        bounds: the limits of the attempt.
        stop_now: when set, ends the attempt at once.
        pause: checks for a request to pause, and asks the harness to stop.

    Raises:
        OSError: the control file, with the requests to the harness, cannot be written.
        SandboxError: the harness cannot be watched or ended.
    """
    chain = EventChain(bounds.events, bounds.root)
    end = _watch(running, bounds, stop_now, pause, chain)
    return replace(end, rewrote_events=True) if chain.was_rewritten() else end


def _watch(
    running: RunningAttempt,
    bounds: WatchLimits,
    stop_now: threading.Event,
    pause: PauseDialogue,
    chain: EventChain,
) -> AttemptEnd:
    started = time.monotonic()
    budget = _Budget(BudgetCount(), EventTail(bounds.events, bounds.root))
    next_disk_look = started + _DISK_INTERVAL_S
    look_s = _MIN_POLL_INTERVAL_S
    while True:
        left = None if bounds.seconds is None else bounds.seconds - (time.monotonic() - started)
        code = running.wait(look_s if left is None else max(min(look_s, left), 0))
        if code is not None:
            end = _ended_by_itself(running, code, bounds, budget)
            paused = pause.at_exit() if end.ended_for is None else None
            return end if paused is None else _paused(code, paused)
        look_s = _MIN_POLL_INTERVAL_S if pause.is_under_way else min(look_s * 2, _MAX_POLL_INTERVAL_S)
        chain.advance()
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
            next_disk_look = time.monotonic() + max(_DISK_INTERVAL_S, _DISK_SHARE * took)
        if reason is not None:
            # An immediate stop gives no grace period.
            grace_s = 0.0 if reason[0] is ErrorType.STOPPED else bounds.grace_s
            return AttemptEnd(running.end(grace_s), *reason)
        given_up = pause.step()
        if given_up is not None:
            return _paused(running.end(bounds.grace_s), given_up)


@dataclass(frozen=True)
class _Budget:
    """The use of an attempt's budgets so far.

    `used` has the numbers of steps, tokens and tool calls; `tail` reads the events that are not counted yet.
    """

    used: BudgetCount
    tail: EventTail


def _paused(code: int, pause: PauseEnd) -> AttemptEnd:
    return AttemptEnd(code, ErrorType.PAUSED, pause.reason, pause)


def _ended_by_itself(running: RunningAttempt, code: int, bounds: WatchLimits, budget: _Budget) -> AttemptEnd:
    if bounds.budgets:
        budget.used.add(budget.tail.finish())
    reason = _exceeded(running, bounds) or _passed(bounds, budget, is_read=True) or _disk(running, bounds)
    if reason is None and code == -signal.SIGXFSZ:
        reason = _too_much_written(bounds)
    return AttemptEnd(code) if reason is None else AttemptEnd(code, *reason)


def _passed(bounds: WatchLimits, budget: _Budget, *, is_read: bool = False) -> tuple[ErrorType, str] | None:
    for path in bounds.outputs:
        if _size(path) > bounds.output_bytes:
            what = f"{path.name} is larger than {bounds.output_bytes / MB:g} MB"
            return ErrorType.OUTPUT_LIMIT, f"{what}; to allow more, set runtime.workspace.max_output_mb"
    if bounds.budgets:
        if not is_read:
            budget.used.add(budget.tail.read() or ())
        over = budget.used.exceeded(bounds.budgets)
        if over is not None:
            return ErrorType.BUDGET, over
    return None


def _exceeded(running: RunningAttempt, bounds: WatchLimits) -> tuple[ErrorType, str] | None:
    limit = running.exceeded()
    return describe_exceeded(limit, bounds.limits) if limit is not None else None


def _disk(running: RunningAttempt, bounds: WatchLimits) -> tuple[ErrorType, str] | None:
    # Holes count as data: the runner reads whole files for their digests, and a copy for the next trial may fill holes.
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


def without_holes(end: AttemptEnd, folder: TrialFolder) -> AttemptEnd:
    """Delete the sparse files of a trial: files that consist mostly of holes (ranges without stored data).

    To read the holes would take the runner long. Return `end`; if files were deleted, their number is added to its
    message.
    """
    count = remove_hollow_files(folder.workspace, folder.state, folder.out)
    if not count:
        return end
    return replace(end, message=f"{end.message}; {count:,} files that were mostly holes were deleted")
