"""Store the last report of a rollout or experiment in a file, and read it for clients of the target."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from relab.core.atomic_files import replace_file
from relab.core.errors import NotFoundError
from relab.testbed.target.errors import StorageError


class MiniReport(BaseModel):
    """The figures of a report about a rollout or experiment; a figure that was not measured is null.

    Attributes:
        delta_p95_pct, delta_qps_pct: change of the P95 latency and of the throughput, in percent.
        error_rate_pct: share of failed requests, in percent.
        faiss_share_pct: share of the searches that the FAISS index answered, in percent.
        fallback_count: number of searches that Qdrant answered because FAISS failed.
    """

    model_config = ConfigDict(extra="forbid")

    ok: bool
    message: str = Field(max_length=2_000)
    experiment_type: str | None = Field(None, max_length=200)
    delta_p95_pct: float | None = None
    delta_qps_pct: float | None = None
    error_rate_pct: float | None = Field(None, ge=0, le=100)
    faiss_share_pct: float | None = Field(None, ge=0, le=100)
    fallback_count: int | None = Field(None, ge=0)
    generated_at: str | None = Field(None, max_length=64)


class LabReport(MiniReport):
    """A report about a rollout or experiment: its figures, and `text` for people."""

    text: str = Field("", max_length=200_000)

    def mini(self) -> dict[str, Any]:
        """Return the figures of this report as JSON, without the `text` for people."""
        return self.model_dump(exclude={"text"})


class ReportFile:
    """The file in the target's data folder that holds the last report of a rollout or experiment.

    All workers read and write the same file.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "lab_report.json"

    async def read(self) -> LabReport:
        """Return the last report of a rollout or experiment.

        Raises:
            NotFoundError: no report has been stored.
        """
        try:
            return LabReport.model_validate_json(await asyncio.to_thread(self._path.read_bytes))
        except FileNotFoundError:
            raise NotFoundError("There is no report yet.", remedy="A rollout puts one here when it ends.") from None

    async def write(self, report: LabReport) -> None:
        """Store a report in place of the earlier one.

        Raises:
            StorageError: the report cannot be written; the earlier one stays.
        """
        try:
            await asyncio.to_thread(replace_file, self._path, report.model_dump_json().encode())
        except OSError as error:
            raise StorageError(f"report: {error}") from error
