"""Events of a trial are counted towards its budgets, whatever their number and length."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.trial import watch
from relab.experiments.trial.watch import BudgetCount

STEP = b'{"event_type": "agent_step_start"}\n'


def count_of(path: Path) -> BudgetCount:
    return BudgetCount(path, path.parent)


def test_last_read_counts_more_events_than_one_read_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_MAX_READ_BYTES", 100)
    path = tmp_path / "events.jsonl"
    path.write_bytes(STEP * 50 + STEP.rstrip())
    count = count_of(path)

    count.finish()

    assert count.steps == 51


def test_line_without_end_is_not_kept_and_hides_no_later_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_MAX_READ_BYTES", 100)
    path = tmp_path / "events.jsonl"
    path.write_bytes(STEP + b"x" * 1_000 + b"\n" + STEP)
    count = count_of(path)
    longest = 0
    while count.read():
        longest = max(longest, len(count._rest))

    count.finish()

    assert longest <= 200
    assert count.steps == 2
