"""Deletion of runs: a run on which a process works is not deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.errors import RunBusyError
from relab.experiments.records.cleaning import clean, plan_cleaning
from relab.experiments.records.run_folder import RunFolder, locked
from support.experiments.configs import config


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_run_on_which_a_process_works_is_refused_whatever_its_status(tmp_path: Path, status: str) -> None:
    """Until the tables and the report of a run are written, its stored status is not `running`."""
    run_dir = tmp_path / ".lab" / "runs" / "run_1"
    run_dir.mkdir(parents=True)
    RunFolder(run_dir, "run_1", config(), {}).write_control(status, 0)
    planned = plan_cleaning(tmp_path, [Path("run_1")])

    with locked(run_dir):
        with pytest.raises(RunBusyError):
            plan_cleaning(tmp_path, [Path("run_1")])
        with pytest.raises(RunBusyError):
            clean(planned)
    assert run_dir.is_dir()

    clean(planned)
    assert not run_dir.exists()
