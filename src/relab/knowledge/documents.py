"""Convert runbooks and past incidents to documents for the search, by words and by meaning. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relab.knowledge.models import HitKind, PastIncident, Runbook
from relab.knowledge.vocabulary import words

_MAX_TEXT: Final = 20_000
_MAX_NOTE: Final = 1_000
_MAX_TEMPLATES: Final = 8
"""How many of the most frequent log templates represent an incident.

Incidents share them, so each vector is computed once.
"""


@dataclass(frozen=True, slots=True)
class Document:
    """A runbook or past incident in the form that a search needs.

    Attributes:
        kind: whether it is a runbook or an incident.
        id: the cause of the runbook, or the id of the incident.
        cause: the cause of the runbook or the incident.
        title: the title to show.
        titles: the title and the cause, for the search by words.
        symptoms: the symptoms of the runbook, or the log templates, facts and actions of the incident, for the search
            by words.
        text: the body of the runbook, or the note of the incident, for the search by words.
        sentences: the sentences for the search by meaning; each has its own vector.
    """

    kind: HitKind
    id: str
    cause: str
    title: str
    titles: str
    symptoms: str
    text: str
    # The mean of many vectors would say little about any of the sentences.
    sentences: tuple[str, ...]

    def fields(self) -> tuple[str, str, str]:
        """Return `(titles, symptoms, text)` for the search by words.

        Stop words are left out, and every other word is in its canonical form (one form for all inflections and
        synonyms).
        """
        titles, symptoms, text = (" ".join(words(each[:_MAX_TEXT])) for each in (self.titles, self.symptoms, self.text))
        return titles, symptoms, text


def of_runbook(runbook: Runbook) -> Document:
    """Return the search document of a runbook."""
    return Document(
        kind=HitKind.RUNBOOK,
        id=runbook.cause,
        cause=runbook.cause,
        title=runbook.title,
        # The name of the cause consists of words, too.
        titles=f"{runbook.title}\n{runbook.cause}",
        symptoms="\n".join(runbook.symptoms),
        text=runbook.text,
        sentences=(runbook.title, *runbook.symptoms),
    )


def of_incident(incident: PastIncident) -> Document:
    """Return the search document of a past incident: its log templates, facts with text values, actions and note.

    A log template is a log message without its variable parts.
    """
    title = incident.cause.replace("_", " ")
    often = sorted(incident.templates, key=lambda template: -incident.templates[template])[:_MAX_TEMPLATES]
    return Document(
        kind=HitKind.INCIDENT,
        id=incident.incident_id,
        cause=incident.cause,
        title=title,
        titles=title,
        symptoms="\n".join(_seen(incident)),
        text=incident.note,
        sentences=tuple(each for each in (title, incident.note[:_MAX_NOTE], *often) if each.strip()),
    )


def _seen(incident: PastIncident) -> Iterator[str]:
    """Yield the texts of an incident for a search: log templates, facts with text values, and names of actions.

    A log template is a log message without its variable parts.
    """
    yield from incident.templates
    # Queries do not contain the numbers of an incident's facts.
    yield from (f"{name} {value}" for name, value in incident.facts.items() if isinstance(value, str))
    yield from (each.action for each in incident.tried)
