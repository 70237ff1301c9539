"""Record the sessions of a run, and check whether the run has reached a ceiling (limit of trials, cost or time).

A session is one process that works on the run. It writes one line at its start and one at its end to
`runtime/sessions.jsonl`. So a process that continues the run knows the ceilings, which it may raise, and the time that
the run has used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from relab.core.clock import format_time, parse_time
from relab.core.error_templates import cause_of
from relab.core.errors import InvalidInputError
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import damaged
from relab.experiments.models import Ceilings, TrialOutcome
from relab.experiments.records.file_names import SESSIONS
from relab.experiments.trial.span_usage import cost_of

COST: Final = "cost_usd"
_MESSAGE_CHARS: Final = 300
_VERSION: Final = {"schema_version": "run_session_v1"}
_NAMES: Final = frozenset(field.name for field in fields(Ceilings))


class CeilingInvalidError(InvalidInputError):
    """A ceiling (limit of a whole run) is negative or not finite; 0 means no ceiling."""

    code = "ceiling_invalid"


def check_ceilings(asked: Mapping[str, float]) -> None:
    """Check the ceilings that the user gave for a run, as `{name: value}`; 0 means no ceiling.

    A ceiling is a limit of the whole run, such as `max_cost_usd`.

    Raises:
        CeilingInvalidError: a ceiling is negative or not finite.
    """
    for name, value in asked.items():
        if not math.isfinite(value) or value < 0:
            option = name.replace("_", "-")
            raise CeilingInvalidError(
                f"The ceiling {name} is {value}.", remedy=f"Give --{option} a number above 0, or 0 for no ceiling."
            )


def configured_ceilings(config: ExperimentConfig) -> Ceilings:
    """Return the ceilings (limits of a whole run) in `policies.budget` of an experiment."""
    budget = config.design.policies.budget
    return Ceilings() if budget is None else Ceilings(**budget.model_dump())


@dataclass(frozen=True, slots=True)
class PastSessions:
    """The earlier sessions (processes) of a run.

    Attributes:
        ceilings: the limits of the whole run (trials, cost, time) in the last session; None if there was no session.
        seconds: the total time of the sessions, without the last session if its process was killed.
        open_since_us: the time at which the last session began, in microseconds since 1970, if its process was killed;
            else None.
    """

    ceilings: Ceilings | None = None
    seconds: float = 0.0
    open_since_us: int | None = None

    def seconds_until(self, last_us: int | None) -> float:
        """Return the total time in seconds in which processes worked on the run.

        The end of a killed process is not known; the time of the run's last result counts as its end.

        Args:
            last_us: the time of the last result, in microseconds since 1970. None if the run has no result; then the
                time of a killed process is not counted.
        """
        if self.open_since_us is None or last_us is None:
            return self.seconds
        return self.seconds + max(last_us - self.open_since_us, 0) / 1_000_000


def read_sessions(run_dir: Path) -> PastSessions:
    """Read the sessions of a run, one for each process that worked on it.

    An incomplete last line, left by a crash, is ignored.

    Raises:
        RunDamagedError: a line is not a session.
    """
    path = run_dir / SESSIONS
    if not path.is_file():
        return PastSessions()
    found = PastSessions()
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            document = json.loads(line)
            if "began_at" in document:
                given = {name: value for name, value in document["ceilings"].items() if name in _NAMES}
                found = PastSessions(
                    Ceilings(**given), float(document["seconds_before"]), parse_time(document["began_at"])
                )
            else:
                found = PastSessions(found.ceilings, found.seconds + float(document["seconds"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path, f"is not a line of a session: {error}", line=number) from error
    return found


def note_session(run_dir: Path, document: Mapping[str, Any]) -> None:
    """Append `document` as a line of JSON to the file that records the sessions (processes) of a run.

    An incomplete last line, left by a crash, is removed first.

    Raises:
        OSError: the disk is full.
    """
    path = run_dir / SESSIONS
    path.parent.mkdir(exist_ok=True)
    kept = path.read_bytes() if path.is_file() else b""
    with path.open("r+b" if path.is_file() else "wb") as file:
        file.truncate(kept.rfind(b"\n") + 1)
        file.seek(0, 2)
        file.write(json.dumps(document, separators=(",", ":")).encode() + b"\n")


@dataclass
class RunSpending:
    """The cost and time that a run has used, its counts of cached and failed trials, and its ceilings (limits).

    Attributes:
        ceilings: the ceilings.
        seconds_before: the total time of earlier sessions (processes that worked on the run), in seconds.
        cost_usd: the cost of all attempts so far.
        cached: the number of trials whose result is from the result cache; they count towards no ceiling.
        first_errors: if all trials of this process so far ended in the same error, their number; else 0.
        first_error: type and message of the error of the first trial of this process; None before a trial has ended.
    """

    ceilings: Ceilings
    seconds_before: float = 0.0
    cost_usd: float = 0.0
    cached: int = 0
    first_errors: int = 0
    first_error: tuple[str, str] | None = None
    _has_other_end: bool = False

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add the cost of all attempts of a finished trial; count a cached trial in `cached` instead.

        If no cost is reported, the estimated cost is added. `entry` is the journal entry of the trial.
        """
        if entry["row"].get("cached_from") is not None:
            self.cached += 1
            return
        self.cost_usd += cost_of(entry["row"]["metrics"]) + cost_of({COST: entry.get("earlier_cost_usd")})

    def note_outcome(self, row: Mapping[str, Any]) -> None:
        """Update `first_errors` after the end of a trial; `row` is the trial's row in the results.

        Add 1 if this trial and all earlier trials of this process ended in the same error; else set it to 0 for good.
        Errors are the same if they differ only in values such as ids. A trial with the outcome `missing`, such as a
        pruned one, is ignored.
        """
        if self._has_other_end or row["outcome"] == TrialOutcome.MISSING:
            return
        error = row["error_type"] or "error", row["error_message"] or ""
        self.first_error = self.first_error or error
        if row["outcome"] == TrialOutcome.ERROR and _cause(error) == _cause(self.first_error):
            self.first_errors += 1
        else:
            self._has_other_end, self.first_errors = True, 0

    def reached(self, *, started: int, seconds: float) -> str | None:
        """Return a sentence about a ceiling (limit of the run) that was reached; None if further trials may start.

        Args:
            started: the number of trials that have a result or are running.
            seconds: the time in seconds for which this process has worked on the run.
        """
        limits, total = self.ceilings, self.seconds_before + seconds
        if limits.max_trials is not None and started - self.cached >= limits.max_trials:
            return f"the ceiling of {limits.max_trials:,} trials is reached (max_trials)"
        if limits.max_cost_usd is not None and self.cost_usd >= limits.max_cost_usd:
            return f"{self.cost_usd:.4g} USD are spent, of at most {limits.max_cost_usd:.4g} (max_cost_usd)"
        if limits.max_seconds is not None and total >= limits.max_seconds:
            return f"the run took {total:.0f} s, of at most {limits.max_seconds:g} (max_seconds)"
        if limits.max_first_errors is not None and self.first_errors >= limits.max_first_errors:
            kind, message = self.first_error or ("", "")
            return (
                f"all of the first {self.first_errors:,} trials ended in the same error (max_first_errors): {kind}: "
                f"{message[:_MESSAGE_CHARS].rstrip('.')}"
            )
        return None


def _cause(error: tuple[str, str]) -> tuple[str, str]:
    """Return type and message of an error, with `#` in place of the values in the message that vary, such as ids."""
    kind, message = error
    return kind, cause_of(message)


def session_begin(spending: RunSpending, now_us: int) -> dict[str, Any]:
    """Return the line that records the start of a session (a process that works on the run), as JSON.

    Args:
        spending: gives the time that the run used before this session, and the ceilings (limits) of the run.
        now_us: the current time, in microseconds since 1970.
    """
    return {
        **_VERSION,
        "began_at": format_time(now_us),
        "seconds_before": spending.seconds_before,
        "ceilings": spending.ceilings.to_json(),
    }


def session_end(now_us: int, seconds: float, status: str, ceiling: str | None) -> dict[str, Any]:
    """Return the line that records the end of a session (a process that works on the run), as JSON.

    Args:
        now_us: the current time, in microseconds since 1970.
        seconds: the duration of the session.
        status: the status of the run at the end of the session.
        ceiling: a sentence about the ceiling (limit of the run) that ended the session; None if no ceiling ended it.
    """
    return {**_VERSION, "ended_at": format_time(now_us), "seconds": seconds, "status": status, "ceiling": ceiling}
