"""Train the policy `dqn`, which chooses actions for builds: request a training, run it as a job, report its progress."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from relab.builds.errors import RlExtraMissingError, TrainingNotFoundError
from relab.builds.optimizer.catalogue import CATALOGUE_VERSION
from relab.builds.optimizer.model_info import CurvePoint, PolicyModelInfo
from relab.builds.optimizer.situation import FEATURES
from relab.builds.training.jobs import TRAIN_JOB
from relab.builds.training.models import TrainedPolicy, Training, TrainingRequest
from relab.core.atomic_files import replace_file
from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.progress.service import ProgressLog
from relab.storage import Database

__all__ = ["TrainedPolicy", "Training", "TrainingRequest", "TrainingService"]

_STEP = "train"


class TrainingService:
    """Trains the policy `dqn`, a neural network that chooses build actions. Each training is a job of a worker.

    Args:
        database, clock, queue, progress: the database, clock, job queue and progress events of this process.
        models: the folder of trained policies.
    """

    def __init__(
        self, database: Database, clock: Clock, queue: JobQueue, progress: ProgressLog, *, models: Path
    ) -> None:
        self._database = database
        self._clock = clock
        self._queue = queue
        self._progress = progress
        self._models = models

    def request(self, request: TrainingRequest) -> Training:
        """Enqueue a training as a job for a worker, and return its id and first status (`pending`).

        Raises:
            RlExtraMissingError: the extra `[rl]` is not installed.
        """
        require_rl()
        training_id = new_id()
        waiting = Training(training_id=training_id, status="pending", pct=0, message="The training waits for a worker.")
        with self._database.write() as unit:
            self._queue.enqueue(
                unit,
                TRAIN_JOB,
                {"training_id": training_id, **request.model_dump()},
                lane=Lane.TRAINING,
                job_id=training_id,
            )
            self._progress.publish_within(
                unit, training_id, status=waiting.status, step=_STEP, pct=0, message=waiting.message
            )
        return waiting

    def get(self, training_id: str) -> Training:
        """Return the newest status of a training.

        Raises:
            TrainingNotFoundError: there is no training with this id.
        """
        return self.events_after(training_id, 0)[-1]

    def events_after(self, training_id: str, count: int) -> list[Training]:
        """Return the status of a training after each of its progress events, oldest first.

        The first `count` events are left out.

        Raises:
            TrainingNotFoundError: there is no training with this id.
        """
        events = self._progress.read_after(training_id)
        if not events or events[0].step != _STEP:
            raise TrainingNotFoundError(training_id)
        return [
            Training(training_id=training_id, status=event.status, pct=event.pct, message=event.message)
            for event in events[count:]
        ]

    def train(self, training_id: str, request: TrainingRequest) -> TrainedPolicy:
        """Train the policy `dqn`, write its files, and return their paths and facts about the training.

        The policy is a neural network that chooses build actions. The progress is published as events of the training.

        Raises:
            RlExtraMissingError: the extra `[rl]` is not installed.
            BuildFolderError: a file cannot be written.
        """
        require_rl()
        from relab.builds.monitor.simulator import shipped_digest, shipped_simulator
        from relab.builds.optimizer.model_store import ModelStore
        from relab.builds.training.dqn import train_dqn

        def report(point: CurvePoint) -> None:
            pct = min(99, 100 * point.builds // request.builds)
            message = f"{point.builds:,} of {request.builds:,} simulated builds: mean reward {point.reward:.3f}."
            self._progress.publish(training_id, status="running", step=_STEP, pct=pct, message=message)

        network, curve = train_dqn(shipped_simulator(), request, report)
        digest = shipped_digest()
        info = PolicyModelInfo(
            catalogue_version=CATALOGUE_VERSION,
            features=FEATURES,
            simulator_digest=digest,
            builds=request.builds,
            seed=request.seed,
            trained_at=self._clock.now_us(),
            curve=curve,
        )
        trained = _with_curve(ModelStore(self._models, digest).add(network, info), info)
        message = f"The policy is in {trained.file.name}: mean reward {curve[-1].reward:.3f} in the simulator."
        self._progress.publish(training_id, status="done", step=_STEP, pct=100, message=message)
        return trained

    def fail(self, training_id: str, error: str) -> None:
        """Publish the failure of a training as its last progress event; `error` is the message for people."""
        self._progress.publish(training_id, status="failed", step=_STEP, pct=0, message=error)


def require_rl() -> None:
    """Check that the extra `[rl]` is installed.

    Raises:
        RlExtraMissingError: the extra is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "stable_baselines3", "safetensors")):
        raise RlExtraMissingError


def _with_curve(file: Path, info: PolicyModelInfo) -> TrainedPolicy:
    """Write the learning curve of a trained policy into the policy's folder, as a JSON file and as an HTML page.

    Args:
        file: the path of the policy's file.
        info: the facts about the training, with the learning curve.

    Returns:
        The paths of all three files, and `info`.
    """
    from relab.builds.training.page import render_page

    trained = TrainedPolicy(file=file, curve_file=file.with_suffix(".json"), page=file.with_suffix(".html"), info=info)
    replace_file(trained.curve_file, info.model_dump_json(indent=1).encode())
    replace_file(trained.page, render_page(file.name, info).encode())
    return trained
