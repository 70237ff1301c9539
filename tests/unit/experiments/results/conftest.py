"""One DuckDB instance per test file, because starting one takes longer than most queries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relab.experiments.results.result_tables import one_duckdb


@pytest.fixture(scope="module", autouse=True)
def one_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all tests of a file use one instance of DuckDB."""
    with one_duckdb(tmp_path_factory.mktemp("spilled")):
        yield
