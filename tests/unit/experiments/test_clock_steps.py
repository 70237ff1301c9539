"""An experiment run while the machine's clock steps back by a day or forward by a year."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relab.core.clock import parse_time
from relab.core.errors import RelabError
from relab.experiments.models import Command, ExperimentRunSummary, Keep, RunOptions, StopSwitch, TrialResult
from relab.experiments.service import ExperimentService
from support.experiments.projects import Project, Run

DAY_US = 86_400 * 1_000_000
STEPS_US = [-DAY_US, 365 * DAY_US]


class SteppingClock:
    """A clock that steps by `step_us` after each reading, and stays within 40 years of its start."""

    def __init__(self, step_us: int) -> None:
        self.us, self.step_us = 1_700_000_000_000_000, step_us

    def now_us(self) -> int:
        now = self.us
        # Stay within the range of times that relab accepts, however often the clock is read.
        self.us = now + self.step_us if abs(now + self.step_us - 1_700_000_000_000_000) < 40 * 365 * DAY_US else now
        return now


class Runs:
    """A project, and a service whose clock steps at each reading."""

    def __init__(self, folder: Path, step_us: int, harness: str, **sections: Any) -> None:
        self.project = Project.make(folder, harness, tasks=3)
        self.project.configure(**sections)
        self.service = ExperimentService(SteppingClock(step_us), environment={})
        self.results: list[TrialResult] = []

    def run(self) -> ExperimentRunSummary:
        options = RunOptions(command=Command.RUN, keep=Keep.ALL)
        resolved = self.service.runs.prepare(self.project.experiment, options)
        return self.service.runs.run(resolved, options, StopSwitch(), lambda result, _: self.results.append(result))


@pytest.mark.parametrize("step_us", STEPS_US)
def test_times_of_a_trial_agree_with_its_duration(tmp_path: Path, step_us: int) -> None:
    runs = Runs(tmp_path, step_us, "answer()\n")

    run = Run(runs.run().run_dir)

    for row in run.rows.values():
        assert row["outcome"] == "success"
        took_us = parse_time(row["ended_at"]) - parse_time(row["started_at"])
        assert 0 < row["duration_ms"] * 1_000 <= took_us + 1
        assert took_us < DAY_US // 2
    for result in runs.results:
        assert result.agent_run is not None
        assert parse_time(result.agent_run["ended_at"]) > parse_time(result.agent_run["started_at"])


@pytest.mark.parametrize("step_us", STEPS_US)
def test_trial_times_out_after_its_limit_despite_clock_steps(tmp_path: Path, step_us: int) -> None:
    harness = 'time.sleep(600 if ids["trial_id"] == "trial_2" else 0)\nanswer()\n'
    runs = Runs(tmp_path, step_us, harness, runtime={"timeouts": {"trial_seconds": 5, "grace_seconds": 0}})

    run = Run(runs.run().run_dir)

    assert run.rows["trial_2"]["error_type"] == "trial_timeout"
    assert [run.rows[f"trial_{number}"]["outcome"] for number in (1, 3)] == ["success"] * 2


@pytest.mark.parametrize("step_us", STEPS_US)
def test_stopped_run_continues_with_trials_without_a_result(tmp_path: Path, step_us: int) -> None:
    runs = Runs(tmp_path, step_us, "answer()\n")
    stop = StopSwitch()
    options = RunOptions(command=Command.RUN, keep=Keep.ALL)
    resolved = runs.service.runs.prepare(runs.project.experiment, options)
    first = runs.service.runs.run(resolved, options, stop, lambda *_: stop.press())
    assert not first.finished

    second = runs.service.runs.continue_run(first.run_dir, StopSwitch(), lambda *_: None)

    assert second.finished is True
    assert second.done == 3
    assert second.run_id == first.run_id
    run = Run(first.run_dir)
    assert sorted(row["trial_id"] for row in run.journal()) == ["trial_1", "trial_2", "trial_3"]
    assert runs.service.damage_of_run(runs.project.root, first.run_dir)[1] == []


@pytest.mark.parametrize("step_us", [-DAY_US, 0])
def test_two_runs_never_share_a_name(tmp_path: Path, step_us: int) -> None:
    runs = Runs(tmp_path, step_us, "answer()\n")

    assert runs.run().run_id != runs.run().run_id


def test_run_from_the_future_is_not_old(tmp_path: Path) -> None:
    runs = Runs(tmp_path, -DAY_US, "answer()\n")
    made = runs.run().run_dir

    planned = runs.service.plan_cleaning(runs.project.root, older_than_us=0)

    assert made not in planned.runs


def test_clean_never_deletes_a_running_run(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 365 * DAY_US, "answer()\n")
    refused: list[RelabError] = []

    def tell(*_: object) -> None:
        with pytest.raises(RelabError) as caught:
            runs.service.plan_cleaning(runs.project.root, older_than_us=30 * DAY_US)
        assert caught.value.code == "run_busy"
        refused.append(caught.value)

    options = RunOptions(command=Command.RUN, keep=Keep.ALL)
    runs.service.runs.run(runs.service.runs.prepare(runs.project.experiment, options), options, StopSwitch(), tell)

    assert len(refused) == 3
