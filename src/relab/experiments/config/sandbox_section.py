"""The section `runtime.sandbox` of an experiment: the sandbox that trials run in, and its resource limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from relab.experiments.config.policies import STRICT
from relab.experiments.sandbox.kinds import SandboxMode


class _Section(BaseModel):
    model_config = STRICT


class Resources(_Section):
    """Resource limits of a trial. 0 means no limit; None means the default limit.

    For `cpu_count` alone, None means no limit, and 0 is not allowed. The trial's file `state_inventory.json` records
    which mechanism enforces each limit.
    """

    cpu_count: Annotated[float, Field(gt=0)] | None = None
    memory_mb: Annotated[int, Field(ge=0)] | None = None
    """Memory of all processes together, in MB; by default a share of the machine's memory."""
    max_pids: Annotated[int, Field(ge=0)] | None = None
    """Number of concurrent processes and threads."""
    max_open_files: Annotated[int, Field(ge=0)] | None = None
    """Open files of each process."""

    @field_validator("memory_mb", "max_open_files")
    @classmethod
    def _is_enough_to_start(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = {"memory_mb": 4, "max_open_files": 16}[info.field_name or ""]
        if value is not None and 0 < value < least:
            raise ValueError(f"{value} is too little for any program; give at least {least}, or 0 for no limit")
        return value


class Hardening(_Section):
    """Security restrictions of the containers that trials run in."""

    no_new_privileges: bool = True
    drop_all_caps: bool = True


class SandboxConfig(_Section):
    """The sandbox that trials run in.

    Attributes:
        mode: the kind of the sandbox: plain processes, bubblewrap or a container.
        engine: the program that runs containers.
        image: the container image; None for a sandbox without an image.
        root_read_only: whether only the trial's folders and `/tmp` are writable in a container.
        run_as_user: `uid` or `uid:gid` of the trials; None for the default of the kind of sandbox.
        hardening: security restrictions of containers.
        resources: the resource limits of a trial.
        read_only_paths: further folders and files of this machine that trials in bubblewrap can read.
    """

    mode: Annotated[SandboxMode, Field(strict=False)] = SandboxMode.LOCAL
    engine: Literal["docker"] = "docker"
    image: Annotated[str, Field(min_length=1)] | None = None
    root_read_only: bool = True
    run_as_user: str | None = None
    hardening: Hardening = Hardening()
    resources: Resources = Resources()
    read_only_paths: list[str] = []
