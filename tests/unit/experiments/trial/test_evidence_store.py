"""Documents of trials that ran on another machine: which of them the store of a run takes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from relab.experiments.errors import ArchiveInvalidError
from relab.experiments.trial.evidence import INVENTORY, REF, STORE, store_document, stored_documents

RAW = b'{"a": 1}'
DIGEST = hashlib.sha256(RAW).hexdigest()


def test_document_with_its_digest_is_stored_once(tmp_path: Path) -> None:
    store_document(tmp_path, f"{DIGEST}.json", RAW)
    path = tmp_path / STORE / f"{DIGEST}.json"
    assert path.read_bytes() == RAW
    first = path.stat().st_ino
    store_document(tmp_path, f"{DIGEST}.json", RAW)
    assert path.stat().st_ino == first


@pytest.mark.parametrize("name", [f"{'0' * 64}.json", DIGEST, f"../{DIGEST}.json"])
def test_document_with_another_name_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveInvalidError):
        store_document(tmp_path, name, RAW)
    assert list(tmp_path.iterdir()) == []


def test_documents_of_a_record_are_those_in_the_store() -> None:
    paths = {
        "pre": f"{STORE}/aa.json",
        "post": f"{STORE}/bb.json",
        "other": "trials/1/x.json",
        "deep": f"{STORE}/c/d.json",
    }
    assert stored_documents({"paths": paths}) == {"aa", "bb"}
    with_files = {"paths": paths, "ext": {"files": {INVENTORY: f"{REF}cc"}}}
    assert stored_documents(with_files) == {"aa", "bb", "cc"}
