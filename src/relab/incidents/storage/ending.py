"""End incidents: once, with an event that closes the timeline; and the decision of a person who closes an incident."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from relab.core.errors import InvalidInputError
from relab.incidents.actions.records import ActionRecord, ActionStatus
from relab.incidents.storage import action_repository, repository
from relab.incidents.storage.actions import MAX_ACTIONS_PER_READ
from relab.incidents.storage.errors import IncidentOverError, IncidentStatusError
from relab.incidents.storage.models import EventKind, Incident, IncidentOutcome, IncidentStatus, NewEvent
from relab.incidents.storage.opening import incident_of
from relab.incidents.storage.text_limits import clean_text, cut
from relab.incidents.storage.timeline import Timeline
from relab.knowledge.models import CAUSE_PATTERN
from relab.storage import Database, UnitOfWork

MAX_CLOSING_NOTE: Final = 2_000
MAX_RECOMMENDATION: Final = 10_000
_MAX_NAME: Final = 200
_MAX_NAMED_ACTIONS: Final = 5
_ONCE: Final = "closed_by_person"


@dataclass(frozen=True, slots=True)
class ManualClosing:
    """A person's decision that an incident is over because the service is repaired.

    Attributes:
        by: the name of the person.
        note: what was done.
        named_cause: the cause, if the person names one; the responder has not verified it.
    """

    by: str
    note: str
    named_cause: str | None = None


def manual_closing(by: str, note: str, cause: str | None = None) -> ManualClosing:
    """Check the texts of a person who closes an incident, and return them as the database can store them.

    Args:
        by: the name of the person.
        note: what was done.
        cause: the name of the cause: lower-case letters, digits and underscores, as in runbooks; None for no name.

    Raises:
        InvalidInputError: the name or the note is empty or too long, or `cause` cannot be the name of a cause.
    """
    name, text = clean_text(by.strip()), clean_text(note.strip())
    problems = [
        *_length_problems("by", name, _MAX_NAME),
        *_length_problems("note", text, MAX_CLOSING_NOTE),
    ]
    if cause is not None and not re.fullmatch(CAUSE_PATTERN, cause):
        problems.append(("cause", "is not the name of a cause: lower-case letters, digits and underscores"))
    if problems:
        said = "; ".join(f"{field} {problem}" for field, problem in problems)
        raise InvalidInputError(
            f"The incident cannot be closed: {said}.",
            problems=tuple(problems),
            remedy="Say in the note what was done; the cause may be left out.",
        )
    return ManualClosing(name, text, cause)


def end_incident(
    unit: UnitOfWork,
    timeline: Timeline,
    incident_id: str,
    *,
    at_us: int,
    outcome: IncidentOutcome,
    message: str,
    content: Mapping[str, Any],
    once: str | None = None,
) -> Incident:
    """End an incident that the transaction `unit` has locked and that is not over; return the incident.

    Args:
        unit: the transaction.
        timeline: the timelines of incidents.
        incident_id: the id of the incident.
        at_us: the current time, in microseconds since 1970.
        outcome: how the incident ended.
        message: one sentence for the last event of the timeline, which also replaces the recommendation; empty for a
            default sentence.
        content: further data for that event, as JSON values.
        once: the idempotency key of that event; None for no key.
    """
    said = message or f"The incident is over: {outcome}."
    change = {"status": outcome.status, "outcome": outcome, "closed_at": at_us}
    # Until now it says what a person is needed for.
    repository.change(unit.session, incident_id, {**change, "recommendation": cut(said, MAX_RECOMMENDATION)})
    event = NewEvent(EventKind.CLOSED, said, {**content, "outcome": outcome}, once=once)
    timeline.append_events(unit, incident_id, at_us, [event])
    return incident_of(repository.get(unit.session, incident_id))


class ManualClosings:
    """Stores the decisions of people who close incidents.

    Args:
        database: stores everything.
        timeline: the timelines of incidents.
        forget: deletes what was learnt from an incident, in the transaction that closes it.
    """

    def __init__(self, database: Database, timeline: Timeline, forget: Callable[[str, UnitOfWork], None]) -> None:
        self._database = database
        self._timeline = timeline
        self._forget = forget

    def close(
        self, incident_id: str, closing: ManualClosing, *, at_us: int, if_status: IncidentStatus | None = None
    ) -> Incident:
        """Close an incident by decision of a person, and return it; a repeated decision changes nothing.

        After this transaction no action of the incident is requested (`ActionLog.put`), and no plan approved.

        Args:
            incident_id: the id of the incident.
            closing: the decision.
            at_us: the current time, in microseconds since 1970.
            if_status: close the incident only if it has this status; None for any status.

        Raises:
            IncidentNotFoundError: no incident has this id.
            IncidentOverError: the incident ended in another way, or by another decision.
            IncidentStatusError: the incident has another status than `if_status`.
        """
        given = asdict(closing)
        with self._database.write() as unit:
            row = self._timeline.lock(unit, incident_id)
            if row.closed_at is not None:
                known = repository.find_event_by_key(unit.session, incident_id, _ONCE)
                if known is not None and given.items() <= known.content.items():
                    return incident_of(row)
                raise IncidentOverError(incident_id, how=f"its outcome is {row.outcome}")
            if if_status is not None and row.status != if_status:
                raise IncidentStatusError(incident_id, row.status)
            # The responder may have verified a repair and stored the incident as a past one a moment ago.
            self._forget(incident_id, unit)
            acts = action_repository.acts_of_incident(unit.session, incident_id, MAX_ACTIONS_PER_READ)
            left = _left([ActionRecord.model_validate(act) for act in acts])
            named = "" if closing.named_cause is None else f" The cause was {closing.named_cause}."
            return end_incident(
                unit,
                self._timeline,
                incident_id,
                at_us=at_us,
                outcome=IncidentOutcome.CLOSED_BY_PERSON,
                message=f"{closing.by} closed the incident as repaired.{named}{left} {closing.note}",
                content=given,
                once=_ONCE,
            )


def _length_problems(field: str, text: str, most: int) -> list[tuple[str, str]]:
    if not text:
        return [(field, "is empty")]
    return [(field, f"has {len(text):,} characters, at most {most:,} are accepted")] if len(text) > most else []


def _left(acts: Sequence[ActionRecord]) -> str:
    """Return what a person must know of the responder's actions, which end with the incident; empty if there are none.

    A result that is still unknown is stored when it arrives, and nothing is rolled back.
    """
    asked = [act for act in acts if act.status is ActionStatus.ASKED]
    lasting = [act for act in acts if act.status in {ActionStatus.ASKED, ActionStatus.SUCCEEDED} and act.undoes is None]
    said = f" The result of {_names(asked)} was not known at that time." if asked else ""
    return f"{said} The responder does not undo {_names(lasting)}." if lasting else said


def _names(acts: Sequence[ActionRecord]) -> str:
    kinds = dict.fromkeys(
        f"{'the rollback of ' if act.undoes is not None else ''}{act.action} on {act.target}" for act in acts
    )
    more = len(kinds) - _MAX_NAMED_ACTIONS
    return ", ".join(list(kinds)[:_MAX_NAMED_ACTIONS]) + (f" and {more} more" if more > 0 else "")
