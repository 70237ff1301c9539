"""Define the state of an incident's workflow (a LangGraph graph), and convert its values to JSON and back.

The state holds only plain JSON values. So a checkpoint that an attacker has changed cannot create other objects when it
is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypedDict

from pydantic import TypeAdapter

from relab.incidents.diagnosis.candidates import Candidate
from relab.incidents.diagnosis.investigation import InvestigationResult, KnownFacts
from relab.incidents.models import Snapshot
from relab.knowledge.models import FactValue

Way = Literal["investigate", "plan", "approve", "execute", "verify", "learn", "escalate", "end", "monitor"]
"""The name of the next node, which a node with several successors returns."""

_SNAPSHOT = TypeAdapter(Snapshot)
_KNOWN = TypeAdapter(KnownFacts)
_CANDIDATES = TypeAdapter(tuple[Candidate, ...])


class Handover(TypedDict):
    """The facts and log lines that were known when an incident was handed over to people.

    Attributes:
        at_us: the time of the handover, in microseconds since 1970.
        facts: the values of the known facts, by name.
        templates: the number of lines of each log template (a log message with its variable parts masked) in the poll
            that showed the symptoms.
    """

    at_us: int
    facts: dict[str, FactValue]
    templates: dict[str, int]


class IncidentState(TypedDict, total=False):
    """The state of an incident's workflow (the graph), which each node reads and changes.

    All times are in microseconds since 1970. "Others" are people, and all clients of the action server except the
    responder.

    Attributes:
        symptoms: the poll that opened the incident; after a new diagnosis, the poll that this diagnosis began with.
        is_unhealthy: whether the target still has a problem.
        diagnosis: the most probable cause.
        confidence: the probability of the diagnosis, 0 to 1.
        root_cause: the reason for the diagnosis, in one sentence.
        action_plan: a list with only the last plan.
        execution_results: the idempotency keys of the actions requested so far, in order.
        recommendation: the last sentence for people: how the incident ended, or why it was handed over.
        known: the facts that probes have found so far, as JSON.
        candidates: the possible causes with their probabilities, as JSON.
        is_confirmed: whether probes at two different times gave the same diagnosis.
        others_since_us: a time; all actions that others requested before this time have been examined.
        others_seen: the ids of the newest records of the action server that have been examined; absent if the server
            gave no list of its records.
        others_first_seen: the ids of the action server's newest records at the beginning of the incident.
        attempt: the number of the last plan, from 1.
        state_digest: the digest of the service's state at the time of the last plan.
        approval_id: the id of the approval request for the last plan; None if none was made or decided yet.
        ground: the sentence in which the policy says why a person has to decide on the last plan.
        before: the last poll before the last action, as JSON.
        again: the idempotency keys of refused or rolled-back actions that may be planned once more.
        tried: the plans that were refused or rejected, each as `[action, target, fingerprint]`. The fingerprint is the
            digest of the action's name and parameters.
        refused_cause: a confirmed cause, if the action server has just refused its repair; otherwise empty.
        stand_downs: how often the workflow has waited because the policy temporarily forbade every action.
        stood_down_us: when the first of these waits after the last plan began; 0 without such a wait.
        waits: how often the workflow has waited because the policy refused one plan for a short time.
        unanswered: the number of consecutive approval requests without an answer.
        suspected: the cause that the last probes before the handover to people indicated, although the diagnosis was
            `unknown`.
        handovers: what was known at each of the latest handovers to people, the earliest handover first.
        heard: how often people had reported the problem (`lab incidents trigger`) at the last diagnosis or handover.
        heard_seq: the number of the newest timeline event at the last handover or plan; only later events are new.
        relooks: how often the incident was diagnosed again, after a handover or because of new outages.
        relooked_at: the times of the latest diagnoses that `relooks` counts.
        episode_us: when the present outage began, if the service had recovered before; otherwise 0.
        way: the name of the graph's next node.
        reason: why the workflow goes to the next node.
    """

    # Checkpoints store the state under these keys, so a renamed key needs a conversion of stored states.
    incident_id: str
    symptoms: dict[str, Any]
    is_unhealthy: bool
    diagnosis: str
    confidence: float
    root_cause: str
    action_plan: list[dict[str, Any]]
    execution_results: list[str]
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
    refused_cause: str
    stand_downs: int
    stood_down_us: int
    waits: int
    unanswered: int
    suspected: str
    handovers: list[Handover]
    heard: int
    heard_seq: int
    relooks: int
    relooked_at: list[int]
    episode_us: int
    way: Way
    reason: str


def asked_as(state: IncidentState) -> str:
    """Return the id of the approval request for the last plan in `state`; compute the id if the state has none yet."""
    return state.get("approval_id") or f"{state['incident_id']}.{state['attempt']}"


def dump_poll(poll: Snapshot) -> dict[str, Any]:
    """Return a poll as JSON, with the attributes of `Snapshot` as keys."""
    found: dict[str, Any] = _SNAPSHOT.dump_python(poll, mode="json")
    return found


def load_poll(document: Mapping[str, Any]) -> Snapshot:
    """Convert the JSON that `dump_poll` returned back to a poll."""
    return _SNAPSHOT.validate_python(document)


def dump_known(known: KnownFacts) -> dict[str, Any]:
    """Return known facts as JSON, with the attributes of `KnownFacts` as keys."""
    return {
        "facts": dict(known.facts),
        "evidence": {fact: asdict(item) for fact, item in known.evidence.items()},
        "looked": list(known.looked),
    }


def load_known(document: Mapping[str, Any]) -> KnownFacts:
    """Convert the JSON that `dump_known` returned back to the known facts, with their evidence and probes."""
    return _KNOWN.validate_python(document)


def dump_candidates(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return candidates (causes with their probabilities) as JSON, with the attributes of `Candidate` as keys."""
    found: list[dict[str, Any]] = _CANDIDATES.dump_python(tuple(candidates), mode="json")
    return found


def load_candidates(documents: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
    """Convert the JSON that `dump_candidates` returned back to candidates (causes with their probabilities)."""
    return _CANDIDATES.validate_python(documents)


def thought_of(thought: InvestigationResult) -> IncidentState:
    """Return the keys of an incident's state that the result of an investigation changes, with their new values."""
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
