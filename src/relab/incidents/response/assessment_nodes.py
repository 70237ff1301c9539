"""The nodes of the incident workflow that read polls, run probes and diagnose the cause.

They are `monitor`, `detect`, `gather`, `diagnose` and `investigate`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from typing import Any

from relab.incidents.actions.records import idempotency_key
from relab.incidents.diagnosis.investigation import InvestigationResult
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.ended_cause import EndedCause
from relab.incidents.response.recovery import WELL_AGAIN, reports_by_hand
from relab.incidents.response.situation import SituationReader
from relab.incidents.response.state import (
    IncidentState,
    dump_candidates,
    dump_known,
    dump_poll,
    load_known,
    load_poll,
    thought_of,
)
from relab.incidents.storage.models import IncidentStatus, NewEvent, Phase
from relab.knowledge.models import UNNAMED

_MAX_EVENT_EVIDENCE = 8
_MAX_PAIRS = 3
_MAX_REPEATS = 3
"""How often a confirmed cause without a repair is probed again if new probes do not show it.

Many symptoms come and go.
"""
_BELIEVED = frozenset(("trigger", "alert"))
"""Detectors of findings from outside. These are investigated even if polls do not show them."""


class AssessmentNodes:
    """The nodes of the incident workflow that run probes and diagnose the cause; they do not change the service.

    Each node takes the state of the workflow, and returns the keys of this state that it changes, with their values.
    """

    def __init__(self, world: ResponseContext) -> None:
        self._world = world
        self._ended = EndedCause(world)

    async def monitor(self, state: IncidentState) -> IncidentState:
        """Return the latest poll under the key `symptoms` of the state, so that the next nodes examine this poll.

        A poll is one set of answers of the target. If the action server, which executes repairs, answers, the result
        also has the ids of its newest records; ids that are in the state already are kept. Later nodes compare new
        records with these ids, to find actions that people or other clients have requested meanwhile.
        """
        feed = self._world.watch.feed
        poll = feed.latest or (await feed.after(0))[-1]
        now_us = self._world.clock.now_us()
        changed: IncidentState = {"symptoms": dump_poll(poll), "others_since_us": state.get("others_since_us", now_us)}
        # Records with other ids that appear later show actions of people and other clients.
        seen = await SituationReader(self._world).records_seen()
        if seen is None:
            return changed
        # Keep the ids of an earlier pass: actions of others since then have not been examined yet.
        first = state.get("others_first_seen", seen)
        return {**changed, "others_seen": state.get("others_seen", seen), "others_first_seen": first}

    async def detect(self, state: IncidentState) -> IncidentState:
        """Check whether the target still has a problem, and return the answer under the key `is_unhealthy` of the state.

        An incident that a person or an alert has reported always counts as a problem. If the problem has passed, the
        result also contains the reason for the end.
        """
        incident = await self._world.blocking(self._world.log.get, state["incident_id"])
        if any(finding.detector in _BELIEVED for finding in incident.findings):
            return {"is_unhealthy": True}
        feed, number = self._world.watch.feed, self._world.watch.feed.number
        for polls_left in reversed(range(self._world.settings.detection.confirm_of_polls + 1)):
            findings = self._world.watch.findings
            # Stale figures do not show that the problem has passed.
            if findings.is_stale or findings.opens or any(item.opens for item in findings.passing):
                return {"is_unhealthy": True}
            if polls_left:
                await feed.after(number)
                number = feed.number
        if state.get("relooks"):
            new_event = NewEvent("gone_again", "The problem is no longer seen; a person still handles the incident.")
            await self._world.append_events(
                state["incident_id"], Phase.DETECT, new_event, status=IncidentStatus.ESCALATED
            )
        return {
            "is_unhealthy": False,
            "way": "end",
            "reason": "The problem has passed, and no action was executed.",
            "incident_id": state["incident_id"],
        }

    async def gather(self, state: IncidentState) -> IncidentState:
        """Run the first probes of an investigation, and return their facts (as JSON) under the key `known` of the state."""
        poll = load_poll(state["symptoms"])
        investigator = await self._world.investigator(state["incident_id"], {})
        known = await investigator.gather(poll)
        new_event = NewEvent("gathered", f"{len(known.facts)} facts are known.", {"looks": list(known.looked)})
        await self._world.append_events(state["incident_id"], Phase.GATHER, new_event, symptoms=dict(known.facts))
        return {"known": dump_known(known)}

    async def diagnose(self, state: IncidentState) -> IncidentState:
        """Rank the causes by the facts known so far, without further probes; return the changed keys of the state."""
        known = load_known(state["known"])
        investigator = await self._world.investigator(state["incident_id"], known.facts)
        candidates = investigator.diagnose(known)
        best = candidates[0]
        new_event = NewEvent(
            "thought",
            f"The first facts indicate {best.cause}, with a probability of {best.probability:.2f}.",
            {"candidates": _short(candidates)},
        )
        await self._world.append_events(state["incident_id"], Phase.DIAGNOSE, new_event)
        return {
            "candidates": dump_candidates(candidates),
            "diagnosis": best.cause,
            "confidence": best.probability,
        }

    async def investigate(self, state: IncidentState) -> IncidentState:
        """Run more probes and diagnose the cause; return the changed keys of the state.

        The probes end when the diagnosis is confirmed and no other probe would add information, or after the maximum
        number of rounds. If a later node has returned to this node (the state's `way` is `investigate`), the diagnosis
        starts again from the first probes.

        The next node is usually `plan`. It is `learn`, which closes the incident, if all of these conditions hold:
        - A later node returned, because the action server refused the repair of a confirmed cause.
        - The new diagnosis finds no known cause.
        - The confirmed cause has ended by itself, and users are served well.
        """
        if state.get("way") == "investigate":
            changed: IncidentState = {**await self.diagnose_again(state), "refused_cause": ""}
            refused = state.get("refused_cause", "")
            if refused and changed["diagnosis"] == UNNAMED and await self._ended.has_passed(state, refused):
                reason = f"{refused} ended before it was repaired. {WELL_AGAIN}"
                return {**changed, "way": "learn", "reason": reason}
            return {**changed, "way": "plan"}
        known = load_known(state["known"])
        investigator = await self._world.investigator(state["incident_id"], known.facts)
        found = await self._append_diagnosis(state["incident_id"], await investigator.investigate(known))
        return {**found, "way": "plan"}

    async def diagnose_again(self, state: IncidentState) -> IncidentState:
        """Run new probes and diagnose the incident from the start; return the changed keys of the state.

        Normally this is done once. If `state` has a confirmed cause whose plan was not requested, it is repeated with
        the next polls until the new diagnosis finds a known cause. There are at most `_MAX_REPEATS` repetitions, and
        none after `rediagnosis_timeout_s` seconds.
        """
        feed = self._world.watch.feed
        deadline = asyncio.get_running_loop().time() + self._world.settings.rediagnosis_timeout_s
        poll = feed.latest or load_poll(state["symptoms"])
        facts = load_known(state["known"]).facts if "known" in state else {}
        investigator = await self._world.investigator(state["incident_id"], facts)
        thought = await investigator.investigate(await investigator.gather(poll))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for _ in range(_MAX_REPEATS if was_sure(state) else 0):
                    if thought.best.cause != UNNAMED:
                        break
                    number = feed.number
                    poll = (await feed.after(number))[-1]
                    thought = await investigator.investigate(await investigator.gather(poll))
        return await self._append_diagnosis(state["incident_id"], thought)

    async def _append_diagnosis(self, incident_id: str, thought: InvestigationResult) -> IncidentState:
        """Write the diagnosis in `thought` to the timeline, and return the changed keys of the state."""
        changed = thought_of(thought)
        new_event = NewEvent(
            "diagnosed",
            _said(thought),
            {
                "candidates": _short(thought.candidates),
                "together": _together(thought),
                "evidence": [asdict(item) for item in thought.cited[:_MAX_EVENT_EVIDENCE]],
                "looks": list(thought.known.looked),
                "rounds": thought.rounds,
                "is_confirmed": thought.is_confirmed,
            },
            evidence=[item.evidence_id for item in thought.cited],
        )
        incident = await self._world.append_events(
            incident_id,
            Phase.INVESTIGATE,
            new_event,
            diagnosis=changed["diagnosis"],
            probability=changed["confidence"],
            symptoms=dict(thought.known.facts),
            content={"candidates": _short(thought.candidates)},
        )
        return {**changed, "heard": reports_by_hand(incident)}


def was_sure(state: IncidentState) -> bool:
    """Return whether the diagnosis in `state` is confirmed, and the action of the last plan was not requested yet."""
    if not state.get("is_confirmed") or state.get("diagnosis", UNNAMED) == UNNAMED:
        return False
    if "attempt" not in state:
        return True
    key = idempotency_key(state["incident_id"], state["attempt"], state["action_plan"][-1]["action"])
    results: list[Any] = [*state.get("execution_results", [])]
    # Checkpoints of earlier versions have the key in a dictionary.
    executed = {each["key"] if isinstance(each, dict) else each for each in results}
    return key not in executed


def _said(thought: InvestigationResult) -> str:
    best, second = thought.best, thought.second
    if second is None:
        return f"The cause is {best.cause}, with a probability of {best.probability:.2f}."
    both = best.together[second.cause]
    return (
        f"Two causes are present at once, with a probability of {both:.2f}: "
        f"{best.cause} ({best.probability:.2f}) and {second.cause} ({second.probability:.2f})."
    )


def _together(thought: InvestigationResult) -> list[dict[str, Any]]:
    """Return at most three pairs of causes that may be present together, as JSON, the likeliest pair first.

    Each pair is the most probable cause and another cause, with the probability of the pair.
    """
    found = list(thought.best.together.items())[:_MAX_PAIRS]
    return [{"causes": [thought.best.cause, other], "probability": round(each, 4)} for other, each in found]


def _short(candidates: Any) -> list[dict[str, Any]]:
    return [{"cause": item.cause, "probability": round(item.probability, 4)} for item in candidates[:5]]
