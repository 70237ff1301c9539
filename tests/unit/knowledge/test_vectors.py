"""The vector store: vectors by text for one model, of bounded number, with concurrent writers."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from relab.knowledge.errors import VectorStoreError
from relab.knowledge.vectors import FILE, VectorStore
from support.lab.forked import forked

ONE, TWO = b"1" * 8, b"2" * 8


def store(folder: Path, model: str = "small sha256:1", **changed: int) -> VectorStore:
    return VectorStore(folder, model=model, **{"size": 8, **changed})


def test_stored_vector_is_found_by_its_text(tmp_path: Path) -> None:
    texts = {"one": ONE, "two\ud800\x00": TWO}
    assert store(tmp_path / "new").get(["one"]) == {}
    assert not (tmp_path / "new").exists(), "nothing is made to look"

    store(tmp_path / "new").put(texts)

    assert store(tmp_path / "new").get([*texts, "three"]) == texts
    many = {str(number): ONE for number in range(1_200)}
    store(tmp_path).put(many)
    assert store(tmp_path).get(many.keys()) == many, "more than one statement may name"


def test_vectors_of_another_model_are_ignored_and_deleted(tmp_path: Path) -> None:
    old, new = store(tmp_path, "small sha256:1"), store(tmp_path, "small sha256:2")
    old.put({"one": ONE, "two": TWO})

    assert new.get(["one"]) == {}
    new.put({"one": TWO})

    assert new.get(["one", "two"]) == {"one": TWO}
    assert old.get(["one", "two"]) == {}


def test_vector_of_another_size_is_ignored(tmp_path: Path) -> None:
    store(tmp_path).put({"one": ONE[:3], "two": TWO})

    assert store(tmp_path).get(["one", "two"]) == {"two": TWO}


def test_oldest_vectors_are_evicted_first(tmp_path: Path) -> None:
    for number in range(5):
        store(tmp_path, most=3).put({f"text {number}": ONE})

    assert sorted(store(tmp_path).get([f"text {number}" for number in range(5)])) == ["text 2", "text 3", "text 4"]


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be taken for the header of one" * 20, b"x"]
)
def test_damaged_file_is_recreated(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    assert store(tmp_path).get(["one"]) == {}
    store(tmp_path).put({"one": ONE})
    assert store(tmp_path).get(["one"]) == {"one": ONE}


def test_partly_damaged_file_is_recreated_by_the_next_call(tmp_path: Path) -> None:
    many = {str(number): bytes(2_000) for number in range(50)}
    store(tmp_path, size=2_000).put(many)
    content = (tmp_path / FILE).read_bytes()
    # The first page, with the version of the file, stays whole.
    (tmp_path / FILE).write_bytes(content[:4_096] + b"\xab" * (len(content) - 4_096))

    with pytest.raises(VectorStoreError, match="malformed"):
        store(tmp_path, size=2_000).get(many)

    assert store(tmp_path, size=2_000).get(many) == {}
    store(tmp_path, size=2_000).put(many)
    assert store(tmp_path, size=2_000).get(many) == many


def test_unusable_folder_is_reported_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(VectorStoreError, match="file") as raised:
        store(tmp_path / "file").put({"one": ONE})

    assert "VECTOR_STORE_PATH" in (raised.value.remedy or "")


WRITER = "support.knowledge.vector_child"


def test_killed_writer_leaves_only_complete_vectors(tmp_path: Path) -> None:
    with forked(WRITER, str(tmp_path), "a", "0") as writer:
        assert [writer.stdout.readline() for _ in range(20)][-1] == "19\n"
        writer.kill()
        writer.wait(60)

    store(tmp_path).put({"after": ONE})

    kept = store(tmp_path).get([f"a {number}" for number in range(5_000)])
    assert kept.keys() == {f"a {number}" for number in range(len(kept))}
    assert len(kept) >= 20
    assert set(kept.values()) == {ONE}


def test_a_reader_does_not_wait_for_an_open_transaction(tmp_path: Path) -> None:
    store(tmp_path).put({"one": ONE})

    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM vectors")
        assert store(tmp_path).get(["one"]) == {"one": ONE}
        writer.execute("COMMIT")

    assert store(tmp_path).get(["one"]) == {}


def test_two_processes_write_at_the_same_time(tmp_path: Path) -> None:
    with ExitStack() as running:
        writers = [running.enter_context(forked(WRITER, str(tmp_path), name, "30")) for name in ("a", "b")]
        assert [writer.wait(60) for writer in writers] == [0, 0]

    wanted = [f"{name} {number}" for name in ("a", "b") for number in range(30)]
    assert sorted(store(tmp_path).get([*wanted, "both"])) == sorted([*wanted, "both"])
