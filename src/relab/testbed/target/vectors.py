"""Vectors of 64 dimensions from words by signed feature hashing (Weinberger et al., ICML 2009).

No model and no weights: the same text has the same vector on every machine, and texts that share words are near.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

DIMENSIONS: Final = 64
_PLACES_PER_WORD = 6
"""Several places a word, so that two words rarely fall together in all of them."""

_WORD = re.compile(r"[a-z0-9]+")


def embed(texts: Iterable[str]) -> Vectors:
    """Return one row of length 1 for each text; a text without words has the row of zeros."""
    rows = [_embed_one(text) for text in texts]
    return np.stack(rows) if rows else np.zeros((0, DIMENSIONS), np.float32)


def _embed_one(text: str) -> Vectors:
    row = np.zeros(DIMENSIONS, np.float32)
    for word in _WORD.findall(text.lower()):
        row += _word(word)
    length = float(np.sqrt(row @ row))
    return row / np.float32(length) if length > 0 else row


@functools.lru_cache(maxsize=20_000)
def _word(word: str) -> Vectors:
    row = np.zeros(DIMENSIONS, np.float32)
    hashed = hashlib.blake2b(word.encode(), digest_size=2 * _PLACES_PER_WORD).digest()
    for place, sign in zip(hashed[::2], hashed[1::2], strict=True):
        row[place % DIMENSIONS] += 1 if sign & 1 else -1
    row.setflags(write=False)
    return row
