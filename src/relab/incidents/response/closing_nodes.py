"""The nodes `learn`, `escalate` and `watch` of the workflow: close an incident, or hand it over to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from relab.incidents.actions.errors import ActionServerError
from relab.incidents.actions.records import ActionRecord, ActionStatus, RepairResult, ServerRecord, of_others
from relab.incidents.diagnosis.investigation import KnownFacts
from relab.incidents.postmortem.service import events_of
from relab.incidents.postmortem.signal_events import signals_event
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.news import MAX_REDIAGNOSES, RECURRED, may_diagnose_again, state_after_news, unused_news
from relab.incidents.response.recovery import WELL_AGAIN, Recovery, reports_by_hand
from relab.incidents.response.state import Handover, IncidentState, dump_known, load_known, load_poll
from relab.incidents.response.verification_loop import VerificationLoop
from relab.incidents.storage.errors import IncidentOverError
from relab.incidents.storage.models import Incident, IncidentStatus, NewEvent, Phase, TimelineEvent
from relab.incidents.storage.models import IncidentOutcome as End
from relab.knowledge.models import UNNAMED, FactValue, PastIncident, Resolver, Runbook, TriedAction, TriedActionResult
from relab.knowledge.service import RunbookFolderError

_ACTION_RESULTS: Final = {
    RepairResult.VERIFIED: TriedActionResult.HELPED,
    RepairResult.MITIGATED: TriedActionResult.HELPED,
    RepairResult.FAILED: TriedActionResult.CHANGED_NOTHING,
    RepairResult.WORSE: TriedActionResult.MADE_WORSE,
}
_AGAIN: Final = "Another problem has begun, so the incident is diagnosed again"
_SUSPECTED_FROM: Final = 0.8
"""The probability of a cause from which the probes at a handover are a reason to diagnose again.

A runbook of high risk demands as much.
"""
_MAX_HANDOVERS: Final = MAX_REDIAGNOSES + 1
_ENDS: Final = {Resolver.RESPONDER: End.RESOLVED, Resolver.PERSON: End.ESCALATED, Resolver.ITSELF: End.PASSED}


class ClosingNodes:
    """The nodes of the incident workflow that close an incident, or hand it over to people and wait for its end.

    Each node takes the state of the workflow, and returns the keys of this state that it changes, with their values.
    """

    def __init__(self, world: ResponseContext) -> None:
        self._world = world

    async def learn(self, state: IncidentState) -> IncidentState:
        """Close an incident whose problem has ended, and store it as a past incident for later diagnoses.

        If no facts about the target were collected for a diagnosis, no past incident is stored.

        Raises:
            IncidentOverError: a person has ended the incident meanwhile.
        """
        world, incident_id = self._world, state["incident_id"]
        incident = await world.blocking(world.log.get, incident_id)
        if incident.is_over:
            raise IncidentOverError(incident_id)
        acts = await world.blocking(world.log.actions.of_incident, incident_id)
        others = [] if state.get("is_resolved") else await self._done_by_others(state, incident, acts) or []
        resolver = self._resolver(state, others)
        well = {} if resolver is Resolver.RESPONDER else await self._well(state)
        past = self._past(state, incident, acts, others, resolver, well)
        if "known" in state:
            await world.blocking(self._remember_if_open, past)
        said = {
            Resolver.RESPONDER: _mended(past.cause, acts),
            Resolver.PERSON: f"Others have ended it: {', '.join(record.action for record in others)}.",
            Resolver.ITSELF: state.get("reason") or "The problem ended without an action.",
        }[resolver]
        said += await self._outages(incident_id)
        await self._keep_signals(incident_id, "learn")
        if resolver is Resolver.RESPONDER:
            said += await self._what_stays(past.cause, acts)
        if resolver is Resolver.PERSON:
            await self._draft(incident_id, await world.learnt())
        elif resolver is Resolver.RESPONDER:
            await self._draft(incident_id, await world.blocking(world.knowledge.revisions, past.cause))
        content = {"cause": past.cause, "tried": [each.model_dump(mode="json") for each in past.tried]}
        now_us, end = world.clock.now_us(), _ENDS[resolver]
        closed = await world.blocking(
            world.log.close, incident_id, at_us=now_us, outcome=end, message=said, content=content
        )
        if closed.outcome is not end:
            raise IncidentOverError(incident_id)
        return {"is_resolved": True, "recommendation": said}

    def _remember_if_open(self, past: PastIncident) -> None:
        with self._world.log.while_open(past.incident_id) as unit:
            self._world.knowledge.remember(past, unit)

    async def escalate(self, state: IncidentState) -> IncidentState:
        """Hand the incident over to people, with the known facts and the reason why the responder stops."""
        reason = state.get("reason") or "No action should be tried."
        thought = state.get("diagnosis", UNNAMED)
        said = f"A person is needed. {reason}"
        # A person who takes over needs all facts; and if that person ends the incident, the responder learns from them.
        known = load_known(state.get("known", {})).with_probes(PROBES, await self._world.probes.run(list(PROBES)))
        new_event = NewEvent(
            "escalated",
            said,
            {"diagnosis": thought, "confidence": state.get("confidence"), "root_cause": state.get("root_cause", "")},
            # A process that was killed here hands over again; the key keeps people from a second notification.
            once=f"escalated.{state.get('relooks', 0)}",
        )
        await self._keep_signals(state["incident_id"], "escalate")
        triggers = reports_by_hand(await self._world.blocking(self._world.log.get, state["incident_id"]))
        seen = self._world.watch.outages.seen(self._world.clock.now_us())
        handed_over = await self._world.append_events(
            state["incident_id"],
            Phase.ESCALATE,
            new_event,
            status=IncidentStatus.ESCALATED,
            recommendation=said,
            symptoms=dict(known.facts),
        )
        # People are notified of the state at `seen`; anomalies that came after it are news.
        self._world.watch.outages.note_notified(seen)
        handovers = [*state.get("handovers", []), _handover(handed_over.updated_at, known, state)]
        return {
            "is_resolved": False,
            "recommendation": said,
            "known": dump_known(known),
            "suspected": await self._suspected(state, known),
            "handovers": handovers[-_MAX_HANDOVERS:],
            "heard": triggers,
            "heard_seq": handed_over.last_seq,
        }

    async def watch(self, state: IncidentState) -> IncidentState:
        """Wait after a handover to people; return which node follows.

        - `learn`, once users are served well again
        - no node, once a person has ended the incident
        - `monitor`, for a new diagnosis: if a person reports the problem again, if another outage begins or one becomes
          much worse, or if the incident was handed over without a diagnosis, but the probes at that time indicate a
          cause
        """
        world = self._world
        suspected = state.get("suspected", "")
        if suspected and may_diagnose_again(state, world.clock.now_us()):
            said = f"The last probes show signs of {suspected}, so the incident is diagnosed again."
            return await self._diagnose_again(state, [], said)
        recovery = Recovery(world, state["incident_id"], state["symptoms"])
        while True:
            await recovery.poll()
            incident = await world.blocking(world.log.get, state["incident_id"])
            if incident.is_over:
                return {"way": "end"}
            if await recovery.has_passed():
                return {"way": "learn", "reason": WELL_AGAIN, "is_resolved": await self._has_mended(state)}
            if reports_by_hand(incident) > state.get("heard", 0):
                why = next(each.detail for each in incident.findings if each.detector == "trigger")
                return await self._diagnose_again(state, [], f"{_AGAIN}: {why}")
            if news := await unused_news(world, state, incident):
                return await self._diagnose_again(state, news, f"{_AGAIN}: {news[-1].message}")

    async def _has_mended(self, state: IncidentState) -> bool:
        """Return whether the last action has ended the incident; if so, store that action's effect as `VERIFIED`.

        Four conditions must hold:
        - The action was for the cause that is diagnosed now.
        - The action's stored effect is `MITIGATED`: the cause was gone, but the service was not back to normal in time.
        - Probes show that the cause is still gone.
        - The action server's records show that no person and no other client has acted during the incident.
        """
        world, incident_id = self._world, state["incident_id"]
        acts = [act for act in await world.blocking(world.log.actions.of_incident, incident_id) if act.undoes is None]
        if not acts or acts[-1].effect is not RepairResult.MITIGATED or acts[-1].cause != state.get("diagnosis"):
            return False
        act = acts[-1]
        book = next((book for book in await world.runbooks() if book.cause == act.cause), None)
        incident = await world.blocking(world.log.get, incident_id)
        if book is None or await self._done_by_others(state, incident, acts) != []:
            return False
        if not await VerificationLoop(world).is_gone(book):
            return False
        await world.blocking(world.log.actions.note_effect, act.key, RepairResult.VERIFIED, at_us=world.clock.now_us())
        return True

    async def _suspected(self, state: IncidentState, known: KnownFacts) -> str:
        """Return the probable cause by the last probes before the handover to people; empty if they show none.

        `known` holds the facts of these probes. The result is also empty if the incident has a diagnosis already.
        """
        if state.get("diagnosis", UNNAMED) != UNNAMED:
            return ""
        # A problem that comes and goes may have been absent during the investigation.
        investigator = await self._world.investigator(state["incident_id"], known.facts, asks_model=False)
        best = investigator.diagnose(known)[0]
        is_sure = best.probability >= _SUSPECTED_FROM and not best.unproven
        return best.cause if is_sure and best.cause != UNNAMED else ""

    async def _diagnose_again(self, state: IncidentState, news: Sequence[TimelineEvent], said: str) -> IncidentState:
        now_us = self._world.clock.now_us()
        new_event = NewEvent("looks_again", said, {"news": [event.seq for event in news]})
        found = await self._world.append_events(
            state["incident_id"], Phase.MONITOR, new_event, status=IncidentStatus.OPEN
        )
        return {"way": "monitor", **state_after_news(state, news, found, now_us)}

    async def _what_stays(self, cause: str, acts: Sequence[ActionRecord]) -> str:
        """Return a sentence that asks people to remove the responder's load limit later; empty if there is no limit.

        The limit is the last action that was verified and not rolled back, if the runbook of the cause limits the load.
        The sentence is also written to the timeline.

        Args:
            cause: the cause that was repaired.
            acts: the actions of the incident.
        """
        world = self._world
        book = next((book for book in await world.runbooks() if book.cause == cause), None)
        helped = [act for act in acts if act.effect is RepairResult.VERIFIED and act.status is not ActionStatus.UNDONE]
        if book is None or not book.sheds or not helped:
            return ""
        act = helped[-1]
        limits = ", ".join(f"{name} = {value}" for name, value in act.parameters.items())
        said = f"{act.action} ({limits}) stays in force: reset it when the load can be served again."
        new_event = NewEvent("limit_stays", said, {"key": act.key}, once="limit_stays")
        await world.blocking(world.log.append, act.incident_id, new_event, at_us=world.clock.now_us())
        return f" {said}"

    async def _outages(self, incident_id: str) -> str:
        """Return a sentence that says how often the outage came back during the incident; empty if it did not."""
        events = await self._world.blocking(events_of, self._world.log, incident_id)
        count = sum(event.kind == RECURRED for event in events)
        return f" It recurred {count} time{'' if count == 1 else 's'} before that." if count else ""

    async def _draft(self, incident_id: str, books: Sequence[Runbook]) -> None:
        """Store runbooks as drafts, which people may accept; write each draft's path, or the error, to the timeline."""
        world = self._world
        for book in books:
            try:
                path = await world.blocking(world.knowledge.draft, book)
                new_event = NewEvent(
                    "drafted",
                    f"A draft of a runbook is ready for review: {path}",
                    {"cause": book.cause},
                    once=book.cause,
                )
            except RunbookFolderError as error:
                new_event = NewEvent("not_drafted", str(error), {"cause": book.cause}, once=book.cause)
            await world.blocking(world.log.append, incident_id, new_event, at_us=world.clock.now_us())

    async def _keep_signals(self, incident_id: str, when: str) -> None:
        """Store the signals (measured values) of the latest polls in the incident's timeline, for its postmortem.

        `when` is the name of the calling node. A second call with the same name stores nothing.
        """
        world, incident = self._world, await self._world.blocking(self._world.log.get, incident_id)
        wanted = [finding.signal for finding in incident.findings]
        new_event = signals_event(world.watch.feed.polls, incident.opened_at, wanted, once=f"signals.{when}")
        await world.blocking(world.log.append, incident_id, new_event, at_us=world.clock.now_us())

    async def _well(self, state: IncidentState) -> dict[str, FactValue]:
        """Return the facts about the service after an incident, when it is healthy.

        The facts come from the latest poll, and from a new run of the probes that were used in the incident.
        """
        poll, probes = self._world.watch.feed.latest, load_known(state.get("known", {})).looked
        found: dict[str, FactValue] = {} if poll is None else {**poll.words, **poll.numbers}
        return {**found, **(await self._world.probes.run(probes)).facts}

    def _resolver(self, state: IncidentState, others: Sequence[ServerRecord]) -> Resolver:
        if state.get("is_resolved"):
            return Resolver.RESPONDER
        return Resolver.PERSON if others else Resolver.ITSELF

    async def _others(
        self, state: IncidentState, incident: Incident, acts: Sequence[ActionRecord]
    ) -> tuple[ServerRecord, ...]:
        """Return the action server's records of actions that people or other clients requested, the newest first.

        Only actions requested during the incident count. `acts` are the responder's own actions of the incident.

        Raises:
            ActionServerError: a request to the action server failed.
        """
        actions, seen = self._world.actions, state.get("others_first_seen")
        if seen is not None:
            found = of_others((await actions.records_after(seen)).records, acts, since_us=0)
            if found:
                return found
        # A person may have acted before the first look, so compare times as well, although clocks may differ.
        recent = await actions.records_since(incident.opened_at)
        return of_others(recent.records, acts, since_us=incident.opened_at)

    async def _done_by_others(
        self, state: IncidentState, incident: Incident, acts: Sequence[ActionRecord]
    ) -> list[ServerRecord] | None:
        """Return the action server's records of actions that people or other clients requested, the oldest first.

        Only actions requested during the incident count. `acts` are the responder's own actions of the incident, which
        are left out. Return None, and add an event to the timeline, if the records cannot be read.
        """
        try:
            return list(await self._others(state, incident, acts))[::-1]
        except ActionServerError as error:
            new_event = NewEvent("records_unknown", f"It is unknown what others did: {error}")
            await self._world.blocking(
                self._world.log.append, incident.incident_id, new_event, at_us=self._world.clock.now_us()
            )
            return None

    def _past(
        self,
        state: IncidentState,
        incident: Incident,
        acts: Sequence[ActionRecord],
        others: Sequence[ServerRecord],
        resolver: Resolver,
        well: Mapping[str, FactValue],
    ) -> PastIncident:
        ours = [
            TriedAction(action=act.action, parameters=act.parameters, outcome=_action_result(act))
            for act in acts
            # An action that ended another cause says nothing about this one.
            if act.undoes is None and not (act.effect is RepairResult.MITIGATED and act.cause != state.get("diagnosis"))
        ]
        # Which of several actions of a person helped is unknown; assume the last one that succeeded.
        done = [each for each in others if each.undoes is None and each.status is ActionStatus.SUCCEEDED]
        theirs = [
            TriedAction(
                action=record.action,
                parameters=record.parameters,
                outcome=TriedActionResult.HELPED if record in done[-1:] else TriedActionResult.CHANGED_NOTHING,
            )
            for record in others
        ]
        is_known = resolver is Resolver.RESPONDER
        facts, templates = _known_before(state, done[-1] if done else None)
        return PastIncident(
            incident_id=incident.incident_id,
            target=incident.target,
            opened_at=incident.opened_at,
            resolved_at=self._world.clock.now_us(),
            cause=state.get("diagnosis", UNNAMED) if is_known else UNNAMED,
            facts=facts,
            well=dict(well),
            templates=templates,
            tried=tuple([*ours, *theirs][:100]),
            resolved_by=resolver,
            resolver=others[-1].actor if others else "",
        )


def _mended(cause: str, acts: Sequence[ActionRecord]) -> str:
    """Return a sentence that names all causes that the responder repaired in an incident.

    Args:
        cause: the cause that was repaired last.
        acts: the actions of the incident, which show the causes that were repaired earlier.
    """
    before = [act.cause for act in acts if act.effect is RepairResult.MITIGATED and act.cause != cause]
    causes = [*dict.fromkeys(before), cause]
    if len(causes) == 1:
        return f"{cause} is repaired: users are served well, and the cause is gone."
    return f"{', '.join(causes[:-1])} and {cause} are repaired: users are served well, and the causes are gone."


def _handover(at_us: int, known: KnownFacts, state: IncidentState) -> Handover:
    templates = dict(load_poll(state["symptoms"]).templates) if "symptoms" in state else {}
    return {"at_us": at_us, "facts": dict(known.facts), "templates": templates}


def _known_before(state: IncidentState, helped: ServerRecord | None) -> tuple[dict[str, FactValue], dict[str, int]]:
    """Return the facts, and the number of log lines by template, that were known before the incident was repaired.

    If a person's action helped and the incident was handed over to people, the result is from the last handover before
    this action, or else from the first handover. In all other cases, it is from the last diagnosis.

    Args:
        state: the state of the incident workflow.
        helped: the action server's record of the person's action that helped; None if no action of a person succeeded.
    """
    handovers = state.get("handovers", [])
    if helped is not None and handovers:
        # The last diagnosis may be later than the action, and then shows its effect and not the cause.
        before = [each for each in handovers if each["at_us"] <= helped.requested_at_us]
        handover = before[-1] if before else handovers[0]
        return dict(handover["facts"]), dict(handover["templates"])
    facts = load_known(state["known"]).facts if "known" in state else {}
    return dict(facts), dict(load_poll(state["symptoms"]).templates) if "symptoms" in state else {}


def _action_result(act: ActionRecord) -> TriedActionResult:
    if act.status is ActionStatus.REFUSED:
        return TriedActionResult.NOT_DONE
    return (
        _ACTION_RESULTS.get(act.effect, TriedActionResult.CHANGED_NOTHING)
        if act.effect is not None
        else TriedActionResult.CHANGED_NOTHING
    )
