"""Handlers that record their calls in a file, for workers in separate processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relab.jobs.errors import PermanentJobError
from relab.jobs.models import Job, Subscription
from relab.jobs.runner import JobRunner
from rig.waiting import wait_until

RUN_JOB = "support.jobs.handlers.run_job"
"""The function path that the back ends of tests give to RQ."""

runner: JobRunner | None = None
"""The runner of `run_job`, set by the worker process."""


def run_job(job_id: str) -> None:
    """Run a job; RQ calls this function."""
    assert runner is not None
    runner.run_next(job_id)


@dataclass(frozen=True)
class Journal:
    """The events of all processes, one line per event."""

    path: Path

    def add(self, *words: object) -> None:
        """Append a line in one write."""
        line = " ".join(map(str, words)) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def lines(self, key: str) -> list[str]:
        """Return the events of one key, in order, without the key."""
        if not self.path.exists():
            return []
        pairs = [line.partition(" ") for line in self.path.read_text().splitlines()]
        return [event for found, _, event in pairs if found == key]

    def key_order(self) -> list[str]:
        """Return the key of each event, in order."""
        return [line.partition(" ")[0] for line in self.path.read_text().splitlines()]


class Handlers:
    """Handlers of jobs; the argument `key` of a job marks its lines in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def subscriptions(self) -> list[Subscription]:
        """Return the handlers in the form that a runner expects."""
        handlers = {
            "note": self.note,
            "fail": self.fail,
            "fail-until": self.fail_until,
            "refuse": self.refuse,
            "hold": self.hold,
            "die": self.die,
            "sleep": self.sleep,
        }
        first = [Subscription(name, handler, self.on_parked) for name, handler in handlers.items()]
        return [*first, Subscription("shared", self.note), Subscription("shared", self.fail, self.on_parked)]

    def on_parked(self, job: Job, error: str) -> None:
        """Record a parked job with its error."""
        self._journal.add(job.args["key"], "parked", error)

    def note(self, args: Mapping[str, Any]) -> None:
        """Succeed."""
        self._journal.add(args["key"], "ran")

    def fail(self, args: Mapping[str, Any]) -> None:
        """Fail in the first `times` runs."""
        self._journal.add(args["key"], "ran")
        if len(self._journal.lines(args["key"])) <= args["times"]:
            raise RuntimeError("it broke")

    def fail_until(self, args: Mapping[str, Any]) -> None:
        """Fail until the file `until` exists."""
        self._journal.add(args["key"], "ran")
        if not Path(args["until"]).exists():
            raise RuntimeError("it broke")

    def refuse(self, args: Mapping[str, Any]) -> None:
        """Fail permanently."""
        self._journal.add(args["key"], "ran")
        raise PermanentJobError("never")

    def hold(self, args: Mapping[str, Any]) -> None:
        """Run until the file `until` exists."""
        self._journal.add(args["key"], "begun", os.getpid())
        wait_until(Path(args["until"]).exists, within_s=60)
        self._journal.add(args["key"], "ended", os.getpid())

    def sleep(self, args: Mapping[str, Any]) -> None:
        """Sleep for a minute in one system call."""
        self._journal.add(args["key"], "begun")
        time.sleep(60)

    def die(self, args: Mapping[str, Any]) -> None:
        """Kill the worker process with SIGKILL."""
        self._journal.add(args["key"], "begun", os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
