"""Search runbooks and past incidents by words, and also by meaning if there is a sentence model.

The search by words always uses BM25 of SQLite's FTS5, in memory. It does so also if the installation's database is
PostgreSQL, whose full-text search ranks differently. The documents are few: thirty runbooks and the latest incidents.
They are indexed for each search, so the index is never out of date. The search by meaning uses the cosine similarity of
the query and the nearest sentence of a document. The two rankings are combined by reciprocal rank fusion (Cormack,
Clarke and Büttcher 2009), because their scores cannot be compared.
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
"""The BM25 weights of the fields: titles and symptoms are written for the search, the text also names similar causes."""
_SMOOTHING: Final = 60
"""The constant of the rank fusion, as in its paper: the first rank scores at most twice as much as the sixtieth."""
_MIN_SIMILARITY: Final = 0.25
"""The minimum cosine similarity of a hit; any two sentences are a little similar."""


class Meaning(Protocol):
    """Compares the meaning of texts by a sentence model."""

    def likeness(self, query: str, texts: Sequence[Sequence[str]]) -> Sequence[float]:
        """Return how similar in meaning each of `texts` is to the query.

        Each text is a list of sentences. Its similarity is the cosine similarity of the query and the nearest of these
        sentences.

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
    """Return the runbooks and past incidents that match a query best, the best first.

    A document matches in two cases:
    - It contains a word of the query, in any inflected form.
    - Its meaning is near to that of the query.

    Args:
        query: a sentence or log lines, without any search syntax.
        runbooks: the runbooks to search.
        incidents: the past incidents to search.
        limit: the maximum number of hits.
        meaning: the sentence model; None: only words are compared.

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
    """Combine several rankings of documents by reciprocal rank fusion; return `(document's number, score)`, best first.

    The score is the sum of `1 / (_SMOOTHING + rank)` over the rankings that have the document. Documents with equal
    scores are sorted by their ranks in the last ranking.

    Args:
        rankings: each maps a document's number to its rank, from 1.
    """
    scores: dict[int, float] = {}
    last: Mapping[int, int] = {}
    for ranking in rankings:
        for number, rank in ranking.items():
            scores[number] = scores.get(number, 0.0) + 1 / (_SMOOTHING + rank)
        last = ranking
    return sorted(scores.items(), key=lambda item: (-item[1], last.get(item[0], len(scores) + 1), item[0]))


def _by_words(query: str, documents: Sequence[Document]) -> dict[int, float]:
    """Return `{index of the document: BM25 score}` of the documents that share a word with the query.

    The document with the best score comes first.
    """
    asked = list(dict.fromkeys(words(query)))[:MAX_QUERY_WORDS]
    if not asked:
        return {}
    # Quotes keep FTS5 from reading AND or NEAR as an operator.
    match = " OR ".join(f'"{word}"' for word in asked)
    with closing(_index(documents)) as connection:
        rows = connection.execute(
            "SELECT rowid, -bm25(documents, ?, ?, ?) AS score FROM documents WHERE documents MATCH ?"
            " ORDER BY score DESC, rowid",
            (_TITLE, _SYMPTOMS, _TEXT, match),
        ).fetchall()
    return dict(rows)


def _by_meaning(query: str, documents: Sequence[Document], meaning: Meaning) -> dict[int, float]:
    """Return `{index of the document: similarity}` of the documents with a meaning near to that of the query.

    The nearest document comes first. `meaning` compares texts by a sentence-embedding model.
    """
    likeness = enumerate(meaning.likeness(query, [each.sentences for each in documents]))
    found = [(number, near) for number, near in likeness if near >= _MIN_SIMILARITY]
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
            remedy="Use a Python whose sqlite3 has FTS5, such as Python from Debian, python.org or conda.",
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
