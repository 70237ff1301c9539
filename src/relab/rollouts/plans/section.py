"""The base of all sections of a plan."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PlanSection(BaseModel):
    """A part of a plan file; unknown fields and values of a wrong type are errors that name the field."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
