"""Counters in the database: label values that keep their own series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.storage import Database
from relab.storage.base import table_of
from relab.storage.counters import CounterRow, add, bounded_label


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database.open(f"sqlite:///{tmp_path / 'counters.db'}")
    table_of(CounterRow).create(found.engine)
    yield found
    found.close()


def test_label_value_keeps_its_series_if_concurrent_transactions_exceeded_the_limit(database: Database) -> None:
    with database.write() as unit:
        add(unit.session, [{("known", (name,)): 1.0} for name in ("a", "b", "c")])
        labels = [bounded_label(unit.session, "known", name, limit=2, other="(other)") for name in ("a", "b", "c", "d")]

    assert labels == ["a", "b", "c", "(other)"]
