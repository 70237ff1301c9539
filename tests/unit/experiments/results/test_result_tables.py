"""The result tables of a run: their rows, loading into DuckDB, and writes that succeed completely or change nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from relab.experiments.models import TrialRow
from relab.experiments.results.result_tables import COLUMNS, json_line, tables_dir, write_tables, write_variant_summary
from rig.trial_rows import RUN_ID, trial_row, write_run

SEED_QUERY = """
SELECT variant_id, COUNT(*) as trials,
       SUM(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END) as successes
FROM trials GROUP BY variant_id;
"""


def lines(run_dir: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tables_dir(run_dir) / f"{table}.jsonl").read_text().splitlines()]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that loads a run as the README describes: in `analysis`, into a DuckDB file."""
    opened = []

    def loaded(run_dir: Path) -> duckdb.DuckDBPyConnection:
        monkeypatch.chdir(run_dir / "analysis")
        connection = duckdb.connect("agentlab.duckdb")
        opened.append(connection)
        connection.execute(Path("tables/load_duckdb.sql").read_text())
        return connection

    yield loaded
    for connection in opened:
        connection.close()


def test_a_table_has_every_column_of_a_row() -> None:
    assert list(COLUMNS["trials"]) == [field.name for field in dataclasses.fields(TrialRow)]


def test_load_script_and_query_of_the_seed_work(tmp_path: Path, load: Any) -> None:
    rows = [
        trial_row("base", 0),
        trial_row("base", 1, outcome="failure"),
        trial_row("better", 0),
        trial_row("better", 1),
    ]
    connection = load(write_run(tmp_path / "run", rows))

    assert sorted(connection.execute(SEED_QUERY).fetchall()) == [("base", 2, 1), ("better", 2, 2)]
    assert connection.execute("SELECT min(started_at)::VARCHAR FROM trials").fetchall() == [("2026-01-01 00:00:00.5",)]
    # A second load replaces the tables.
    connection.execute(Path("tables/load_duckdb.sql").read_text())
    assert connection.execute("SELECT count(*) FROM trials").fetchall() == [(4,)]


def test_empty_tables_load_with_their_columns(tmp_path: Path, load: Any) -> None:
    connection = load(write_run(tmp_path / "run", []))

    for name, columns in COLUMNS.items():
        found = connection.execute(f"DESCRIBE {name}").fetchall()
        assert {row[0]: row[1] for row in found} == dict(columns)
        assert connection.execute(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]
        parquet = connection.execute(f"DESCRIBE SELECT * FROM 'tables/{name}.parquet'").fetchall()
        assert {row[0]: row[1] for row in parquet} == dict(columns)


def test_parquet_and_json_lines_are_equal(tmp_path: Path, load: Any) -> None:
    row = trial_row(
        "base", 0, metrics={"a": 1.5, "b": True, "c": "text"}, event_counts={"error": 2}, violations=["state leak"]
    )
    connection = load(write_run(tmp_path / "run", [row, trial_row("better", 0)]))

    for name in COLUMNS:
        both = (
            f"(FROM {name} EXCEPT FROM 'tables/{name}.parquet') UNION (FROM 'tables/{name}.parquet' EXCEPT FROM {name})"
        )
        assert connection.execute(both).fetchall() == []
    assert connection.execute("SELECT violations FROM trials WHERE variant_id = 'base'").fetchall() == [
        (["state leak"],)
    ]


def test_metrics_are_one_row_each_with_their_source(tmp_path: Path) -> None:
    metrics = {"accuracy": 0.5, "ok": True, "model": "m-1", "tokens_in": 12, "lines": 3, "duration_ms": 100.0}
    declared = {"id": "lines", "source": "artifacts", "artifact_measure": "diff_lines"}
    run_dir = write_run(tmp_path / "run", [trial_row("base", 0, metrics=metrics)], metrics=[declared])

    found = lines(run_dir, "metrics_long")
    assert {(row["metric_name"], row["metric_source"], row["metric_value"], row["metric_text"]) for row in found} == {
        ("success", "primary", 1.0, None),
        ("duration_ms", "runner", 100.0, None),
        ("overhead_ms", "runner", 5.0, None),
        ("accuracy", "output", 0.5, None),
        ("ok", "output", 1.0, None),
        ("model", "output", None, "m-1"),
        ("tokens_in", "runner", 12.0, None),
        ("lines", "runner", 3.0, None),
    }
    assert {row["trial_id"] for row in found} == {"trial_base_0_0"}


def test_duration_reported_by_the_harness_is_listed_beside_that_of_the_runner(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [trial_row("base", 0, duration_ms=100.0, metrics={"duration_ms": 7.0})])

    timed = [(row["metric_source"], row["metric_value"]) for row in lines(run_dir, "metrics_long") if row["metric_name"] == "duration_ms"]  # fmt: skip
    assert timed == [("runner", 100.0), ("output", 7.0)]


@pytest.mark.parametrize("name", ["success", "loss"])
def test_metric_that_is_also_the_primary_one_has_one_row(tmp_path: Path, name: str) -> None:
    row = trial_row("base", 0, metrics={name: 1.0}) | {"primary_metric_name": name, "primary_metric_value": 1.0}
    run_dir = write_run(tmp_path / "run", [row])

    found = [(row["metric_source"], row["metric_value"]) for row in lines(run_dir, "metrics_long") if row["metric_name"] == name]  # fmt: skip
    assert found == [("primary", 1.0)]


def test_duration_of_the_runner_is_kept_beside_an_objective_of_its_name(tmp_path: Path) -> None:
    row = trial_row("base", 0) | {"primary_metric_name": "duration_ms", "primary_metric_value": 7.0}
    run_dir = write_run(tmp_path / "run", [row])

    found = [(row["metric_source"], row["metric_value"]) for row in lines(run_dir, "metrics_long") if row["metric_name"] == "duration_ms"]  # fmt: skip
    assert found == [("primary", 7.0), ("runner", 100.0)]


def test_events_are_counted_by_trial_and_by_variant(tmp_path: Path) -> None:
    rows = [
        trial_row("base", 0, event_counts={"agent_step_start": 3, "error": 1}),
        trial_row("base", 1, event_counts={"agent_step_start": 2}),
        trial_row("better", 0, event_counts={"agent_step_start": 7}),
    ]
    run_dir = write_run(tmp_path / "run", rows)

    assert len(lines(run_dir, "event_counts_by_trial")) == 4
    assert lines(run_dir, "event_counts_by_variant") == [
        {"run_id": RUN_ID, "variant_id": "base", "event_type": "agent_step_start", "event_count": 5},
        {"run_id": RUN_ID, "variant_id": "base", "event_type": "error", "event_count": 1},
        {"run_id": RUN_ID, "variant_id": "better", "event_type": "agent_step_start", "event_count": 7},
    ]


def test_hostile_text_and_numbers_survive(tmp_path: Path, load: Any) -> None:
    message = "</script>\x00\x1b[31m\n\"quoted\" 'single' \u202e\U0001f600"
    row = trial_row(
        "base", 0, task_id="t'; DROP TABLE trials; --", error_message=message, metrics={"n": 10**400, "m": 10**30}
    )
    connection = load(write_run(tmp_path / "run", [row]))

    assert connection.execute("SELECT task_id, error_message FROM trials").fetchall() == [(row["task_id"], message)]
    values = dict(connection.execute("SELECT metric_name, metric_value FROM metrics_long WHERE metric_name IN ('n', 'm')").fetchall())  # fmt: skip
    assert values == {"n": None, "m": 1e30}


def test_row_of_an_earlier_version_has_no_cached_from(tmp_path: Path) -> None:
    row = trial_row("base", 0)
    del row["cached_from"]
    write_run(tmp_path / "run", [row])

    assert lines(tmp_path / "run", "trials")[0]["cached_from"] is None


def test_any_value_is_written_as_one_json_line() -> None:
    line = json_line({"a": float("nan"), "b": float("inf"), "c": "half \ud800 a pair", "d": ["\udcff"]})

    assert json.loads(line) == {"a": None, "b": None, "c": "half ? a pair", "d": ["?"]}


def test_a_run_dir_may_have_any_name(tmp_path: Path, load: Any) -> None:
    connection = load(write_run(tmp_path / "it's [a] run*", [trial_row("base", 0)]))

    assert connection.execute("SELECT count(*) FROM 'tables/trials.parquet'").fetchall() == [(1,)]


def test_a_failure_leaves_the_tables_as_they_were(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [trial_row("base", 0)])
    before = {path.name: path.read_bytes() for path in tables_dir(run_dir).iterdir()}

    def broken() -> Iterator[dict[str, Any]]:
        yield trial_row("base", 1)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_tables(run_dir, broken())
    assert {path.name: path.read_bytes() for path in tables_dir(run_dir).iterdir()} == before


def test_variant_summary_is_replaced_without_changing_other_tables(tmp_path: Path, load: Any) -> None:
    run_dir = write_run(tmp_path / "run", [trial_row("base", 0)])
    trials = (tables_dir(run_dir) / "trials.jsonl").read_bytes()
    row = dict.fromkeys(COLUMNS["variant_summary"]) | {"variant_id": "base", "total": 1, "metrics": {"a": 1}}
    write_variant_summary(run_dir, [row])

    connection = load(run_dir)
    assert connection.execute("SELECT variant_id, total, metrics->>'a' FROM variant_summary").fetchall() == [
        ("base", 1, "1")
    ]
    assert (tables_dir(run_dir) / "trials.jsonl").read_bytes() == trials


def test_rows_are_taken_one_at_a_time(tmp_path: Path) -> None:
    alive = most = 0

    class Counted(dict[str, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def rows() -> Iterator[Counted]:
        nonlocal alive, most
        for task in range(200):
            alive += 1
            most = max(most, alive)
            yield Counted(trial_row("base", task))

    write_run(tmp_path / "run", rows())
    assert most <= 2
