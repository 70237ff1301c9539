"""Compare a query with texts by meaning, with a sentence model whose vectors are cached on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relab.knowledge.vectors import VectorStore


class SentenceModel(Protocol):
    """A model that maps each text to a unit vector; texts with a similar meaning have vectors near each other."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the unit vectors of texts, as an array of the shape (number of texts, size of a vector)."""
        ...


class StoredMeaning:
    """Compares a query with texts by meaning, using a sentence model; `store` caches the vectors of the texts."""

    def __init__(self, model: SentenceModel, store: VectorStore) -> None:
        self._model = model
        self._store = store

    def likeness(self, query: str, texts: Sequence[Sequence[str]]) -> list[float]:
        """Return how similar in meaning each of `texts` is to the query.

        Each text is a list of sentences. Its similarity is the cosine similarity of the query and the nearest of these
        sentences.

        Raises:
            VectorStoreError: the store cannot be used.
        """
        sentences = list(dict.fromkeys(sentence for text in texts for sentence in text))
        if not sentences:
            return [0.0] * len(texts)
        near = self._directions(sentences) @ self._model.embed([query])[0]
        places = {sentence: float(value) for sentence, value in zip(sentences, near, strict=True)}
        return [max((places[sentence] for sentence in text), default=0.0) for text in texts]

    def _directions(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        kept = self._store.get(sentences)
        missing = [sentence for sentence in sentences if sentence not in kept]
        if missing:
            made = self._model.embed(missing).astype("<f4")
            new = {sentence: row.tobytes() for sentence, row in zip(missing, made, strict=True)}
            self._store.put(new)
            kept |= new
        return np.stack([np.frombuffer(kept[sentence], "<f4") for sentence in sentences]).astype(np.float32)
