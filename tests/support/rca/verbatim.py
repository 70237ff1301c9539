"""A check that evidence quotes a run verbatim, independent of the code that collects evidence."""

from __future__ import annotations

from collections.abc import Sequence

from relab.rca.evidence import MAX_SNIPPET_CHARS, Quotable, field_text
from relab.rca.models import Evidence, EvidenceKind
from relab.telemetry.log_models import LogLine
from relab.telemetry.models import AgentRun
from relab.telemetry.past_models import PassingRun

_PREFIX = {
    EvidenceKind.TOOL_CALL: "ev_tool_",
    EvidenceKind.GUARDRAIL_EVENT: "ev_guard_",
    EvidenceKind.STEP: "ev_step_",
    EvidenceKind.LOG_LINE: "ev_log_",
    EvidenceKind.RUN: "ev_run_",
    EvidenceKind.VERSION: "ev_version_",
    EvidenceKind.PASSING_RUN: "ev_passing_",
}
_VERSION_FIELDS = frozenset({"agent_version", "prompt_hash"})


def verify_verbatim(
    run: AgentRun, evidence: Evidence, logs: Sequence[LogLine] = (), passing: Sequence[PassingRun] = ()
) -> bool:
    """Return whether a piece of evidence quotes `run`, a line of its log (`logs`) or one of the `passing` runs verbatim.

    True if the id has the prefix of its kind and the object's id, the object exists, and the
    snippet is a non-empty contiguous part (at most `MAX_SNIPPET_CHARS`) of the text of the
    field. Evidence of a version may quote only `agent_version` or `prompt_hash`.
    """
    if not 0 < len(evidence.snippet) <= MAX_SNIPPET_CHARS:
        return False
    if not evidence.evidence_id.startswith(_PREFIX[evidence.kind] + evidence.ref_id):
        return False
    if evidence.kind is EvidenceKind.VERSION and evidence.field not in _VERSION_FIELDS:
        return False
    texts = (field_text(source, evidence.field) for source in _objects(run, evidence, logs, passing))
    return any(text is not None and evidence.snippet in text for text in texts)


def _objects(
    run: AgentRun, evidence: Evidence, logs: Sequence[LogLine], passing: Sequence[PassingRun]
) -> Sequence[Quotable]:
    match evidence.kind:
        case EvidenceKind.PASSING_RUN:
            found = [other for other in passing if other.run_id == evidence.ref_id]
            call_id = evidence.attributes.get("call_id")
            return (
                found
                if call_id is None
                else [call for other in found for call in other.calls if call.call_id == call_id]
            )
        case EvidenceKind.TOOL_CALL:
            return [call for call in run.tool_calls if call.call_id == evidence.ref_id]
        case EvidenceKind.STEP:
            return [step for step in run.steps if step.step_id == evidence.ref_id]
        case EvidenceKind.GUARDRAIL_EVENT:
            return [event for event in run.guardrail_events if event.event_id == evidence.ref_id]
        case EvidenceKind.LOG_LINE:
            return [line for line in logs if line.record_id == evidence.ref_id]
        case EvidenceKind.RUN | EvidenceKind.VERSION:
            return [run] if run.run_id == evidence.ref_id else []
