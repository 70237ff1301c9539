"""The Python SDK: build an experiment file, and run `lab` commands from a program.

from relab.experiments.sdk import ExperimentBuilder, LabClient
"""

from relab.experiments.sdk.answers import (
    Compared,
    Described,
    LabRunnerError,
    RunReference,
    RunResponse,
    Validated,
)
from relab.experiments.sdk.builder import ExperimentBuilder
from relab.experiments.sdk.client import LabClient

__all__ = [
    "Compared",
    "Described",
    "ExperimentBuilder",
    "LabClient",
    "LabRunnerError",
    "RunReference",
    "RunResponse",
    "Validated",
]
