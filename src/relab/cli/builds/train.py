"""`lab builds train`: train the optimizer's policy dqn in a job of the queue, and print the progress."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Final

import typer

from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.builds.training.service import Training, TrainingService
    from relab.jobs.runner import JobRunner

PATIENCE_S: Final = 3.0
"""The time that workers have to start the training, in seconds; then this command runs it."""
_POLL_S: Final = 0.2


def train(
    builds: Annotated[int, typer.Option(min=1_000, max=1_000_000, help="Number of simulated builds.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The seed.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Train the policy dqn on simulated builds, and print its progress; needs the extra [rl].

    A worker runs the training as a job of the lane `training`, the least urgent kind of job. If no worker starts it
    within 3 seconds, this command runs the training. The network is written to a new file in the folder build_models
    of relab's home, with its learning curve as JSON and as an HTML page.

    Exit code 0: the policy is trained. 1: the training failed. 69: the extra is missing.
    """
    from relab.builds.training.service import TrainingRequest

    with open_services() as services:
        training = services.build_training.request(TrainingRequest(builds=builds, seed=seed))
        last = _follow(services, training.training_id, is_quiet=as_json)
    if as_json:
        print_json("builds train", training=last.model_dump(mode="json"))
    return 0 if last.status == "done" else EXIT_FAILED


def _follow(services: Services, training_id: str, *, is_quiet: bool) -> Training:
    """Wait until a training has ended, print its progress unless `is_quiet`, and return the ended training.

    If no worker starts the training within `PATIENCE_S` seconds, or its worker dies, this process runs it.
    """
    from relab.jobs.models import Lane

    progress = _Progress(services.build_training, training_id, is_quiet=is_quiet)
    runner, pause = services.runner([Lane.TRAINING]), threading.Event()
    # A worker that ended a moment ago still seems alive, and a living one may not serve the lane.
    patience_ends = time.monotonic() + (PATIENCE_S if services.queue.worker_lives() else 0.0)
    while (ended := progress.print_new()) is None:
        # The job has the training's id; claiming it is safe even if a worker wakes up now.
        is_due = time.monotonic() >= patience_ends and runner.has_work()
        if not is_due or not _run(runner, training_id, progress):
            pause.wait(_POLL_S)
    return ended


def _run(runner: JobRunner, training_id: str, progress: _Progress) -> bool:
    """Run the job of a training in this thread, print its progress, and return whether this process ran the job."""
    has_ended = threading.Event()

    def print_all() -> None:
        while not has_ended.wait(_POLL_S):
            progress.print_new()

    with ThreadPoolExecutor(1, thread_name_prefix="training-progress") as pool:
        printing = pool.submit(print_all)
        try:
            # In the main thread, which gets the signal at the job's time limit.
            was_run = runner.run_next(training_id)
        finally:
            has_ended.set()
    printing.result()
    return was_run


class _Progress:
    """Prints the progress of a training; one thread at a time may call it.

    Args:
        trainings: the trainings of this installation.
        training_id: the id of the training.
        is_quiet: whether nothing is printed.
    """

    def __init__(self, trainings: TrainingService, training_id: str, *, is_quiet: bool) -> None:
        self._trainings = trainings
        self._training_id = training_id
        self._is_quiet = is_quiet
        self._seen = 0
        self._ended: Training | None = None

    def print_new(self) -> Training | None:
        """Print the progress since the last call; return the training if it has ended, else None."""
        events = self._trainings.events_after(self._training_id, self._seen) if self._ended is None else []
        self._seen += len(events)
        for event in events:
            if not self._is_quiet:
                print(f"{event.pct:3} %  {plain(event.message)}", flush=True)
            if event.status in {"done", "failed"}:
                self._ended = event
        return self._ended
