"""Each line of the table of safety names tests; they exist."""

from __future__ import annotations

import re
from pathlib import Path

import relab

PROJECT = Path(relab.__file__).parent.parent.parent
TABLE = PROJECT / "docs" / "design" / "incidents-safety.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)?::(test_\w+)`")


def test_the_tests_that_the_table_of_safety_names_exist() -> None:
    missing, count = [], 0
    for line in TABLE.read_text().splitlines():
        path = ""
        for named, test in NAMED.findall(line):
            # A test without a file is one of the file before it.
            path, count = named or path, count + 1
            file = PROJECT / path
            if not file.is_file() or not re.search(rf"def {test}\(", file.read_text()):
                missing.append(f"{path}::{test}")
    assert missing == []
    assert count > 40
