"""Power loss at any moment: every acknowledged run is stored, and no run is stored in part."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from support.components.required import require_program
from support.lab.installation import Installation
from support.storage.power_loss import Disk, Event, Fate, Kind, read_trace, recording
from support.telemetry.runs import minimal_run, step

RUNS = 40
STEPS = 3
POINTS = 40
"""The number of random moments of a power loss; one more is at the end."""

_ACKNOWLEDGED = re.compile(rb'"run_id": ?"(lost-\d+)"')


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Event]:
    """The recorded events of a server that ingests runs, from its first start in an empty folder."""
    require_program("strace", ".ci/system-packages")
    home = tmp_path_factory.mktemp("home")
    trace = tmp_path_factory.mktemp("trace") / "calls"
    server = Installation.on_sqlite(home).serve("--workers", "0", prefix=recording(trace))
    with server, server.client() as client, ThreadPoolExecutor(4) as threads:
        # Concurrent requests, so that a commit holds several runs and requests wait for the commit in progress.
        bodies = [
            minimal_run(f"lost-{number}", steps=[step(f"s{position}") for position in range(STEPS)])
            for number in range(RUNS)
        ]
        answers = list(threads.map(lambda body: client.post("/agent-runs", json=body), bodies))
        assert {answer.status_code for answer in answers} == {201}
        server.stop()
    return read_trace(trace, home)


def acknowledged(events: Sequence[Event]) -> set[str]:
    found = (_ACKNOWLEDGED.search(event.data) for event in events if event.kind is Kind.SEND)
    return {match[1].decode() for match in found if match}


def recovered(files: Mapping[str, bytes], folder: Path) -> dict[str, int]:
    """Return the number of steps of each run that SQLite reads from these files after its recovery."""
    folder.mkdir()
    for path, content in files.items():
        (folder / Path(path).name).write_bytes(content)
    with closing(sqlite3.connect(folder / "relab.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'timeline_items'").fetchall():
            return {}
        steps = "SELECT run_id, (SELECT count(*) FROM timeline_items i WHERE i.run_id = r.run_id) FROM agent_runs r"
        return dict(connection.execute(steps).fetchall())


def disk_at(events: Sequence[Event], *, heeds_syncs: bool = True) -> Disk:
    disk = Disk(heeds_syncs=heeds_syncs)
    for event in events:
        disk.apply(event)
    return disk


def test_recording_is_complete(events: Sequence[Event], tmp_path: Path) -> None:
    kept = recovered(disk_at(events).after_power_loss(Fate.KEPT, random.Random(0)), tmp_path / "kept")

    assert len(acknowledged(events)) == RUNS
    assert len(kept) == RUNS
    assert sum(event.kind is Kind.SYNC for event in events) > 5


@pytest.mark.parametrize("fate", Fate)
def test_acknowledged_runs_survive_power_loss_at_any_moment(
    events: Sequence[Event], fate: Fate, tmp_path: Path
) -> None:
    rng = random.Random(f"power loss {fate.value}")
    first = next(number for number, event in enumerate(events) if event.kind is Kind.SEND)
    points = [*sorted(rng.sample(range(first, len(events)), POINTS)), len(events)]

    disk, done = Disk(), 0
    for point in points:
        for event in events[done:point]:
            disk.apply(event)
        done = point
        found = recovered(disk.after_power_loss(fate, rng), tmp_path / str(point))
        assert acknowledged(events[:point]) <= found.keys()
        assert set(found.values()) <= {STEPS}


def test_disk_that_ignores_syncs_loses_acknowledged_runs(events: Sequence[Event], tmp_path: Path) -> None:
    # This tests the check itself: it must detect the loss of runs.
    disk = disk_at(events, heeds_syncs=False)

    found = recovered(disk.after_power_loss(Fate.LOST, random.Random(0)), tmp_path / "lost")

    assert len(found) < len(acknowledged(events))
