"""Pointers to the places of a run that show a problem.

A pointer becomes `Evidence` (with the copied text) only when a claim cites it. So a run with 20,000 errors needs 20,000
pointers, but not 20,000 copies of texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from relab.rca.models import EvidenceKind
from relab.telemetry.log_models import LogLine
from relab.telemetry.models import AgentRun, GuardrailEvent, Step, ToolCall
from relab.telemetry.past_models import PassedCall, PassingRun

Quotable: TypeAlias = AgentRun | Step | ToolCall | GuardrailEvent | LogLine | PassingRun | PassedCall
Attributes: TypeAlias = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Quotation:
    """A place in a run that can be cited: the part `start:end` of the text in the field `field` of the object `source`.

    Attributes:
        kind: the kind of `source`, such as a step or call. It is `VERSION` if the quotation shows the version of the
            agent; `source` is then the run.
        attributes: facts that are added to the evidence.
        title: the title of the evidence; None for the default title of the object.
    """

    kind: EvidenceKind
    source: Quotable
    field: str
    start: int = 0
    end: int = 0
    attributes: Attributes = dataclasses.field(default_factory=dict)
    title: str | None = None
