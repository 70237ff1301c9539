"""`lab agent-runs prune` as a process: its output, and continuing after an interruption."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rig.waiting import wait_until
from support.lab.cli import Lab
from support.lab.installation import BACK_ENDS, Installation
from support.lab.process import LabProcess
from support.telemetry.runs import RunBody, failed_run, minimal_run, step, time_text

pytestmark = pytest.mark.full

OLD_RUNS = 300
"""So many that pruning them one by one takes many times as long as counting them in the database."""

EXIT_USAGE, EXIT_ABORTED, EXIT_INTERRUPTED = 64, 130, 130


@pytest.fixture(params=BACK_ENDS)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    """An installation on each database, without a server."""
    if request.param == "sqlite+embedded":
        return Installation.on_sqlite(tmp_path)
    return Installation.on_postgres(tmp_path, request.getfixturevalue("postgres"), None)


@pytest.fixture
def sqlite(tmp_path: Path) -> Lab:
    """A separate home with two old runs and a new one."""
    lab = Lab(tmp_path, {})
    ingest(lab, failed_run("old-1"), minimal_run("old-2"), young_run())
    return lab


def young_run() -> RunBody:
    return minimal_run("young", started_at=datetime.now(UTC).isoformat())


def ingest(lab: Lab, *bodies: RunBody) -> None:
    lab.run("agent-runs", "ingest", "-", stdin=json.dumps(bodies))


def count(installation: Installation, table: str) -> int:
    return int(installation.query(f"SELECT count(*) FROM {table}")[0][0])


def ids(lab: Lab) -> set[str]:
    return {run["run_id"] for run in lab.json("agent-runs", "list")["items"]}


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.full)], ids=["kill", "ctrl-c"]
)
def test_stopped_prune_continues(installation: Installation, number: signal.Signals) -> None:
    lab = Lab(installation.home, installation.settings)
    old = [
        minimal_run(f"old-{index}", started_at=time_text(index), steps=[step("s1"), step("s2")])
        for index in range(OLD_RUNS)
    ]
    ingest(lab, *old, young_run())
    arguments = ("agent-runs", "prune", "--older-than", "30d", "--yes", "--batch")
    pruning = LabProcess(*arguments, "1", home=installation.home, settings=installation.settings)
    pruning.start(wait=False)
    try:
        wait_until(lambda: count(installation, "agent_runs") <= OLD_RUNS - 5, what="the pruning being at work")
        pruning.send(number)
        code = pruning.wait()
    finally:
        pruning.destroy()

    left = count(installation, "agent_runs") - 1
    assert 0 < left <= OLD_RUNS - 5
    assert code == (EXIT_INTERRUPTED if number is signal.SIGINT else -signal.SIGKILL)
    assert ("Run the command again to continue." in pruning.log()) == (number is signal.SIGINT)
    # The command has deleted whole runs, the oldest first.
    assert count(installation, "timeline_items") == 2 * left
    [(first,)] = installation.query("SELECT run_id FROM agent_runs ORDER BY started_at LIMIT 1")
    assert first == f"old-{OLD_RUNS - left}"

    again = lab.json(*arguments, "200")

    assert again["runs"] == left
    assert again["spans"] == 0
    assert again["dry_run"] is False
    assert ids(lab) == {"young"}
    assert lab.json("metrics", "--hours", "1000000")["total_runs"] == 1


def test_prune_without_a_worker_deletes_the_analyses_too(sqlite: Lab) -> None:
    rca_run_id = sqlite.json("rca", "old-1")["rca_run_id"]

    outcome = sqlite.run("agent-runs", "prune", "--older-than", "8w", "--yes")

    assert outcome.out.startswith("2 runs with 0 spans that started before ")
    assert outcome.out.endswith(" deleted.\n")
    installation = Installation.on_sqlite(sqlite.home)
    assert installation.query("SELECT count(*) FROM rca_runs WHERE rca_run_id = :id", id=rca_run_id) == [(0,)]


def test_a_dry_run_only_counts(sqlite: Lab) -> None:
    told = sqlite.run("agent-runs", "prune", "--older-than", "12h", "--dry-run")
    found = sqlite.json("agent-runs", "prune", "--older-than", "12h", "--dry-run")

    assert told.out.startswith("2 runs with 0 spans that started before ")
    assert told.out.endswith(" would be deleted.\n")
    assert found["runs"] == 2
    assert found["spans"] == 0
    assert found["dry_run"] is True
    assert ids(sqlite) == {"old-1", "old-2", "young"}


def test_prune_asks_for_confirmation(sqlite: Lab) -> None:
    asked = sqlite.run("agent-runs", "prune", "--older-than", "30d", code=EXIT_USAGE)
    sqlite.run("agent-runs", "prune", "--older-than", "30d", stdin="n\n", code=EXIT_ABORTED)

    assert "Delete 2 run(s) that started before " in asked.err
    assert ids(sqlite) == {"old-1", "old-2", "young"}
    sqlite.run("agent-runs", "prune", "--older-than", "30d", stdin="y\n")
    assert ids(sqlite) == {"young"}
    assert sqlite.run("agent-runs", "prune", "--older-than", "30d").out.startswith("0 runs "), "nothing to ask"


def test_invalid_age_is_rejected(sqlite: Lab) -> None:
    outcome = sqlite.run("agent-runs", "prune", "--older-than", "6m", "--yes", code=EXIT_USAGE)

    assert "--older-than '6m' is not an age." in outcome.err
    assert "30d" in outcome.err
    assert ids(sqlite) == {"old-1", "old-2", "young"}
