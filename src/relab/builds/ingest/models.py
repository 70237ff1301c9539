"""The model of a report that a CI sends to relab about a build that the CI ran."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from relab.builds.models import BuildStatus
from relab.core.clock import ReportedTime
from relab.core.ids import ExternalId

MAX_LOG_CHARS: Final = 16 * 1024 * 1024

_Name: TypeAlias = Annotated[str, Field(max_length=200)]
_STATUSES: Final = {
    "success": BuildStatus.SUCCESS,
    "failed": BuildStatus.FAILED,
    "failure": BuildStatus.FAILED,
    "interrupted": BuildStatus.INTERRUPTED,
    "cancelled": BuildStatus.INTERRUPTED,
    "canceled": BuildStatus.INTERRUPTED,
}


class ReportedBuild(BaseModel):
    """A build as a CI reports it in its last step. An empty text counts as missing.

    Attributes:
        project: the name of the project.
        id: the CI's own id of the build. A second report of a project with the same id is ignored.
        status: how the build ended, as a status of relab, of GitHub (such as `failure`, `cancelled`) or of GitLab (such
            as `canceled`). Default: the status in the log.
        duration: the duration in seconds. Default: the duration in the log.
        started_at: when the build started. Default: the time in the log.
        commit: the commit that was built.
        branch: the branch or tag.
        job: the name of the CI's job.
        url: the address of the build in its CI; it begins with http:// or https://.
        input: identifies the input of the build, such as a digest of its files. Default: the commit.
        configuration: settings of the build, with the CI's own names.
        log: the text of the build's log, or of a JUnit XML file.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    # The same rule as in `BuildSymptoms`. The name is printed on terminals, and is part of the key of the project's
    # flag.
    project: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
    id: ExternalId | None = None
    status: Literal["success", "failed", "failure", "interrupted", "cancelled", "canceled", "unknown"] | None = None
    duration: Annotated[float, Field(ge=0, le=1e9)] | None = None
    started_at: ReportedTime | None = None
    commit: _Name | None = None
    branch: _Name | None = None
    job: _Name | None = None
    # It becomes a link: a scheme such as `javascript:` would run in the browser of the person who follows it.
    url: Annotated[str, Field(max_length=2_000, pattern=r"^(https?://[^\x00-\x20\x7f-\x9f]+)?$")] | None = None
    input: _Name | None = None
    configuration: Annotated[
        dict[Annotated[str, Field(max_length=100)], _Name | bool | int | float],
        # No request body may contain NUL. For the values, the general schema of bodies says so; for the names, this
        # pattern.
        Field(max_length=50, json_schema_extra={"propertyNames": {"maxLength": 100, "pattern": r"^[^\x00]*$"}}),
    ] = {}
    log: Annotated[str, Field(max_length=MAX_LOG_CHARS)] | None = None

    def ended_status(self) -> BuildStatus | None:
        """Return the reported status of the build; None if it is missing or `unknown`."""
        return None if self.status is None else _STATUSES.get(self.status)
