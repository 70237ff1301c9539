"""The section `artifacts` of an experiment: which changed files of a trial are kept beside its result."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ValidationInfo

from relab.core.stored_documents import is_stored
from relab.experiments.config.policies import STRICT


def _check_diff(value: bool, info: ValidationInfo) -> bool:
    # Earlier versions accepted `false`, which had no effect; their runs must stay readable.
    if not value and not is_stored(info):
        raise ValueError("the differences of the workspace are always kept, as evidence of the trial; remove the field")
    return value


class Artifacts(BaseModel):
    """Which files of a workspace are kept as artifacts: changed files in `base_dir` that match a glob in `collect`.

    `diff` has no effect: the differences of the workspace are always kept.
    """

    model_config = STRICT

    collect: list[str] = []
    diff: Annotated[bool, AfterValidator(_check_diff)] = True
    base_dir: str = "."
