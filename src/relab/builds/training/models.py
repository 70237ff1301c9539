"""Models for the training of the policy `dqn`: the request, the progress and the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from relab.builds.optimizer.model_info import PolicyModelInfo


class TrainingRequest(BaseModel):
    """A request to train the policy `dqn`, a neural network that chooses build actions.

    Attributes:
        builds: the number of simulated builds.
        seed: the seed of the training. Equal requests give the same network on the same machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    builds: Annotated[int, Field(ge=1_000, le=1_000_000)] = 5_000
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


class Training(BaseModel):
    """The progress of a training of the policy `dqn`, which chooses configurations of builds. A worker runs it as a job.

    Attributes:
        training_id: the id of the training, which is also the id of the job.
        status: `pending`, `running`, `done` or `failed`.
        pct: the completed part in percent.
        message: a sentence about the progress, the result or the error.
    """

    training_id: str
    status: str
    pct: int
    message: str


class TrainedPolicy(BaseModel):
    """The files of a trained policy (rule that chooses build actions), and the facts about its training.

    Attributes:
        file: the file with the policy's neural network.
        curve_file: the learning curve as JSON.
        page: the learning curve as an HTML page.
        info: the facts about the training.
    """

    file: Path
    curve_file: Path
    page: Path
    info: PolicyModelInfo
