"""The names of the jobs of trainings."""

from __future__ import annotations

from typing import Final

TRAIN_JOB: Final = "builds.train"
