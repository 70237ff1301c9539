"""The sentence model all-MiniLM-L6-v2 in NumPy: texts with similar meanings get unit vectors near each other.

It is BERT (Devlin et al. 2018) with six layers of size 384. The vector of a text is the mean of its word pieces'
vectors, normalized (Reimers and Gurevych 2019; Wang et al. 2020). A forward pass of this size does not need a
deep-learning framework. Such a framework would be ten times as large as all other libraries of relab together. The
vectors equal those of sentence-transformers up to rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf
from threadpoolctl import ThreadpoolController

from relab.core.errors import UnavailableError
from relab.knowledge.wordpiece import WordPieces

Floats = NDArray[np.float32]

MAX_PIECES: Final = 256
"""The maximum length of a text in word pieces, as in the training of the model; the rest is cut off."""
_MAX_BATCH_PIECES: Final = 4_096
"""The maximum number of word pieces in one batch, padding included: about 100 MB."""
_MAX_HEADER_BYTES: Final = 1_000_000
_WEIGHTS, _VOCABULARY, _CONFIG = "model.safetensors", "vocab.txt", "config.json"


class MiniLm:
    """A sentence model, read from a folder with the model's files as Hugging Face names them.

    Attributes:
        digest: the digest of weights and vocabulary; vectors of models with different digests cannot be compared.
        size: the number of components of a vector.

    Raises:
        UnavailableError: a file is missing or cannot be read, or the model is not a BERT model with GELU activation and
            absolute positions.
    """

    def __init__(self, folder: Path) -> None:
        self._threads = ThreadpoolController()
        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            vocabulary = (folder / _VOCABULARY).read_text(encoding="utf-8").splitlines()
            self.digest = _digest(folder / _WEIGHTS, folder / _VOCABULARY)
            self._weights = _read_weights(folder / _WEIGHTS)
            self._pieces = WordPieces(vocabulary)
            self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
            self._epsilon = float(config["layer_norm_eps"])
            self._check(config)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"The sentence model in {folder} cannot be used: {type(error).__name__}: {error}.",
                remedy="Reinstall the package of its weights.",
            ) from error

    @property
    def size(self) -> int:
        """The number of components of a vector."""
        return int(self._weights["embeddings.word_embeddings.weight"].shape[1])

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return the unit vectors of texts, as an array of the shape (number of texts, size of a vector)."""
        numbers = [self._pieces.numbers(text, MAX_PIECES) for text in texts]
        found = np.zeros((len(texts), self.size), np.float32)
        # On a busy machine, several BLAS threads that wait for each other take ten times as long as one.
        with self._threads.limit(limits=1, user_api="blas"):
            for batch in _batches([len(each) for each in numbers]):
                found[batch] = self._directions([numbers[place] for place in batch])
        return found

    def _check(self, config: Mapping[str, Any]) -> None:
        known = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for name, value in known.items():
            if config.get(name, value) != value:
                raise ValueError(f"{_CONFIG} has the {name} {config[name]!r}, only {value!r} is supported")
        rows = self._weights["embeddings.word_embeddings.weight"].shape[0]
        if rows != len(self._pieces):
            raise ValueError(f"{_VOCABULARY} has {len(self._pieces):,} pieces, and {_WEIGHTS} is of {rows:,}")

    def _directions(self, numbers: Sequence[Sequence[int]]) -> Floats:
        longest = max(map(len, numbers))
        is_there = np.array([[place < len(each) for place in range(longest)] for each in numbers])
        filled = np.array([[*each, *[0] * (longest - len(each))] for each in numbers])
        get = self._weights
        seen = get["embeddings.word_embeddings.weight"][filled]
        seen = seen + get["embeddings.position_embeddings.weight"][:longest]
        seen = self._normed(seen + get["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        # Mask the padding out of the attention.
        away = np.where(is_there, 0.0, -1e9).astype(np.float32)[:, None, None, :]
        for number in range(self._layers):
            seen = self._layer(seen, away, f"encoder.layer.{number}")
        sums = (seen * is_there[:, :, None]).sum(axis=1, dtype=np.float32)
        found: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return found

    def _layer(self, seen: Floats, away: Floats, name: str) -> Floats:
        texts, pieces, size = seen.shape
        shape = (texts, pieces, self._heads, size // self._heads)
        query, key, value = (
            self._linear(seen, f"{name}.attention.self.{each}").reshape(shape).transpose(0, 2, 1, 3)
            for each in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(shape[-1])) + away
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ value).transpose(0, 2, 1, 3).reshape(seen.shape)
        seen = self._normed(
            seen + self._linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
        )
        inner = self._linear(seen, f"{name}.intermediate.dense")
        # GELU, exact (Hendrycks and Gimpel 2016).
        inner = inner * (1 + erf(inner / np.float32(np.sqrt(2)))) / 2
        return self._normed(seen + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, seen: Floats, name: str) -> Floats:
        # One product for all texts: for an array of three dimensions NumPy multiplies each text alone, in twice the time.
        found: Floats = seen.reshape(-1, seen.shape[-1]) @ self._weights[f"{name}.weight"].T
        found += self._weights[f"{name}.bias"]
        return found.reshape(*seen.shape[:-1], found.shape[-1])

    def _normed(self, seen: Floats, name: str) -> Floats:
        centred = seen - seen.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        found: Floats = centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield batches of texts, each as the list of the texts' indices.

    Texts of similar length are in one batch, which keeps the padding small. `lengths` holds the length of each text.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        # The texts are sorted by length, so the current one is the longest.
        if batch and (len(batch) + 1) * lengths[place] > _MAX_BATCH_PIECES:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _digest(*paths: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _read_weights(path: Path) -> dict[str, Floats]:
    """Return the tensors of a safetensors file by name; the file is memory-mapped."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is not a safetensors file")
        header = json.loads(file.read(length))
    # Few of the vocabulary's thirty thousand pieces are ever used, and only used parts are read.
    content = np.memmap(path, np.uint8, "r", offset=8 + length)
    found: dict[str, Floats] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        found[name] = content[begin:end].view("<f4").reshape(entry["shape"]).view(np.ndarray)
    return found
