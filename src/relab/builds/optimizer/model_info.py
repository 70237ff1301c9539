"""Models of the facts about a training: how a policy's neural network was trained, and its learning curve."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp


class CurvePoint(BaseModel):
    """One point of a learning curve.

    Attributes:
        builds: the number of simulated builds that the network was trained on so far.
        reward: the mean reward of the network at this point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    builds: Annotated[int, Field(ge=0)]
    reward: float


class PolicyModelInfo(BaseModel):
    """The facts about the training of a policy, which are stored with the policy's neural network.

    Attributes:
        catalogue_version: the version of the catalogue of actions.
        features: the names of the network's inputs, in their order.
        simulator_digest: a digest of the simulator's data, the measured builds.
        builds: the number of simulated builds of the training.
        seed: the seed of the training.
        trained_at: the time of the training.
        curve: the learning curve.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalogue_version: int
    features: tuple[str, ...]
    simulator_digest: str
    builds: int
    seed: int
    trained_at: Timestamp
    curve: tuple[CurvePoint, ...]
