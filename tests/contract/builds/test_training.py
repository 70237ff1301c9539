"""Trainings as jobs in a separate lane: progress, files, errors, and the use of the trained policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from relab.bootstrap import Services
from relab.builds.errors import RlExtraMissingError, TrainingNotFoundError
from relab.builds.service import BuildSymptoms
from relab.builds.training import service as training_service
from relab.builds.training.service import TrainingRequest
from relab.jobs.models import Lane
from support.components.rl import require_rl


def test_without_the_extra_a_training_is_rejected_with_the_command_that_installs_it(
    make_services: Callable[..., Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_service.importlib.util, "find_spec", lambda _name: None)
    services = make_services()

    with pytest.raises(RlExtraMissingError, match=r"pip install 'relab\[rl\]'"):
        services.build_training.request(TrainingRequest())

    assert services.queue.list() == []


def test_unknown_training_is_not_found(make_services: Callable[..., Services]) -> None:
    with pytest.raises(TrainingNotFoundError):
        make_services().build_training.get("missing")


@pytest.mark.rl
def test_training_is_a_job_of_its_lane_and_its_policy_chooses_actions(make_services: Callable[..., Services]) -> None:
    require_rl()
    services = make_services()

    waiting = services.build_training.request(TrainingRequest(builds=1_000, seed=1))
    job = services.queue.get(waiting.training_id)
    services.runner([Lane.INTERACTIVE, Lane.BACKGROUND, Lane.LONG]).run_next()
    untouched = services.build_training.get(waiting.training_id)
    services.runner([Lane.TRAINING]).run_next()

    assert job.lane is Lane.TRAINING
    assert untouched.status == "pending"
    events = services.build_training.events_after(waiting.training_id, 0)
    assert [event.status for event in events] == ["pending", *["running"] * 20, "done"]
    assert [event.pct for event in events] == sorted(event.pct for event in events)
    assert "dqn-0001.safetensors" in events[-1].message

    folder = services.settings.home / "build_models"
    curve = json.loads((folder / "dqn-0001.json").read_text())["curve"]
    page = (folder / "dqn-0001.html").read_text()
    assert [point["builds"] for point in curve] == list(range(50, 1_001, 50))
    assert "Learning curve" in page
    assert "http://" not in page.partition("<main>")[2].partition("</main>")[0]

    chosen = services.builds.decisions.best_action(BuildSymptoms(policy="dqn"))
    assert chosen.policy == "dqn"
    assert chosen.propensity > 0.9


@pytest.mark.rl
def test_training_whose_file_cannot_be_written_fails_with_the_reason(make_services: Callable[..., Services]) -> None:
    require_rl()
    services = make_services()
    waiting = services.build_training.request(TrainingRequest(builds=1_000))
    folder: Path = services.settings.home / "build_models"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("no folder")

    services.runner([Lane.TRAINING]).run_next()

    ended = services.build_training.get(waiting.training_id)
    assert ended.status == "failed"
    assert "cannot be written" in ended.message
