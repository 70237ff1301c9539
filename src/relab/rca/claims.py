"""Evidence, and the base class of all claims in a report. A claim without evidence cannot be built."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from relab.rca.errors import UncitedClaimError


class Confidence(StrEnum):
    """How certain a claim is: high if the run states the cause, medium for a strong sign, low for a hint."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class EvidenceKind(StrEnum):
    """The kind of the quoted object: the run or a part of it, the version of its agent, or another run that succeeded.

    The parts are a step, a tool call, a guardrail event and a log line.
    """

    RUN = "run"
    STEP = "step"
    TOOL_CALL = "tool_call"
    GUARDRAIL_EVENT = "guardrail_event"
    LOG_LINE = "log_line"
    VERSION = "version"
    PASSING_RUN = "passing_run"


class RcaModel(BaseModel):
    """Base of the values in a report, which are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(RcaModel):
    """A verbatim quotation of the run, which claims cite by its `evidence_id`.

    `snippet` is a contiguous part of the text in the field `field` of the object with the id `ref_id`. A field that is
    not text is quoted as JSON. `attributes` are further facts about the object, such as the status code of a quoted
    call.
    """

    evidence_id: str
    kind: EvidenceKind
    ref_id: str
    title: str
    field: str
    snippet: str
    attributes: dict[str, str | int | float | bool | None] = {}


class CitedModel(RcaModel):
    """A claim that cites evidence.

    Build it with `citing`, which checks the citations. The constructor does not know the evidence, so it always raises
    `UncitedClaimError`.
    """

    evidence_ids: Annotated[tuple[str, ...], Field(min_length=1)]

    @classmethod
    def citing(cls, evidence: Mapping[str, Evidence], **fields: Any) -> Self:
        """Build a claim from `fields`, and check that all cited evidence exists.

        `evidence` is `{evidence id: evidence}`.

        Raises:
            UncitedClaimError: an id in `evidence_ids` is not in `evidence`.
            pydantic.ValidationError: a field is missing or wrong.
        """
        return cls.model_validate(fields, context={"evidence": evidence})

    @model_validator(mode="after")
    def _cites_known_evidence(self, info: ValidationInfo) -> Self:
        evidence = (info.context or {}).get("evidence")
        name = type(self).__name__
        if evidence is None:
            raise UncitedClaimError(f"A {name} was built without evidence; use {name}.citing(evidence, ...).")
        unknown = [evidence_id for evidence_id in self.evidence_ids if evidence_id not in evidence]
        if unknown:
            raise UncitedClaimError(f"A {name} cites evidence that does not exist: {', '.join(unknown)}.")
        return self
