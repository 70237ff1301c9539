"""Hybrid search: a sentence model finds texts of similar meaning, and matching words still count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from relab.knowledge.library import load_library
from relab.knowledge.meaning import StoredMeaning
from relab.knowledge.models import HitKind
from relab.knowledge.packaged import packaged_meaning
from relab.knowledge.search import Meaning, fuse, search
from relab.knowledge.vectors import VectorStore
from support.components.sentence_model import model_folder
from support.incidents.runbooks import past, runbook


class Directions:
    """A model with given vectors for some texts, and the vector (0, 1) for all others."""

    def __init__(self, **told: tuple[float, float]) -> None:
        self.told = {text.replace("_", " "): direction for text, direction in told.items()}
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return np.array([self.told.get(text, (0.0, 1.0)) for text in texts], np.float32)


def meaning(folder: Path, model: Directions, digest: str = "1") -> StoredMeaning:
    return StoredMeaning(model, VectorStore(folder, model=digest, size=8))


def test_ranks_are_combined_by_reciprocal_rank_fusion() -> None:
    joined = fuse([{7: 1, 8: 2}, {8: 1, 9: 2}])

    assert [number for number, _ in joined] == [8, 7, 9]
    assert [score for _, score in joined] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert [number for number, _ in fuse([{7: 1, 8: 2}, {8: 1, 7: 2}])] == [8, 7], "the nearer one of two that are even"
    assert fuse([{}, {}]) == []


def test_hit_has_its_ranks_by_words_and_meaning(tmp_path: Path) -> None:
    books = [
        runbook("one", symptoms=("the cat is out",)),
        runbook("two", symptoms=("a feline escaped",)),
        runbook("three"),
    ]
    model = Directions(
        the_cat_is_gone=(1.0, 0.0), a_feline_escaped=(0.8, 0.6), the_cat_is_out=(0.2, 0.98), gone=(-1.0, 0.0)
    )

    found = search("the cat is gone", runbooks=books, meaning=meaning(tmp_path, model))

    told = {hit.cause: (hit.by_words, hit.by_meaning, hit.likeness) for hit in found}
    assert told == {"one": (1, None, None), "two": (None, 1, pytest.approx(0.8))}
    assert [hit.cause for hit in search("the cat is gone", runbooks=books)] == ["one"]
    assert search("gone", runbooks=books, limit=1, meaning=meaning(tmp_path, model)) == []


def test_similarity_is_that_of_the_nearest_sentence(tmp_path: Path) -> None:
    book = runbook("one", title="aaa", symptoms=("bbb", "ccc"))
    model = Directions(query=(1.0, 0.0), ccc=(0.6, 0.8), bbb=(0.3, 0.95))

    (hit,) = search("query", runbooks=[book], meaning=meaning(tmp_path, model))

    assert hit.likeness == pytest.approx(0.6)


def test_sentences_are_computed_once_and_queries_are_not_kept(tmp_path: Path) -> None:
    books = [runbook("one", symptoms=("same words",)), runbook("two", symptoms=("same words",))]
    first, second, other = Directions(), Directions(), Directions()

    search("query", runbooks=books, meaning=meaning(tmp_path, first))
    search("query", runbooks=books, meaning=meaning(tmp_path, second))
    search("query", runbooks=books, meaning=meaning(tmp_path, other, "another model"))

    assert sorted(first.asked) == sorted(other.asked) == sorted(["What one is", "What two is", "query", "same words"])
    assert second.asked == ["query"]


def test_past_incidents_are_found_by_their_logs_and_notes(tmp_path: Path) -> None:
    model = Directions(query=(1.0, 0.0), by_log=(0.9, 0.4), by_note=(0.8, 0.6))
    incidents = [
        past("i1", "odd", templates={"by log": 3, **{f"t{n}": 9 for n in range(7)}}),
        past("i2", "odd", note="by note"),
    ]

    found = search("query", incidents=incidents, meaning=meaning(tmp_path, model))

    assert [(hit.kind, hit.id) for hit in found] == [(HitKind.INCIDENT, "i1"), (HitKind.INCIDENT, "i2")]
    rare = past("i1", "odd", templates={"by log": 1, **{f"t{n}": 9 for n in range(8)}})
    assert search("query", incidents=[rare], meaning=meaning(tmp_path, model)) == [], "only what a log says most often"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Meaning:
    model_folder()
    found = packaged_meaning(tmp_path_factory.mktemp("vectors"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("the server room is out of hard drive capacity", "disk_full"),
        ("far too many guests arrive at our shop", "traffic_spike"),
    ],
)
def test_shipped_runbooks_are_found_by_meaning(real: Meaning, query: str, cause: str) -> None:
    books = [book for book in load_library().runbooks if book.cause in {"disk_full", "cache_down", "traffic_spike"}]

    found = search(query, runbooks=books, meaning=real)

    assert [hit.cause for hit in found if hit.by_meaning == 1] == [cause]


@pytest.mark.parametrize("query", ["zzz unheard", "lorem ipsum dolor sit amet", "%$§ 123"])
def test_meaningless_query_has_no_hit(real: Meaning, query: str) -> None:
    books = [book for book in load_library().runbooks if book.cause in {"disk_full", "cache_down"}]

    assert search(query, runbooks=books, meaning=real) == []


def test_missing_weights_disable_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relab.knowledge.packaged._NEEDED", ("no_such_package", "threadpoolctl"))

    assert packaged_meaning(tmp_path) is None
