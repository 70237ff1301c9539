"""The evaluation of the search asks for every cause, in words of its own."""

from __future__ import annotations

import pytest
import yaml

from evals.symptom_retrieval import QUERIES, ranks
from relab.knowledge.library import load_library
from support.runbooks import runbook

SETS = yaml.safe_load(QUERIES.read_text())
RUNBOOKS = load_library().runbooks


@pytest.mark.parametrize(("name", "each"), [("first", 2), ("unseen", 1)])
def test_every_shipped_cause_is_asked_for(name: str, each: int) -> None:
    assert {cause: len(texts) for cause, texts in SETS[name].items()} == {book.cause: each for book in RUNBOOKS}


def test_no_query_is_a_sentence_of_a_runbook() -> None:
    written = {symptom.lower() for book in RUNBOOKS for symptom in book.symptoms}

    asked = [text.lower() for queries in SETS.values() for texts in queries.values() for text in texts]
    # A program's own message stands wherever people quote it.
    assert [text for text in asked if text in written] == ["no space left on device"]


def test_a_rank_is_the_place_among_the_hits() -> None:
    books = [runbook("lock", title="A lock"), runbook("leak", title="A leak of a lock"), runbook("fire")]
    queries = {"lock": ["lock"], "leak": ["lock"], "fire": ["lock"]}

    assert [rank for *_, rank in ranks(queries, books)] == [1, 2, None]
