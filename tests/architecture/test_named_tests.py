"""Tests that documents name as `tests/folder/test_file.py::test_name`, or `::test_name` for the same file, exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import relab

PROJECT = Path(relab.__file__).parent.parent.parent
TABLE = PROJECT / "docs" / "design" / "incidents-safety.md"
DOCUMENTS = [*sorted((PROJECT / "docs").rglob("*.md")), *sorted(PROJECT.glob("*.md"))]
NAMED = re.compile(r"`([\w/]*test_\w+\.py)?(?:::(test_\w+))?`")


def named_tests(document: Path) -> list[tuple[str, str]]:
    """Return `(file, test)` of each test that a document names; `test` is empty where it names the whole file."""
    found, path = [], ""
    for named, test in NAMED.findall(document.read_text()):
        path = named or path
        if named or test:
            found.append((path, test))
    return found


def is_test(path: str, test: str) -> bool:
    file = PROJECT / path
    return file.is_file() and (not test or re.search(rf"def {test}\(", file.read_text()) is not None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_tests_in_documents_exist(document: Path) -> None:
    missing = [f"{path}::{test}" for path, test in named_tests(document) if not is_test(path, test)]

    assert missing == []


def test_safety_table_names_its_tests() -> None:
    assert len([test for _, test in named_tests(TABLE) if test]) > 40
