"""A small recorder of an agent's run: it measures steps and tool calls, and returns the JSON for `POST /agent-runs`.

It imports nothing from relab: any program can post runs like this. Of an error it records the class, the message, the
status code and the duration, as they were raised.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import httpx

RunJson: TypeAlias = dict[str, Any]
"""A request body for `POST /agent-runs`."""

Status: TypeAlias = Literal["success", "failure"]

MAX_TEXT_LENGTH = 500
GENERIC_ERROR = "Internal Server Error"


@dataclass
class StepRecord:
    """A step of a run; the agent sets `output_summary` and counts `retries` while the step runs."""

    step_id: str
    name: str
    input_summary: str
    started_at: str
    ended_at: str | None = None
    status: Status = "success"
    output_summary: str | None = None
    retries: int = 0
    latency_ms: float | None = None


@dataclass
class CallRecord:
    """A tool call; the agent sets `result_summary` and `status_code` if the call succeeds."""

    call_id: str
    step_id: str
    tool_name: str
    args_json: Mapping[str, str]
    args_hash: str
    started_at: str
    ended_at: str | None = None
    status: Status = "success"
    result_summary: str | None = None
    error_class: str | None = None
    error_message: str | None = None
    status_code: int | None = None
    retries: int = 0
    latency_ms: float | None = None


@dataclass(frozen=True)
class GuardrailRecord:
    """An event of a guardrail, such as a reached limit."""

    event_id: str
    type: str
    message: str
    step_id: str
    created_at: str


class Recorder:
    """Records one run. Times come from the wall clock, durations from the monotonic one."""

    def __init__(
        self, *, agent_run_id: str, agent_name: str, agent_version: str, prompt_hash: str, task_id: str
    ) -> None:
        self.agent_run_id = agent_run_id
        self._identity = {
            "agent_name": agent_name,
            "agent_version": agent_version,
            "model": "rules",
            "environment": "demo",
            "task_id": task_id,
            "prompt_hash": prompt_hash,
        }
        self._started = Stopwatch()
        self._steps: list[StepRecord] = []
        self._calls: list[CallRecord] = []
        self._guardrail_events: list[GuardrailRecord] = []

    @contextmanager
    def step(self, name: str, input_summary: str) -> Iterator[StepRecord]:
        """Record what happens in the `with` block as a step.

        An exception that leaves the block makes the step a failure.
        """
        watch = Stopwatch()
        step_id = f"step-{len(self._steps) + 1}"
        record = StepRecord(step_id, name, clip(input_summary), started_at=watch.started_at)
        self._steps.append(record)
        try:
            yield record
        except Exception as error:
            record.status = "failure"
            record.output_summary = f"Failed: {describe(error)[0]}"
            raise
        finally:
            record.ended_at, record.latency_ms = watch.stop()

    @contextmanager
    def tool_call(self, step: StepRecord, tool_name: str, args: Mapping[str, str]) -> Iterator[CallRecord]:
        """Record what happens in the `with` block as a tool call of a step.

        An exception that leaves the block is recorded as the call's error.
        """
        watch = Stopwatch()
        record = CallRecord(
            f"call-{len(self._calls) + 1}", step.step_id, tool_name, dict(args), hash_of(args), watch.started_at
        )
        self._calls.append(record)
        try:
            yield record
        except Exception as error:
            record.status = "failure"
            record.error_class, record.error_message, record.status_code = describe(error)
            raise
        finally:
            record.ended_at, record.latency_ms = watch.stop()

    def guardrail(self, kind: str, message: str, step: StepRecord) -> None:
        """Record an event of a guardrail of this kind during a step."""
        event_id = f"guard-{len(self._guardrail_events) + 1}"
        event = GuardrailRecord(event_id, kind, message, step.step_id, Stopwatch().started_at)
        self._guardrail_events.append(event)

    def finish(self, error: Exception | None) -> RunJson:
        """End the run, and return it as JSON; `error` is the error that stopped it, or None."""
        error_type, error_message, _ = describe(error) if error else (None, None, None)
        ended_at, _ = self._started.stop()
        return {
            "run_id": self.agent_run_id,
            **self._identity,
            "started_at": self._started.started_at,
            "ended_at": ended_at,
            "status": "failure" if error else "success",
            "error_type": error_type,
            "error_message": error_message,
            "steps": [asdict(step) for step in self._steps],
            "tool_calls": [asdict(call) for call in self._calls],
            "guardrail_events": [asdict(event) for event in self._guardrail_events],
        }


class OutsideRecorder(Recorder):
    """A recorder outside of the agent that sees little, like a gateway that only sees a request fail.

    Its run has a single step without details, and the generic error that users see.
    """

    def finish(self, error: Exception | None) -> RunJson:
        """End the run, and return as JSON only what such a gateway could report."""
        run = super().finish(error)
        outcome = {"status": run["status"], "started_at": run["started_at"], "ended_at": run["ended_at"]}
        return {
            **run,
            "error_type": None,
            "error_message": GENERIC_ERROR if error else None,
            "steps": [{"step_id": "step-1", "name": "Handle request", **outcome}],
            "tool_calls": [],
            "guardrail_events": [],
        }


class Stopwatch:
    """Measures the start of something with the wall clock, and its duration with the monotonic clock."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._start = time.perf_counter()

    @property
    def started_at(self) -> str:
        """The start time, in RFC 3339 format."""
        return self._wall.isoformat(timespec="microseconds")

    def stop(self) -> tuple[str, float]:
        """Return the end time in RFC 3339 format (never before the start), and the duration in ms."""
        elapsed_s = time.perf_counter() - self._start
        ended_at = (self._wall + timedelta(seconds=elapsed_s)).isoformat(timespec="microseconds")
        return ended_at, round(elapsed_s * 1_000, 3)


def describe(error: Exception) -> tuple[str, str, int | None]:
    """Return the class of an error, its message, and its HTTP status code (None if it has none).

    The message of an HTTP error contains the status line, the body and, if present, the Retry-After header: the parts
    that help a reader.
    """
    if not isinstance(error, httpx.HTTPStatusError):
        return type(error).__name__, clip(str(error)), None
    response = error.response
    message = f"{response.status_code} {response.reason_phrase}: {response.text}"
    if "Retry-After" in response.headers:
        message += f" Retry-After: {response.headers['Retry-After']}"
    return type(error).__name__, clip(message), response.status_code


def hash_of(args: Mapping[str, str]) -> str:
    """Return a hash of a tool call's arguments, so that equal calls can be recognised without the arguments."""
    return "sha256:" + hashlib.sha256(json.dumps(args, sort_keys=True).encode()).hexdigest()


def clip(text: str) -> str:
    """Return a text for a summary, shortened to 500 characters."""
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"
