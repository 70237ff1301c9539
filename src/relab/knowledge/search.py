"""Search over runbooks and past incidents: by their words, and where there is a sentence model also by what they mean.

Words: BM25 of SQLite's FTS5, in memory, whichever the database is. PostgreSQL's own ranking is another one, and what is
searched is small: thirty runbooks and the last incidents are indexed anew for each search, so that no index can be out of
step with what it indexes.

Meaning: the cosine of the query and the nearest sentence of a document. The two orders are joined by reciprocal rank fusion
(Cormack, Clarke and Büttcher 2009), for their scores cannot be compared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Final, Protocol

from relab.core.errors import UnavailableError
from relab.knowledge.documents import Document, of_incident, of_runbook
from relab.knowledge.models import Hit, PastIncident, Runbook
from relab.knowledge.vocabulary import words

MAX_QUERY_CHARS: Final = 4_000
MAX_QUERY_WORDS: Final = 100
_TITLE, _SYMPTOMS, _TEXT = 4.0, 3.0, 0.5
"""How much a word counts by where it stands: titles and symptoms are written to be found by, the text names look-alikes too."""
_SMOOTHING: Final = 60
"""The constant of the rank fusion, as in its paper: the first place is no more than twice the sixtieth."""
_LEAST_LIKENESS: Final = 0.25
"""What is no nearer means something else; every two sentences are a little alike."""


class Meaning(Protocol):
    """A sentence model, and where it keeps what it has computed."""

    def likeness(self, query: str, texts: Sequence[Sequence[str]]) -> Sequence[float]:
        """Return for each text, given as its sentences, the cosine of the query and the nearest of them.

        Raises:
            UnavailableError: the model or its store cannot be used.
        """
        ...


def search(
    query: str,
    *,
    runbooks: Sequence[Runbook] = (),
    incidents: Iterable[PastIncident] = (),
    limit: int = 10,
    meaning: Meaning | None = None,
) -> list[Hit]:
    """Return what fits best, the best first.

    The query is data: text of people or of logs. Any of its words may be found, in any of its forms; nothing in it is
    an instruction to the search. What shares no word with it, and is not near to it in meaning, is no hit.

    Args:
        query: a sentence, or lines of a log.
        runbooks: that are searched.
        incidents: that are searched.
        limit: of the hits.
        meaning: without it only words count.

    Raises:
        UnavailableError: this Python's SQLite was built without full-text search, or the sentence model cannot be used.
    """
    asked = query[:MAX_QUERY_CHARS].strip()
    if not asked or limit < 1:
        return []
    documents = [*map(of_runbook, runbooks), *map(of_incident, incidents)]
    by_words = _by_words(asked, documents)
    if meaning is None:
        return [
            _hit(documents[number], score, by_words=rank)
            for rank, (number, score) in enumerate(list(by_words.items())[:limit], start=1)
        ]
    by_meaning = _by_meaning(asked, documents, meaning)
    ranks = [{number: rank for rank, number in enumerate(found, start=1)} for found in (by_words, by_meaning)]
    return [
        _hit(
            documents[number],
            score,
            by_words=ranks[0].get(number),
            by_meaning=ranks[1].get(number),
            likeness=by_meaning.get(number),
        )
        for number, score in fuse(ranks)[:limit]
    ]


def fuse(rankings: Iterable[Mapping[int, int]]) -> list[tuple[int, float]]:
    """Join rankings, each from a document's number to its place from 1 on; return numbers and scores, the best first.

    Two that are first and second in turn have the same score: there the last ranking decides.
    """
    scores: dict[int, float] = {}
    last: Mapping[int, int] = {}
    for ranking in rankings:
        for number, rank in ranking.items():
            scores[number] = scores.get(number, 0.0) + 1 / (_SMOOTHING + rank)
        last = ranking
    return sorted(scores.items(), key=lambda item: (-item[1], last.get(item[0], len(scores) + 1), item[0]))


def _by_words(query: str, documents: Sequence[Document]) -> dict[int, float]:
    """Return the numbers of documents that share a word with the query, the best first, with their scores."""
    asked = list(dict.fromkeys(words(query)))[:MAX_QUERY_WORDS]
    if not asked:
        return {}
    # Quoted, a word is a word, also if it is AND or NEAR.
    match = " OR ".join(f'"{word}"' for word in asked)
    with closing(_index(documents)) as connection:
        rows = connection.execute(
            "SELECT rowid, -bm25(documents, ?, ?, ?) AS score FROM documents WHERE documents MATCH ?"
            " ORDER BY score DESC, rowid",
            (_TITLE, _SYMPTOMS, _TEXT, match),
        ).fetchall()
    return dict(rows)


def _by_meaning(query: str, documents: Sequence[Document], meaning: Meaning) -> dict[int, float]:
    """Return the numbers of documents that are near to the query, the nearest first, with how near they are."""
    likeness = enumerate(meaning.likeness(query, [each.sentences for each in documents]))
    found = [(number, near) for number, near in likeness if near >= _LEAST_LIKENESS]
    return dict(sorted(found, key=lambda item: (-item[1], item[0])))


def _index(documents: Sequence[Document]) -> sqlite3.Connection:
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


def _hit(
    found: Document,
    score: float,
    *,
    by_words: int | None = None,
    by_meaning: int | None = None,
    likeness: float | None = None,
) -> Hit:
    return Hit(found.kind, found.id, found.cause, found.title, score, by_words, by_meaning, likeness)
