"""The section `runtime.result_cache`: whether results of trials are stored and used again by later runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from relab.experiments.config.policies import STRICT


class ResultCacheConfig(BaseModel):
    """The cache of trial results. A trial is not run if the cache has the result of a trial with the same inputs.

    Repeats of a task never share a result.

    Attributes:
        ttl_hours: the greatest age of a cached result, in hours.
        max_mb: the largest size of the project's cache, in MB. If it is exceeded, the least recently used results are
            deleted.
    """

    model_config = STRICT

    ttl_hours: Annotated[float, Field(gt=0, le=87_600)] = 720.0
    max_mb: Annotated[float, Field(gt=0)] = 1_024.0


def with_result_cache(value: Any, is_on: bool | None) -> Any:
    """Return the content of an experiment file (parsed YAML) with its result cache turned on or off.

    Args:
        value: the content; invalid content is returned unchanged.
        is_on: True turns the cache on, with the settings of the file or else the defaults. False turns it off. None
            changes nothing.
    """
    if is_on is None or not isinstance(value, Mapping) or not isinstance(value.get("runtime"), Mapping):
        return value
    runtime = dict(value["runtime"])
    if not is_on:
        runtime.pop("result_cache", None)
    elif runtime.get("result_cache") is None:
        runtime["result_cache"] = {}
    return {**value, "runtime": runtime}
