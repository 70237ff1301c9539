"""Requests to pause trials of a run that another process works on."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

import pytest

from relab.experiments import pausing
from relab.experiments.errors import RunNotRunningError
from relab.experiments.pausing import PauseAnswer, pause_trials
from relab.experiments.records.file_names import PAUSE_REQUEST
from relab.experiments.records.run_folder import RunFolder, locked
from relab.experiments.trial.pausing import PauseRequest
from relab.experiments.trial.trial_folder import TrialFolder, trial_folder
from rig.waiting import wait_until
from support.experiments.configs import config


def test_trial_that_is_named_twice_is_paused_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def running(run: RunFolder, trial_id: str) -> TrialFolder:
        folder = trial_folder(run.path, trial_id)
        folder.root.mkdir(parents=True, exist_ok=True)
        return folder

    def answered(_run: RunFolder, folder: TrialFolder, _request: PauseRequest, _since: float) -> PauseAnswer:
        return PauseAnswer(folder.root.name, None, 0.0)

    monkeypatch.setattr(pausing, "open_run", lambda path: RunFolder(path, "run_1", config(), {}))
    monkeypatch.setattr(pausing, "is_locked", lambda _path: True)
    monkeypatch.setattr(pausing, "_running", running)
    monkeypatch.setattr(pausing, "_wait", answered)
    asked: list[str] = []

    answers = pause_trials(tmp_path, ["trial_1", "trial_1"], label=None, timeout_s=1.0, on_asked=asked.append)

    assert asked == ["trial_1"]
    assert [answer.trial_id for answer in answers] == ["trial_1"]


def test_remedy_for_a_folder_with_a_space_can_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my runs" / "run_1"
    path.mkdir(parents=True)
    monkeypatch.setattr(pausing, "open_run", lambda path: RunFolder(path, "run_1", config(), {}))

    with pytest.raises(RunNotRunningError) as raised:
        pause_trials(path, [], label=None, timeout_s=1.0, on_asked=[].append)

    assert shlex.split(str(raised.value.remedy))[-4:] == ["lab", "run", "--continue", str(path)]


def test_request_that_came_while_the_run_was_sealed_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "open_run", lambda path: RunFolder(path, "run_1", config(), {}))
    marker, asked = tmp_path / PAUSE_REQUEST, []
    pause = threading.Thread(
        target=pause_trials, args=(tmp_path, []), kwargs={"label": None, "timeout_s": 1.0, "on_asked": asked.append}
    )
    with locked(tmp_path):
        pause.start()
        wait_until(marker.exists, what="the request to pause")
    pause.join()

    assert not marker.exists()
    assert asked == []
