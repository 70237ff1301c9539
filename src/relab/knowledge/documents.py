"""What is searched: runbooks and past incidents as words and as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relab.knowledge.models import HitKind, PastIncident, Runbook
from relab.knowledge.vocabulary import words

_MAX_TEXT: Final = 20_000
_MAX_NOTE: Final = 1_000
_MOST_TEMPLATES: Final = 8
"""What a log says most often stands for it; incidents of one cause share these, and each is computed once."""


@dataclass(frozen=True, slots=True)
class Document:
    """What is found, and what it is found by.

    Attributes:
        titles, symptoms, text: as words.
        sentences: each by itself, for what a sentence means is lost in the mean of many.
    """

    kind: HitKind
    id: str
    cause: str
    title: str
    titles: str
    symptoms: str
    text: str
    sentences: tuple[str, ...]

    def fields(self) -> tuple[str, str, str]:
        """Return titles, symptoms and text, each word in the form that stands for it."""
        titles, symptoms, text = (" ".join(words(each[:_MAX_TEXT])) for each in (self.titles, self.symptoms, self.text))
        return titles, symptoms, text


def of_runbook(runbook: Runbook) -> Document:
    """Return a runbook as it is found."""
    return Document(
        kind=HitKind.RUNBOOK,
        id=runbook.cause,
        cause=runbook.cause,
        title=runbook.title,
        # The cause is a name of words as well.
        titles=f"{runbook.title}\n{runbook.cause}",
        symptoms="\n".join(runbook.symptoms),
        text=runbook.text,
        sentences=(runbook.title, *runbook.symptoms),
    )


def of_incident(incident: PastIncident) -> Document:
    """Return a past incident as it is found: by what was seen and done, and by what people wrote down."""
    title = incident.cause.replace("_", " ")
    often = sorted(incident.templates, key=lambda template: -incident.templates[template])[:_MOST_TEMPLATES]
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
    """Yield what was seen in words; a number is no word to be found by."""
    yield from incident.templates
    yield from (f"{name} {value}" for name, value in incident.facts.items() if isinstance(value, str))
    yield from (each.action for each in incident.tried)
