"""`lab builds train`: train the optimizer's policy dqn in a job of the queue, and print the progress."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.builds.training.service import Training

_POLL_S = 0.2


def train(
    builds: Annotated[int, typer.Option(min=1_000, max=1_000_000, help="Number of simulated builds.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The seed.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Train the policy dqn on simulated builds, and print its progress; needs the extra [rl].

    A worker runs the training as a job of the lane `training`, the least urgent kind of job. If no worker is alive,
    this command runs the training. The network is written to a new file in the folder build_models of relab's home,
    with its learning curve as JSON and as an HTML page.

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

    If no worker is alive, this process runs the training.
    """
    if services.queue.worker_lives():
        return _print_until_end(services, training_id, is_quiet=is_quiet)
    ended: list[Training] = []
    printer = threading.Thread(
        target=lambda: ended.append(_print_until_end(services, training_id, is_quiet=is_quiet)), daemon=True
    )
    printer.start()
    # In the main thread, which gets the signal at the job's time limit.
    services.runner().run_next(training_id)
    printer.join(timeout=10 * _POLL_S)
    return ended[0] if ended else services.build_training.get(training_id)


def _print_until_end(services: Services, training_id: str, *, is_quiet: bool) -> Training:
    pause, seen = threading.Event(), 0
    while True:
        events = services.build_training.events_after(training_id, seen)
        seen += len(events)
        for event in events:
            if not is_quiet:
                print(f"{event.pct:3} %  {plain(event.message)}", flush=True)
            if event.status in {"done", "failed"}:
                return event
        pause.wait(_POLL_S)
