"""Redaction of the files of a run before they are published."""

from __future__ import annotations

from pathlib import Path

import duckdb

from relab.experiments.proof.bundle_redaction import BundleRedactor


def test_tables_whose_names_become_equal_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "own.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute('CREATE TABLE "a/b" AS SELECT 1 AS x; CREATE TABLE "a_b" AS SELECT 2 AS x')

    found = BundleRedactor({}).content("own.duckdb", path.read_bytes())

    assert sorted(found.files) == [".main.a_b.parquet", ".main.a_b~2.parquet"]
