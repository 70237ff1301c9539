"""The models of clusters (groups of failed runs that share a cause)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp, format_time
from relab.rca.models import Category


class FailureCluster(BaseModel):
    """A group of failed runs that share a cause. Of each run, only the newest analysis is considered."""

    model_config = ConfigDict(frozen=True)

    cluster: str = Field(description="The key of the cluster.")
    category: Category
    line: str = Field(description="A line of the newest run that shows the cause; secrets are masked.")
    runs: int
    agents: tuple[str, ...] = Field(description="The agents with runs in it, at most 20.")
    first_run: str = Field(description="The id of the first run, by the start of the runs.")
    first_at: Timestamp
    first_version: str | None = Field(
        description="The version of the agent in the first run; null for a trial of an experiment."
    )
    last_run: str
    last_at: Timestamp
    last_version: str | None

    @property
    def sentence(self) -> str:
        """A sentence about these failed runs, such as "37 runs failed the same way, first seen at …"."""
        many = f"{self.runs:,} runs failed the same way" if self.runs != 1 else "1 run failed this way"
        since = f", since version {self.first_version}" if self.first_version else ""
        return f"{many}, first seen at {format_time(self.first_at)}{since}"


class ClusterPage(BaseModel):
    """A page of clusters (failed runs with one cause), the largest first, with the total numbers of clusters and runs.

    `next_cursor` is the cursor of the next page; null on the last page. If the size of a cluster changes while the
    pages are read, the cluster can be missing or appear twice.
    """

    items: list[FailureCluster]
    clusters: int
    runs: int
    next_cursor: str | None
