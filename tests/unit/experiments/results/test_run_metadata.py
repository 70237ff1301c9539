"""The facts of a run, read from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.errors import RunDamagedError
from relab.experiments.records.file_names import RUN_CONTROL
from relab.experiments.results.run_metadata import read_facts
from rig.trial_rows import trial_row, write_run


@pytest.mark.parametrize("status", ["7", "[]", "{}", "null", '"unheard-of"'])
def test_invalid_status_of_a_run_is_named(tmp_path: Path, status: str) -> None:
    run_dir = write_run(tmp_path / "run", [trial_row("base", 0)])
    (run_dir / RUN_CONTROL).write_text(f'{{"status": {status}}}')

    with pytest.raises(RunDamagedError, match="has the invalid status"):
        read_facts(run_dir)
