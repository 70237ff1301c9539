"""The name of the job that trains the policy `dqn`, as it is in the job queue."""

from __future__ import annotations

from typing import Final

TRAIN_JOB: Final = "builds.train"
