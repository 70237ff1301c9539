"""The action on the report job, a batch job that runs beside the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.testbed.actions.models import Action, ActionClass, BlastRadius, PreconditionError
from relab.testbed.actions.operations.base import Nothing, PlantOperation

REPORT_JOB: Final = "report-job"
"""Name of the component that creates reports."""


class StopJob(PlantOperation[Nothing]):
    """The action that stops the report job (a batch job beside the target) and all of its processes."""

    ACTION = Action(
        "stop-job", "Stop the report job", ActionClass.REPAIR, BlastRadius.NONE, Nothing,
        "the processors and the memory that it used are free; it creates no report",
        ("the job is running",), "stop-job", part=REPORT_JOB,
    )  # fmt: skip

    def _find(self, _given: Nothing) -> dict[str, Any]:
        found = [item for item in self.plant.components(REPORT_JOB) if item["pid"] is not None]
        if not found:
            raise PreconditionError("The report job is not running.")
        return {"pid": found[0]["pid"], "started_at": found[0]["started_at"]}

    def _do(self, _given: Nothing, _before: Mapping[str, Any]) -> dict[str, Any]:
        self.plant.stop(REPORT_JOB)
        return {"state": self.plant.components(REPORT_JOB)[0]["state"]}

    def _take_back(self, _given: Nothing, _before: Mapping[str, Any]) -> dict[str, Any]:
        self.plant.start(REPORT_JOB)
        return {"state": self.plant.components(REPORT_JOB)[0]["state"]}


OPERATIONS = (StopJob,)
