"""The sentence model: its vectors equal those of the framework that trained it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from relab.core.errors import UnavailableError
from relab.knowledge.minilm import MAX_PIECES, MiniLm
from relab.knowledge.wordpiece import WordPieces
from support.components.sentence_model import model_folder

TEXTS = [
    "The database does not answer.",
    "postgres is not responding",
    "Too many open files: [Errno 24]",
    "naïve café über İstanbul \u2013 数据库 is down",
]
NUMBERS = [
    [101, 1996, 7809, 2515, 2025, 3437, 1012, 102],
    [101, 2695, 17603, 2015, 2003, 2025, 14120, 102],
    [101, 2205, 2116, 2330, 6764, 1024, 1031, 9413, 19139, 2484, 1033, 102],
    [101, 15743, 7668, 19169, 9960, 1516, 100, 100, 100, 2003, 2091, 102],
]
BEGINNINGS = [
    [0.0312, -0.06317, -0.1124, 0.0538],
    [0.06333, -0.03968, 0.00278, 0.01358],
    [0.05544, -0.00637, -0.07303, -0.00753],
    [0.06796, 0.0106, 0.03705, 0.03858],
]
COSINES = [0.2399, 0.0648, 0.116, 0.1453, 0.2974, 0.1058]
"""Cosine of each pair of texts. All values come from sentence-transformers 6.2.0 with PyTorch 2.13.0."""


@pytest.fixture(scope="module")
def model() -> MiniLm:
    return MiniLm(model_folder())


def test_tokens_equal_those_of_the_original_tokenizer() -> None:
    pieces = WordPieces((model_folder() / "vocab.txt").read_text().splitlines())

    assert [pieces.numbers(text, MAX_PIECES) for text in TEXTS] == NUMBERS


def test_vectors_equal_those_of_the_original_model(model: MiniLm) -> None:
    found = model.embed(TEXTS)

    assert found.shape == (len(TEXTS), model.size) == (4, 384)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[:, :4], BEGINNINGS, atol=2e-5)
    assert np.allclose((found @ found.T)[np.triu_indices(4, 1)], COSINES, atol=1e-4)


def test_vector_of_a_text_does_not_depend_on_its_batch(model: MiniLm) -> None:
    long = "a word " * 1_000

    together = model.embed([TEXTS[0], long, "", TEXTS[1]])

    assert np.allclose(together[0], model.embed([TEXTS[0]])[0], atol=1e-5)
    assert np.allclose(together[1], model.embed([long[: len(long) // 2]])[0], atol=1e-5), "what is too long is cut"
    assert np.isfinite(together).all()
    assert model.embed([]).shape == (0, 384)


def files(folder: Path) -> Path:
    """Link the model's files into the folder, where a test can replace single ones, and return the folder."""
    for source in model_folder().iterdir():
        if source.is_file():
            (folder / source.name).symlink_to(source)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", b"\xff" * 16, "not a safetensors file"),
        ("model.safetensors", b"", "not a safetensors file"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}", "KeyError"),
        ("vocab.txt", b"[CLS]\n[SEP]\n[UNK]\n", "has 3 pieces"),
        ("vocab.txt", b"hello\n", "CLS"),
        ("config.json", b"{", "JSONDecodeError"),
        ("config.json", json.dumps({"num_hidden_layers": 6, "num_attention_heads": 12, "layer_norm_eps": 1e-12,
                                    "hidden_act": "relu"}).encode(), "'relu'"),
        ("config.json", None, "No such file"),
    ],
)  # fmt: skip
def test_invalid_model_files_are_reported(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    (files(tmp_path) / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UnavailableError, match=said) as raised:
        MiniLm(tmp_path)
    assert raised.value.remedy == "Reinstall the package of its weights."


def test_changed_model_file_changes_the_digest(model: MiniLm, tmp_path: Path) -> None:
    vocabulary = files(tmp_path) / "vocab.txt"
    text = vocabulary.read_text()
    vocabulary.unlink()
    vocabulary.write_text(text.replace("[unused0]", "[unused_]"))

    assert MiniLm(tmp_path).digest != model.digest == MiniLm(model_folder()).digest
