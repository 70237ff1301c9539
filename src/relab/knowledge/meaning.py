"""What a sentence model says of texts: how near a query is to them. What it has computed is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relab.knowledge.vectors import VectorStore


class SentenceModel(Protocol):
    """Gives each text a direction of length one; those of texts that mean the same are near each other."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the directions: shape (texts, size)."""
        ...


class StoredMeaning:
    """A model, and the store of what it has computed."""

    def __init__(self, model: SentenceModel, store: VectorStore) -> None:
        self._model = model
        self._store = store

    def likeness(self, query: str, texts: Sequence[Sequence[str]]) -> list[float]:
        """Return for each text, given as its sentences, the cosine of the query and the nearest of them.

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
