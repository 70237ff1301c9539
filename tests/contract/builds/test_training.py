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
from relab.builds.training.service import TrainingRequest, TrainingService
from relab.cli.builds import train as train_command
from relab.jobs import repository, runner
from relab.jobs.models import JobStatus, Lane
from relab.jobs.queue import SWEEP_LEASE
from support.components.rl import require_rl
from support.lab.in_process import InProcessLab


def leave_lease(services: Services) -> None:
    """Leave the lease of a worker that was killed a moment ago; it still seems alive."""
    now = services.clock.now_us()
    with services.database.write() as unit:
        repository.take_lease(unit.session, SWEEP_LEASE, "killed", now, now + 3_000_000_000)


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


def test_command_runs_a_training_that_no_worker_starts(
    make_services: Callable[..., Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(self: TrainingService, training_id: str, _request: TrainingRequest) -> None:
        self._progress.publish(training_id, status="done", step="train", pct=100, message="The policy is trained.")

    monkeypatch.setattr(training_service, "require_rl", lambda: None)
    monkeypatch.setattr(TrainingService, "train", trained)
    monkeypatch.setattr(train_command, "PATIENCE_S", 0.1)
    services = make_services()
    leave_lease(services)

    printed = InProcessLab(services.settings.home, {}, prepared=False).run("builds", "train").out

    assert printed == "  0 %  The training waits for a worker.\n100 %  The policy is trained.\n"
    assert services.queue.list()[0].status is JobStatus.DONE


def test_command_repeats_a_training_that_an_unexpected_error_ends_and_prints_the_error(
    make_services: Callable[..., Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: TrainingService, _training_id: str, _request: TrainingRequest) -> None:
        raise ImportError("libtorch is damaged")

    monkeypatch.setattr(training_service, "require_rl", lambda: None)
    monkeypatch.setattr(TrainingService, "train", broken)
    monkeypatch.setattr(runner, "BACKOFF_FIRST_S", 0.01)
    services = make_services()

    printed = InProcessLab(services.settings.home, {}, prepared=False).run("builds", "train", code=1).out

    assert printed.endswith("  0 %  ImportError: libtorch is damaged\n")
    assert services.queue.list()[0].status is JobStatus.PARKED
