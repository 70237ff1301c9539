"""Verify an action: wait for polls, and probe whether the cause of the problem is gone, until the result is certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from relab.incidents.actions.load_shedding import REQUESTS, SHED
from relab.incidents.actions.records import ActionRecord, RepairResult
from relab.incidents.actions.verification import verify
from relab.incidents.actions.verification_models import (
    ActionObservations,
    HealthBounds,
    VerificationResult,
)
from relab.incidents.diagnosis.investigation import FIRST_PROBES
from relab.incidents.models import Snapshot
from relab.incidents.probes.catalogue import probes_for
from relab.incidents.probes.service_health import relative_facts
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.remaining_cause import RemainingCause
from relab.incidents.storage.errors import IncidentOverError
from relab.incidents.storage.models import NewEvent, Phase
from relab.knowledge.models import FactValue, Runbook

_US: Final = 1_000_000
_MAX_POLLS: Final = 1_000
_MAX_FACT_AGE_POLLS: Final = 3
"""The age, in poll intervals, up to which facts describe the present."""
_MAX_REJECTED_SHARE: Final = 0.05
"""A limit on the load rejects up to this share of all requests in the busy moments of a usual day."""


class VerificationLoop:
    """Watches the service after an action until the result of the action is certain."""

    def __init__(self, world: ResponseContext) -> None:
        self._world = world

    async def watched(
        self, act: ActionRecord, before: Snapshot, book: Runbook | None, facts_before: Mapping[str, FactValue]
    ) -> VerificationResult:
        """Wait until the result of an action is certain, and return it.

        If the action sheds load (makes the service reject requests), only accepted requests count. The wait then lasts
        until the limit on the load is no longer needed, or the action has failed.

        Args:
            act: the finished action.
            before: the last poll before the action.
            book: the runbook of the action; None if there is none.
            facts_before: the facts that were known before the action. They show whether the cause that the action
                repairs was present.

        Raises:
            IncidentOverError: a person has ended the incident meanwhile.
        """
        if book is not None and book.sheds:
            return await self._while_it_sheds(act, before, book)
        return await self.without_limits(act, before, book, facts_before)

    async def without_limits(
        self, act: ActionRecord, before: Snapshot, book: Runbook | None, facts_before: Mapping[str, FactValue]
    ) -> VerificationResult:
        """Wait until the result of an action is certain, and return it.

        Use this method for actions that do not limit the load. Requests that the service rejects count as failed.

        Args:
            act: the finished action.
            before: the last poll before the action.
            book: the runbook of the action; None if there is none.
            facts_before: the facts that were known before the action. They show whether the cause that the action
                repairs was present.

        Raises:
            IncidentOverError: a person has ended the incident meanwhile.
        """
        world, settings = self._world, self._world.settings.verification
        course = replace(_course(act, before, book, sheds=False), facts_before=facts_before)
        follow, rest = _Follow(world, act.incident_id), RemainingCause(world, act)
        probes = _probes(book)
        while True:
            course = replace(course, polls=await follow.polls(), stale=frozenset(world.watch.stale))
            found = verify(course, world.bounds(before), settings)
            is_last_word = not found.result.is_pending
            if found.suspects_other and not course.other and (is_last_word or rest.is_due()):
                other = await rest.cause(course, is_worse=found.result is RepairResult.WORSE)
                # The diagnosis took a while, so check again that the cause is still gone.
                course = await self._with_probes(replace(course, other=other), probes)
                found = verify(course, world.bounds(before), settings)
            if not found.result.is_pending:
                return found
            if found.result is RepairResult.RECOVERING:
                await self._append_recovering(act, found)
            if course.mended and self._is_time_to_probe(course, found, 2 * settings.poll_interval_s):
                course = await self._with_probes(course, probes)

    async def _while_it_sheds(self, act: ActionRecord, before: Snapshot, book: Runbook) -> VerificationResult:
        world, settings = self._world, self._world.settings.verification
        course = _course(act, before, book, sheds=True)
        follow = _Follow(world, act.incident_id)
        probes = list(dict.fromkeys([*_probes(book), "service"]))
        contained_at_us: int | None = None
        while True:
            polls = await follow.polls()
            course = replace(course, polls=polls, stale=frozenset(world.watch.stale))
            found = verify(course, self._bounds_of_those_let_in(), settings)
            if found.result is RepairResult.VERIFIED:
                if self._has_subsided(course, book):
                    return found
                if contained_at_us is None:
                    await self._append_contained(act)
                contained_at_us = polls[-1].at_us
            elif not found.result.is_pending:
                # A short slow phase of the admitted requests is not a failure.
                patience_us = int(settings.effect_timeout_s * _US)
                is_moment = contained_at_us is not None and 0 <= polls[-1].at_us - contained_at_us < patience_us
                if not is_moment:
                    return found
            between_s = 2 * settings.poll_interval_s
            if contained_at_us is not None:
                # High load may last for a day, and each probe is stored.
                between_s = max(between_s, settings.effect_timeout_s / 2)
            if self._is_time_to_probe(course, found, between_s):
                course = await self._with_probes(course, probes)

    def _bounds_of_those_let_in(self) -> HealthBounds:
        """Return the health bounds of the accepted requests while the service rejects others because of high load.

        Until the load is normal again, a P95 latency up to `slow_response_ms` counts as healthy.
        """
        # The load is high now. After the rollback of the load limit, the usual bounds verify the service again.
        usual = self._world.bounds()
        return replace(usual, p95_ms=max(usual.p95_ms, self._world.settings.detection.slow_response_ms))

    def _has_subsided(self, course: ActionObservations, book: Runbook) -> bool:
        """Return whether the load limit that an action has set is no longer needed.

        One of two conditions must hold:
        - In the last poll of `course`, hardly any request was rejected.
        - The cause is gone: recent facts in `course` show that a necessary condition of the cause is false. The list
          `requires` of the runbook `book` has these conditions.
        """
        settings, facts = self._world.settings.verification, course.facts or {}
        numbers = course.polls[-1].numbers
        if numbers.get(SHED, 0.0) <= _MAX_REJECTED_SHARE * numbers.get(REQUESTS, 0.0):
            return True
        recent_us = course.polls[-1].at_us - int(_MAX_FACT_AGE_POLLS * settings.poll_interval_s * _US)
        is_recent = course.facts_at_us is not None and course.facts_at_us >= recent_us
        return is_recent and any(condition.holds(facts) is False for condition in book.requires)

    async def _with_probes(self, course: ActionObservations, probes: Sequence[str]) -> ActionObservations:
        at_us = self._world.clock.now_us()
        return replace(course, facts=await self._facts(probes), facts_at_us=at_us)

    async def is_gone(self, book: Runbook) -> bool:
        """Run probes and return whether the cause that a runbook repairs is gone.

        It is gone if all conditions in the runbook's `mended` hold. Return False if there are no such conditions.
        """
        facts = await self._facts(_probes(book))
        return bool(book.mended) and all(condition.holds(facts) is True for condition in book.mended)

    async def _facts(self, probes: Sequence[str]) -> dict[str, FactValue]:
        seen: dict[str, FactValue] = dict((await self._world.probes.run(probes)).facts)
        numbers = {name: value for name, value in seen.items() if isinstance(value, float)}
        return seen | relative_facts(numbers, self._world.usual())

    async def _append_recovering(self, act: ActionRecord, found: VerificationResult) -> None:
        new_event = NewEvent("recovering", found.reason, {"key": act.key}, once=f"recovering.{act.key}")
        await self._world.append_events(act.incident_id, Phase.VERIFY, new_event)

    async def _append_contained(self, act: ActionRecord) -> None:
        said = f"Admitted requests are served well after {act.action}; excess requests are rejected while the load is too high."
        new_event = NewEvent("contained", said, {"key": act.key}, once=f"contained.{act.key}")
        await self._world.append_events(act.incident_id, Phase.VERIFY, new_event)

    def _is_time_to_probe(self, course: ActionObservations, found: VerificationResult, between_s: float) -> bool:
        """Return True if it is time to run the probes that show whether the cause is gone.

        The last probes must be at least `between_s` seconds old. In addition, one of two conditions must hold:
        - Users have been served well for at least `min_healthy_s` seconds minus two poll intervals.
        - `cause_timeout_s` seconds have passed since the action. If users are not served well, `metrics_window_s` seconds
          are enough.
        """
        settings, now_us = self._world.settings.verification, self._world.clock.now_us()
        if 0 <= now_us - (course.facts_at_us or 0) < between_s * _US:
            return False
        # After `metrics_window_s` the figures cover only the time after the action, so users may be affected by another cause.
        late_s = settings.cause_timeout_s if found.well_s else min(settings.metrics_window_s, settings.cause_timeout_s)
        is_late = now_us - course.ended_at_us >= late_s * _US
        return is_late or found.well_s >= settings.min_healthy_s - 2 * settings.poll_interval_s


class _Follow:
    """Collects the polls after an action, for its verification. A poll is a snapshot of the target's values.

    The responder's polling loop takes a snapshot at an interval.
    """

    def __init__(self, world: ResponseContext, incident_id: str) -> None:
        self._world = world
        self._incident_id = incident_id
        self._number = world.watch.feed.number
        self._polls: list[Snapshot] = []

    async def polls(self) -> list[Snapshot]:
        """Wait for the next poll (a snapshot of the target's values); return all polls since this object was created.

        At most the last `_MAX_POLLS` polls are returned.

        Raises:
            IncidentOverError: a person has ended the incident meanwhile.
        """
        feed = self._world.watch.feed
        # High load may last for a day, so limit the number of polls.
        self._polls = [*self._polls, *await feed.after(self._number)][-_MAX_POLLS:]
        self._number = feed.number
        if (await self._world.blocking(self._world.log.get, self._incident_id)).is_over:
            raise IncidentOverError(self._incident_id)
        return self._polls


def _course(act: ActionRecord, before: Snapshot, book: Runbook | None, *, sheds: bool) -> ActionObservations:
    mended = () if book is None else book.mended
    return ActionObservations(act.asked_at, act.finished_at or act.asked_at, before, [], mended=mended, sheds=sheds)


def _probes(book: Runbook | None) -> list[str]:
    # Facts that compare with the baseline belong to no probe; they are derived from the first probes.
    return probes_for(condition.fact for condition in (book.mended if book is not None else ())) or list(FIRST_PROBES)
