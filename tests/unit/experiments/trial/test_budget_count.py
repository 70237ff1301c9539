"""Counting a trial's events while the harness writes them: any number of events and any line length."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.trial import event_tail
from relab.experiments.trial.event_tail import EventTail
from relab.experiments.trial.watch import BudgetCount

STEP = b'{"event_type": "agent_step_start"}\n'


def test_last_read_counts_events_beyond_the_limit_of_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_tail, "_MAX_READ_BYTES", 100)
    path = tmp_path / "events.jsonl"
    path.write_bytes(STEP * 50 + STEP.rstrip())
    count = BudgetCount()

    count.add(EventTail(path, tmp_path).finish())

    assert count.steps == 51


def test_line_without_end_is_not_kept_and_hides_no_later_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_tail, "_MAX_READ_BYTES", 100)
    path = tmp_path / "events.jsonl"
    path.write_bytes(STEP + b"x" * 1_000 + b"\n" + STEP)
    count, tail = BudgetCount(), EventTail(path, tmp_path)
    longest = 0
    while (events := tail.read()) is not None:
        count.add(events)
        longest = max(longest, len(tail._rest))

    count.add(tail.finish())

    assert longest <= 200
    assert count.steps == 2


def test_token_numbers_beyond_a_double_exceed_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'{"event_type": "model_call_end", "usage": {"tokens_in": %b, "tokens_out": 0.5}}\n' % (b"9" * 400)
    )
    count = BudgetCount()

    count.add(EventTail(path, tmp_path).finish())

    assert str(count.exceeded({"max_total_tokens": 100})).startswith("total tokens: ")
