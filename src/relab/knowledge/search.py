"""Full-text search over runbooks and past incidents: BM25 of SQLite's FTS5, in memory, whichever the database is.

PostgreSQL's own ranking is another one, and what is searched is small: thirty runbooks and the last incidents are
indexed anew for each search, so that no index can be out of step with what it indexes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from relab.core.errors import UnavailableError
from relab.knowledge.models import Hit, HitKind, PastIncident, Runbook
from relab.knowledge.vocabulary import words

MAX_QUERY_CHARS: Final = 4_000
MAX_QUERY_WORDS: Final = 100
_TITLE, _SYMPTOMS, _TEXT = 4.0, 3.0, 0.5
"""How much a word counts by where it stands: titles and symptoms are written to be found by, the text names look-alikes too."""
_MAX_TEXT: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Document:
    """What is found, and the words that it is found by."""

    kind: HitKind
    id: str
    cause: str
    title: str
    titles: str
    symptoms: str
    text: str

    def fields(self) -> tuple[str, str, str]:
        titles, symptoms, text = (" ".join(words(each[:_MAX_TEXT])) for each in (self.titles, self.symptoms, self.text))
        return titles, symptoms, text


def search(
    query: str, *, runbooks: Sequence[Runbook] = (), incidents: Iterable[PastIncident] = (), limit: int = 10
) -> list[Hit]:
    """Return what fits words best, the best first.

    The query is data: text of people or of logs. Any of its words may be found, in any of its forms; nothing in it is
    an instruction to the search. What shares no word with it is no hit.

    Raises:
        UnavailableError: this Python's SQLite was built without full-text search.
    """
    asked = dict.fromkeys(words(query[:MAX_QUERY_CHARS]))
    if not asked or limit < 1:
        return []
    # Quoted, a word is a word, also if it is AND or NEAR.
    match = " OR ".join(f'"{word}"' for word in list(asked)[:MAX_QUERY_WORDS])
    documents = [*map(_of_runbook, runbooks), *map(_of_incident, incidents)]
    with closing(_index(documents)) as connection:
        rows = connection.execute(
            "SELECT rowid, -bm25(documents, ?, ?, ?) AS score FROM documents WHERE documents MATCH ?"
            " ORDER BY score DESC, rowid LIMIT ?",
            (_TITLE, _SYMPTOMS, _TEXT, match, limit),
        ).fetchall()
    found = ((documents[number], score) for number, score in rows)
    return [Hit(each.kind, each.id, each.cause, each.title, score) for each, score in found]


def _index(documents: Sequence[_Document]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(
            "CREATE VIRTUAL TABLE documents USING"
            " fts5(titles, symptoms, text, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
    except sqlite3.OperationalError as error:
        connection.close()
        raise UnavailableError(
            f"The SQLite of this Python has no full-text search: {error}.",
            remedy="Use a Python whose sqlite3 has FTS5; those of Debian, python.org and conda have.",
        ) from error
    rows = ((number, *document.fields()) for number, document in enumerate(documents))
    connection.executemany("INSERT INTO documents (rowid, titles, symptoms, text) VALUES (?, ?, ?, ?)", rows)
    return connection


def _of_runbook(runbook: Runbook) -> _Document:
    # The cause is a name of words as well.
    titles = f"{runbook.title}\n{runbook.cause}"
    symptoms = "\n".join(runbook.symptoms)
    return _Document(HitKind.RUNBOOK, runbook.cause, runbook.cause, runbook.title, titles, symptoms, runbook.text)


def _of_incident(incident: PastIncident) -> _Document:
    title = incident.cause.replace("_", " ")
    symptoms = "\n".join(_seen(incident))
    return _Document(HitKind.INCIDENT, incident.incident_id, incident.cause, title, title, symptoms, incident.note)


def _seen(incident: PastIncident) -> Iterator[str]:
    """Yield what was seen in words; a number is no word to be found by."""
    yield from incident.templates
    yield from (f"{name} {value}" for name, value in incident.facts.items() if isinstance(value, str))
    yield from (each.action for each in incident.tried)
