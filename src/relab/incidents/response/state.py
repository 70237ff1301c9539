"""The state of one incident's graph: plain JSON, so that a checkpoint holds nothing that has to be trusted when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypedDict

from pydantic import TypeAdapter

from relab.incidents.diagnosis.candidates import Candidate
from relab.incidents.diagnosis.investigation import Known, Thought
from relab.incidents.models import Snapshot

Way = Literal["investigate", "plan", "approve", "execute", "verify", "learn", "escalate", "end", "monitor"]
"""Which node comes next, where there is a choice."""

_SNAPSHOT = TypeAdapter(Snapshot)
_KNOWN = TypeAdapter(Known)
_CANDIDATES = TypeAdapter(tuple[Candidate, ...])


class IncidentState(TypedDict, total=False):
    """What nodes hand on.

    The first ten are those of the seed; `is_unhealthy` is what its edges ask for.

    Attributes:
        symptoms: the poll that the incident was opened on.
        root_cause: why it is thought so, in one sentence.
        action_plan: every plan that was made, the last one last.
        execution_results: what came of each act.
        known, candidates: what was seen, and what is thought of all causes.
        is_confirmed: whether the diagnosis was the same by looks of two moments.
        others_since_us: acts of others since then were not looked at yet.
        others_seen: ids of the newest records that were looked at; absent where the action server did not tell them.
        others_first_seen: those of when it began.
        attempt: number of the last plan, from 1.
        state_digest: of the state that the last plan was made in.
        approval_id: of the question about the last plan; None where nobody had to be asked.
        ground: why a person is asked.
        before: the last poll before the act.
        again: keys of acts that may be planned once more: they were not begun, for a reason of the moment, or what they had
            ended came back when they were taken back.
        tried: action, target and fingerprint of what the server refused.
        stand_downs, waits: how often was waited so far.
        unanswered: questions in a row that nobody has answered.
        heard: how often people had triggered it when it was handed over.
        heard_seq: the last event of the timeline when it was handed over or a person was asked; later news is not heeded yet.
        relooks: how often news has been looked into.
        relooked_at: when that was, the last times.
        episode_us: since when it has been wrong without a recovery in between; 0: since it was opened.
        reason: why the way is what it is.
    """

    incident_id: str
    symptoms: dict[str, Any]
    is_unhealthy: bool
    diagnosis: str
    confidence: float
    root_cause: str
    action_plan: list[dict[str, Any]]
    execution_results: list[dict[str, Any]]
    is_resolved: bool
    recommendation: str
    known: dict[str, Any]
    candidates: list[dict[str, Any]]
    is_confirmed: bool
    others_since_us: int
    others_seen: list[str]
    others_first_seen: list[str]
    attempt: int
    state_digest: str | None
    approval_id: str | None
    ground: str
    before: dict[str, Any]
    again: list[str]
    tried: list[list[str]]
    stand_downs: int
    waits: int
    unanswered: int
    heard: int
    heard_seq: int
    relooks: int
    relooked_at: list[int]
    episode_us: int
    way: Way
    reason: str


def asked_as(state: IncidentState) -> str:
    """Return the id of the question about the last plan."""
    return state.get("approval_id") or f"{state['incident_id']}.{state['attempt']}"


def dump_poll(poll: Snapshot) -> dict[str, Any]:
    """Return a poll as JSON."""
    found: dict[str, Any] = _SNAPSHOT.dump_python(poll, mode="json")
    return found


def load_poll(document: Mapping[str, Any]) -> Snapshot:
    """Return the poll of a `dump_poll`."""
    return _SNAPSHOT.validate_python(document)


def dump_known(known: Known) -> dict[str, Any]:
    """Return what is known as JSON."""
    return {
        "facts": dict(known.facts),
        "evidence": {fact: asdict(item) for fact, item in known.evidence.items()},
        "looked": list(known.looked),
    }


def load_known(document: Mapping[str, Any]) -> Known:
    """Return what a `dump_known` is of."""
    return _KNOWN.validate_python(document)


def dump_candidates(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return candidates as JSON."""
    found: list[dict[str, Any]] = _CANDIDATES.dump_python(tuple(candidates), mode="json")
    return found


def load_candidates(documents: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
    """Return what a `dump_candidates` is of."""
    return _CANDIDATES.validate_python(documents)


def thought_of(thought: Thought) -> IncidentState:
    """Return what an investigation changes of the state."""
    best = thought.best
    seen = ", ".join(f"{item.fact} is {item.value}" for item in thought.cited[:4])
    return {
        "known": dump_known(thought.known),
        "candidates": dump_candidates(thought.candidates),
        "is_confirmed": thought.is_confirmed,
        "diagnosis": best.cause,
        "confidence": best.probability,
        "root_cause": f"{best.cause}: {seen}" if seen else best.cause,
    }
