"""Routes of the training of build policies: request a training, read its progress."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from relab.access.models import Scope
from relab.builds.training.service import Training, TrainingRequest
from relab.http.body import JsonBody
from relab.http.deps import ObjectId, ServicesDep
from relab.http.routes import scoped

router = APIRouter(tags=["builds"])

_Request = Annotated[
    TrainingRequest,
    Depends(JsonBody(TrainingRequest, example={"builds": 5_000, "seed": 0}, is_optional=True, is_strict=True)),
]


@router.post(
    "/build-trainings",
    status_code=status.HTTP_202_ACCEPTED,
    **scoped(Scope.OPERATE, 409, has_body=True),
    summary="Train the policy dqn",
)
def post_training(services: ServicesDep, request: _Request) -> Training:
    """Queue a training of the policy `dqn` for a worker, in the lane (urgency) `training`.

    The policy is a neural network that chooses build actions.

    409 if the packages of the extra `[rl]` are not installed.
    """
    return services.build_training.request(request)


@router.get("/build-trainings/{training_id}", **scoped(Scope.READ, 404), summary="Show the progress of a training")
def get_training(training_id: ObjectId, services: ServicesDep) -> Training:
    """Return the status of a training of the policy `dqn`: `pending`, `running`, `done` or `failed`.

    The policy is a neural network that chooses build actions. The field `message` says how far the training is, such as
    the mean reward of the policy's choices so far.
    """
    return services.build_training.get(training_id)
