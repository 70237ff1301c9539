"""The base class of all sections of a plan; it rejects unknown fields and wrong types."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PlanSection(BaseModel):
    """Base of the sections of a plan file.

    An unknown field or a value of a wrong type is an error that names the field.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
