"""Withdrawn results: their trials have no result, and their folders are moved aside, even after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.records.journal import Journal, read_journal, withdrawn_entries
from relab.experiments.records.retrying import RETRIES, open_journal
from relab.experiments.records.run_folder import RunFolder
from rig.trial_rows import trial_row
from support.experiments.configs import config


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "manifest.json").write_text("{}")
    made = RunFolder(tmp_path, "run_1", config(), {})
    journal = Journal(tmp_path)
    journal.open()
    for task, outcome in enumerate(("success", "error", "failure")):
        append(journal, task, outcome)
        (tmp_path / "trials" / f"trial_base_{task}_0").mkdir(parents=True)
    append(journal, 3, "missing", error_type="pruned")
    append(journal, 4, "missing", variant="other", error_type="pruned")
    journal.close()
    return made


def append(journal: Journal, task: int, outcome: str, *, variant: str = "base", **fields: object) -> None:
    journal.append({"row": trial_row(variant, task, outcome=outcome, **fields)})


def results(run: RunFolder) -> dict[str, str]:
    return {entry["row"]["trial_id"]: entry["row"]["outcome"] for entry in read_journal(run.path)}


def test_errors_and_the_pruned_trials_of_their_variant_are_withdrawn(run: RunFolder) -> None:
    journal = Journal(run.path)
    done, withdrawn = open_journal(run, journal, retry_errors=True)
    append(journal, 1, "success")
    journal.close()

    assert withdrawn == 2
    assert done == {"trial_base_0_0", "trial_base_2_0", "trial_other_4_0"}
    assert results(run) == {
        "trial_base_0_0": "success", "trial_base_2_0": "failure", "trial_other_4_0": "missing", "trial_base_1_0": "success",
    }  # fmt: skip
    assert [entry["row"]["task_index"] for entry in withdrawn_entries(run.path)] == [1, 3]
    assert (run.path / RETRIES / "trial_base_1_0" / "1").is_dir()
    assert not (run.path / "trials" / "trial_base_1_0").exists()


def test_a_folder_that_a_crash_left_behind_is_moved_before_the_trial_runs_again(run: RunFolder) -> None:
    journal = Journal(run.path)
    open_journal(run, journal, retry_errors=True)
    journal.close()
    kept = run.path / RETRIES / "trial_base_1_0" / "1"
    # Simulates a process that was killed after the withdrawal and before the move.
    kept.rename(run.path / "trials" / "trial_base_1_0")

    journal = Journal(run.path)
    done, withdrawn = open_journal(run, journal, retry_errors=False)
    journal.close()
    assert "trial_base_1_0" not in done
    assert withdrawn == 0
    assert kept.is_dir()
    # The new folder of the trial that has begun again stays in place.
    (run.path / "trials" / "trial_base_1_0").mkdir()
    journal = Journal(run.path)
    open_journal(run, journal, retry_errors=False)
    journal.close()
    assert (run.path / "trials" / "trial_base_1_0").is_dir()


def test_a_second_retry_withdraws_the_result_of_the_first(run: RunFolder) -> None:
    for _ in range(2):
        journal = Journal(run.path)
        open_journal(run, journal, retry_errors=True)
        append(journal, 1, "error")
        journal.close()
        (run.path / "trials" / "trial_base_1_0").mkdir()
    journal = Journal(run.path)
    open_journal(run, journal, retry_errors=True)
    journal.close()

    assert "trial_base_1_0" not in results(run)
    assert sorted(path.name for path in (run.path / RETRIES / "trial_base_1_0").iterdir()) == ["1", "2", "3"]
