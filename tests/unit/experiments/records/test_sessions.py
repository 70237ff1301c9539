"""The sessions of a run: ceilings and time carry over; incomplete lines are ignored and edited ones rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.errors import RunDamagedError
from relab.experiments.models import Ceilings
from relab.experiments.records.file_names import SESSIONS
from relab.experiments.records.sessions import (
    CeilingInvalidError,
    RunSpending,
    check_ceilings,
    note_session,
    read_sessions,
    session_begin,
    session_end,
)
from rig.trial_rows import trial_row

S = 1_000_000
BEGAN = 1_700_000_000 * S


def test_ceilings_and_time_of_earlier_sessions_carry_over(tmp_path: Path) -> None:
    note_session(tmp_path, session_begin(RunSpending(Ceilings(max_trials=5)), BEGAN))
    note_session(tmp_path, session_end(BEGAN + 9 * S, 9.5, "budget_reached", "the ceiling"))
    found = read_sessions(tmp_path)

    assert found.ceilings == Ceilings(max_trials=5)
    assert found.seconds_until(None) == 9.5
    assert found.ceilings.raised({"max_trials": 0, "max_cost_usd": 2.0}) == Ceilings(max_cost_usd=2.0)


def test_a_killed_session_counts_until_its_last_result(tmp_path: Path) -> None:
    note_session(tmp_path, session_begin(RunSpending(Ceilings(), seconds_before=4.0), BEGAN))
    with (tmp_path / SESSIONS).open("a") as file:
        file.write('{"ended_at": "2023-')
    found = read_sessions(tmp_path)

    assert found.seconds_until(None) == 4.0
    assert found.seconds_until(BEGAN + 30 * S) == 34.0
    assert found.seconds_until(BEGAN - 30 * S) == 4.0
    note_session(tmp_path, session_begin(RunSpending(Ceilings(), seconds_before=34.0), BEGAN + 60 * S))
    assert [json.loads(line)["seconds_before"] for line in (tmp_path / SESSIONS).read_text().splitlines()] == [4, 34]


def test_a_run_of_an_earlier_version_has_no_sessions(tmp_path: Path) -> None:
    assert read_sessions(tmp_path).ceilings is None


@pytest.mark.parametrize("line", ["x", "[]", '{"seconds": "long"}', '{"began_at": "2023-01-01T00:00:00Z"}', "{}"])
def test_an_edited_line_is_damage(tmp_path: Path, line: str) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / SESSIONS).write_text(line + "\n")

    with pytest.raises(RunDamagedError, match=r"sessions.jsonl:1"):
        read_sessions(tmp_path)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_an_impossible_ceiling_is_rejected(value: float) -> None:
    with pytest.raises(CeilingInvalidError, match="max_seconds"):
        check_ceilings({"max_seconds": value})


def test_spending_counts_every_attempt_and_names_the_ceiling() -> None:
    spending = RunSpending(Ceilings(max_trials=10, max_cost_usd=1.0, max_seconds=60.0), seconds_before=50.0)
    spending.note({"row": trial_row("base", 0, metrics={"cost_usd": 0.25}), "earlier_cost_usd": 0.5})
    spending.note({"row": trial_row("base", 1, metrics={"cost_usd": "free"})})
    spending.note({"row": trial_row("base", 2, metrics={"cost_usd": -3.0})})

    assert spending.cost_usd == 0.75
    assert spending.reached(started=9, seconds=9) is None
    assert "max_trials" in (spending.reached(started=10, seconds=0) or "")
    assert "max_seconds" in (spending.reached(started=0, seconds=10) or "")
    spending.note({"row": trial_row("base", 3, metrics={"cost_usd": 0.25})})
    assert "max_cost_usd" in (spending.reached(started=0, seconds=0) or "")


def ended(number: int, outcome: str = "error", message: str = "") -> dict[str, Any]:
    kind = "invalid_key" if outcome == "error" else None
    return trial_row("base", number, outcome=outcome, error_type=kind, error_message=message)


def reached_after(*rows: dict[str, Any], limit: int | None = 3) -> str | None:
    spending = RunSpending(Ceilings(max_first_errors=limit))
    for row in rows:
        spending.note_outcome(row)
    return spending.reached(started=len(rows), seconds=1.0)


def test_first_trials_with_the_same_error_reach_a_ceiling() -> None:
    said = reached_after(*(ended(number, message=f"401: request {number} was rejected.") for number in range(3)))

    assert said == (
        "all of the first 3 trials ended in the same error (max_first_errors): invalid_key: 401: request 0 was rejected"
    )
    assert reached_after(ended(0), ended(1)) is None
    assert reached_after(ended(0), ended(1), ended(2), limit=None) is None


@pytest.mark.parametrize(
    "other",
    [ended(1, "success"), ended(1, "failure"), ended(1, message="the model is unknown")],
    ids=["success", "failure", "another error"],
)
def test_other_end_among_the_first_trials_lifts_the_ceiling_of_first_errors(other: dict[str, Any]) -> None:
    assert reached_after(ended(0), other, *(ended(number) for number in range(2, 9))) is None


def test_pruned_trials_count_neither_as_first_errors_nor_as_another_end() -> None:
    assert reached_after(ended(0), ended(1), ended(2, "missing")) is None
    assert reached_after(ended(0), ended(1), ended(2, "missing"), ended(3)) is not None
