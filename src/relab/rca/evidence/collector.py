"""Create the evidence of a report: copy quoted texts from the run, and give each an id.

No other module creates evidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import Enum

from pydantic import BaseModel

from relab.rca.evidence.quotation import Attributes, Quotable, Quotation
from relab.rca.models import Evidence, EvidenceKind
from relab.telemetry.log_models import LogLine
from relab.telemetry.models import AgentRun, GuardrailEvent, Step, StepStatus, ToolCall
from relab.telemetry.past_models import PassedCall, PassingRun

MAX_SNIPPET_CHARS = 500

_PREFIX = {
    EvidenceKind.TOOL_CALL: "ev_tool_",
    EvidenceKind.GUARDRAIL_EVENT: "ev_guard_",
    EvidenceKind.STEP: "ev_step_",
    EvidenceKind.LOG_LINE: "ev_log_",
    EvidenceKind.RUN: "ev_run_",
    EvidenceKind.VERSION: "ev_version_",
    EvidenceKind.PASSING_RUN: "ev_passing_",
}


def field_text(source: BaseModel, name: str) -> str | None:
    """Return the value of the field `name` of an object: text unchanged, other values as JSON.

    Return None if the field is absent or null.
    """
    if name in type(source).model_fields or name in (source.model_extra or {}):
        value = getattr(source, name)
    else:
        return None
    if value is None:
        return None
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def quotable_field(source: Quotable, *names: str) -> str:
    """Return the first of the field names `names` whose value in `source` is not blank.

    If all values are blank, return the last name.
    """
    return next((name for name in names if (field_text(source, name) or "").strip()), names[-1])


def ref_id(source: Quotable) -> str:
    """Return the id of an object of a run, as evidence cites it."""
    match source:
        case ToolCall():
            return source.call_id
        case Step():
            return source.step_id
        case GuardrailEvent():
            return source.event_id
        case LogLine():
            return source.record_id
        case AgentRun() | PassingRun() | PassedCall():
            return source.run_id


def _title(kind: EvidenceKind, source: Quotable) -> str:
    match source:
        case ToolCall():
            return f"{'Failed tool call' if source.status is StepStatus.FAILURE else 'Tool call'}: {source.tool_name}"
        case Step():
            return f"{'Failed step' if source.status is StepStatus.FAILURE else 'Step'}: {source.name}"
        case GuardrailEvent():
            return f"Guardrail event: {source.type}"
        case LogLine():
            return f"Log line: {source.severity_text or ('error' if source.is_error else 'warning')}"
        case PassingRun() | PassedCall():
            return f"Passing run {source.run_id}"
        case AgentRun():
            return "Version of the agent" if kind is EvidenceKind.VERSION else f"Run of {source.agent_name}"


def _own_attributes(kind: EvidenceKind, source: Quotable) -> Attributes:
    match source:
        case ToolCall():
            return {"error_class": source.error_class, "status_code": source.status_code}
        case Step():
            return {"error_class": source.error_class, "status": source.status.value}
        case GuardrailEvent():
            return {"type": source.type}
        case LogLine():
            return {"severity": source.severity, "span_id": source.span_id}
        case AgentRun() if kind is EvidenceKind.RUN:
            return {"error_type": source.error_type}
        case _:
            return {}


def _cut(text: str, start: int, end: int) -> str:
    """Return about `MAX_SNIPPET_CHARS` characters of `text` around its part `start:end`.

    A shorter text is returned unchanged.
    """
    if len(text) <= MAX_SNIPPET_CHARS:
        return text
    centre = (start + min(end, start + MAX_SNIPPET_CHARS)) // 2
    first = max(0, min(centre - MAX_SNIPPET_CHARS // 2, len(text) - MAX_SNIPPET_CHARS))
    return text[first : first + MAX_SNIPPET_CHARS]


class EvidenceCollector:
    """Turns quotations of a run into evidence with ids, in the order in which `quote` is called.

    The first quotation of an object gets an id such as `ev_tool_<call_id>`. Further quotations of the same object get
    this id with `~2`, `~3` and so on appended.

    Args:
        run: the quoted run.
        known: the evidence of an existing report, which comes before the new evidence.
    """

    def __init__(self, run: AgentRun, known: Sequence[Evidence] = ()) -> None:
        self._run = run
        self._by_id: dict[str, Evidence] = {item.evidence_id: item for item in known}
        self._by_place: dict[tuple[object, ...], str] = {}
        self._quoted: set[int] = set()
        # A numbered id must not equal the id of another object of the run.
        self._plain_ids: frozenset[str] | None = None

    @property
    def evidence(self) -> dict[str, Evidence]:
        """The evidence collected so far, by id, in the order of collection."""
        return dict(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def has_quoted(self, source: Quotable) -> bool:
        """Whether `quote` has added a quotation of any field of `source`, which is an object of the run."""
        return id(source) in self._quoted

    def quote_all(self, quotations: Iterable[Quotation]) -> tuple[str, ...]:
        """Add quotations to the evidence, and return the different ids of this evidence, in the order of the quotations."""
        return tuple(dict.fromkeys(map(self.quote, quotations)))

    def quote(self, quotation: Quotation) -> str:
        """Add a quotation to the evidence, and return the id of this evidence. Equal quotations have the same id.

        Raises:
            ValueError: the quoted field is absent, null or empty (a bug of the calling detector).
        """
        source = quotation.source
        text = field_text(source, quotation.field)
        if not text:
            raise ValueError(f"{type(source).__name__} {ref_id(source)!r} has no {quotation.field} to quote.")
        snippet = _cut(text, quotation.start, quotation.end)
        attributes = {**_own_attributes(quotation.kind, source), **quotation.attributes}
        extra = tuple(sorted(quotation.attributes.items()))
        place = (quotation.kind, id(source), quotation.field, snippet, extra)
        known = self._by_place.get(place)
        if known is not None:
            return known
        evidence_id = self._free_id(_PREFIX[quotation.kind] + ref_id(source))
        self._by_place[place] = evidence_id
        self._quoted.add(id(source))
        self._by_id[evidence_id] = Evidence(
            evidence_id=evidence_id,
            kind=quotation.kind,
            ref_id=ref_id(source),
            title=quotation.title or _title(quotation.kind, source),
            field=quotation.field,
            snippet=snippet,
            attributes=attributes,
        )
        return evidence_id

    def _free_id(self, plain: str) -> str:
        if plain not in self._by_id:
            return plain
        if self._plain_ids is None:
            self._plain_ids = _plain_ids(self._run)
        number = 2
        while (candidate := f"{plain}~{number}") in self._by_id or candidate in self._plain_ids:
            number += 1
        return candidate


def _plain_ids(run: AgentRun) -> frozenset[str]:
    kinds: tuple[tuple[EvidenceKind, list[Quotable]], ...] = (
        (EvidenceKind.TOOL_CALL, [*run.tool_calls]),
        (EvidenceKind.STEP, [*run.steps]),
        (EvidenceKind.GUARDRAIL_EVENT, [*run.guardrail_events]),
    )
    return frozenset(_PREFIX[kind] + ref_id(source) for kind, sources in kinds for source in sources)
