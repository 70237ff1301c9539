"""Detection of rewritten events while the harness runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from relab.experiments.sandbox.protocol import Posture, RunningAttempt
from relab.experiments.trial.pausing import PauseDialogue
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.trial.watch import WatchLimits, watch


class ScriptedAttempt(RunningAttempt):
    """A running attempt that performs one scripted step per wait of the runner, then exits with 0."""

    posture = Posture("full", "none", {}, {})

    def __init__(self, steps: Sequence[Callable[[], object]]) -> None:
        self._steps = list(steps)

    def wait(self, _timeout_s: float | None) -> int | None:
        if not self._steps:
            return 0
        self._steps.pop(0)()
        return None

    def end(self, _grace_s: float) -> int:
        return -9

    def close(self) -> None:
        pass

    def exceeded(self) -> str | None:
        return None

    def hidden_bytes(self) -> int:
        return 0

    def memory_bytes(self) -> int:
        return 0


@pytest.mark.parametrize(("last", "is_rewritten"), [("one\ntwo\nthree\n", False), ("one\nzwei\nthree\n", True)])
def test_rewritten_events_are_reported_at_the_end_of_the_attempt(tmp_path: Path, last: str, is_rewritten: bool) -> None:
    events = tmp_path / "events.jsonl"
    attempt = ScriptedAttempt([lambda: events.write_text("one\ntwo\n"), lambda: events.write_text(last)])
    limits = WatchLimits(
        seconds=None, grace_s=0, output_bytes=1_000, outputs=(), disk_bytes=10**9, disk=(tmp_path,), budgets={}, events=events,
        root=tmp_path,
    )  # fmt: skip
    pause = PauseDialogue(TrialFolder(tmp_path), tmp_path / "control.json", events, lambda: 0)

    end = watch(attempt, limits, threading.Event(), pause)

    assert end.exit_code == 0
    assert end.rewrote_events is is_rewritten
