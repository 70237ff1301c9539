"""Vectors of 64 dimensions from words by signed feature hashing (Weinberger et al., ICML 2009).

There is no model and there are no weights: a text has the same vector on every machine, and texts that share words have
similar vectors.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

DIMENSIONS: Final = 64
_PLACES_PER_WORD = 6
"""Each word uses several places, so that two words rarely collide in all of them."""

_WORD = re.compile(r"[a-z0-9]+")


def embed(texts: Iterable[str]) -> Vectors:
    """Return the vectors of texts as a matrix: one row with `DIMENSIONS` columns per text, in order.

    Each row has the Euclidean length 1. It has only zeros if the text has no words, or if the words cancel out.
    """
    words = [_WORD.findall(text.lower()) for text in texts]
    rows = np.zeros((len(words), DIMENSIONS), np.float32)
    some = [at for at, found in enumerate(words) if found]
    if not some:
        return rows
    # Process all texts at once, because there are thousands; sums of small integers are exact in any order.
    starts = list(itertools.accumulate((len(words[at]) for at in some[:-1]), initial=0))
    places = {word: at for at, word in enumerate(dict.fromkeys(itertools.chain.from_iterable(words)))}
    each = [places[word] for word in itertools.chain.from_iterable(words)]
    rows[some] = np.add.reduceat(np.stack([_word(word) for word in places])[each], starts)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    # The signed places of a text's words may cancel out to zero.
    lengths[lengths == 0] = 1
    rows /= lengths[:, None]
    return rows


@functools.lru_cache(maxsize=20_000)
def _word(word: str) -> Vectors:
    row = np.zeros(DIMENSIONS, np.float32)
    hashed = hashlib.blake2b(word.encode(), digest_size=2 * _PLACES_PER_WORD).digest()
    for place, sign in zip(hashed[::2], hashed[1::2], strict=True):
        row[place % DIMENSIONS] += 1 if sign & 1 else -1
    row.setflags(write=False)
    return row
