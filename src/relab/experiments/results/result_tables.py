"""Write a run's tables as JSON Lines and Parquet to `analysis/tables/`, with a script that loads them into DuckDB.

Rows are written one at a time, so memory does not grow with the run. Every file is written under a temporary name and
then renamed: a concurrent reader sees either the old file or the new one, and a failure leaves the old files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import jiter
import pydantic_core

from relab.core.atomic_files import replacing
from relab.experiments.records.file_names import RESOLVED

if TYPE_CHECKING:
    import duckdb

ANALYSIS: Final = "analysis"
TABLES: Final = "tables"
LOAD_SCRIPT: Final = "load_duckdb.sql"

TRIALS: Final = "trials"
METRICS: Final = "metrics_long"
EVENTS_BY_TRIAL: Final = "event_counts_by_trial"
EVENTS_BY_VARIANT: Final = "event_counts_by_variant"
VARIANTS: Final = "variant_summary"

_IDS: Final = {"run_id": "VARCHAR", "trial_id": "VARCHAR", "variant_id": "VARCHAR", "task_id": "VARCHAR", "repl_idx": "BIGINT"}  # fmt: skip

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    TRIALS: {
        "run_id": "VARCHAR",
        "trial_id": "VARCHAR",
        "baseline_id": "VARCHAR",
        "workload_type": "VARCHAR",
        "variant_id": "VARCHAR",
        "task_index": "BIGINT",
        "task_id": "VARCHAR",
        "repl_idx": "BIGINT",
        "outcome": "VARCHAR",
        "success": "BOOLEAN",
        "started_at": "TIMESTAMP",
        "ended_at": "TIMESTAMP",
        "duration_ms": "DOUBLE",
        "overhead_ms": "DOUBLE",
        "exit_code": "BIGINT",
        "status_code": "VARCHAR",
        "error_type": "VARCHAR",
        "error_message": "VARCHAR",
        "attempts": "BIGINT",
        "integration_level": "VARCHAR",
        "sandbox": "VARCHAR",
        "container_mode": "BOOLEAN",
        "network_mode_requested": "VARCHAR",
        "network_mode_effective": "VARCHAR",
        "primary_metric_name": "VARCHAR",
        "primary_metric_value": "DOUBLE",
        "primary_metric_direction": "VARCHAR",
        "metrics": "JSON",
        "hook_events_total": "BIGINT",
        "has_hook_events": "BOOLEAN",
        "event_counts": "JSON",
        "hook_events_invalid": "BIGINT",
        "hook_event_problems": "VARCHAR[]",
        "cluster": "VARCHAR",
        "agent_run_id": "VARCHAR",
        "violations": "VARCHAR[]",
        "guardrails_exceeded": "VARCHAR[]",
        "trial_dir": "VARCHAR",
        "cached_from": "VARCHAR",
        "metrics_from_spans": "VARCHAR[]",
    },
    METRICS: {
        **_IDS,
        "outcome": "VARCHAR",
        "metric_name": "VARCHAR",
        "metric_value": "DOUBLE",
        "metric_text": "VARCHAR",
        "metric_source": "VARCHAR",
    },
    EVENTS_BY_TRIAL: {**_IDS, "event_type": "VARCHAR", "event_count": "BIGINT"},
    EVENTS_BY_VARIANT: {"run_id": "VARCHAR", "variant_id": "VARCHAR", "event_type": "VARCHAR", "event_count": "BIGINT"},
    VARIANTS: {
        "run_id": "VARCHAR",
        "variant_id": "VARCHAR",
        "is_baseline": "BOOLEAN",
        "total": "BIGINT",
        "successes": "BIGINT",
        "failures": "BIGINT",
        "errors": "BIGINT",
        "missing": "BIGINT",
        "success_rate": "DOUBLE",
        "success_rate_low": "DOUBLE",
        "success_rate_high": "DOUBLE",
        "success_rate_errors_dropped": "DOUBLE",
        "success_rate_errors_dropped_low": "DOUBLE",
        "success_rate_errors_dropped_high": "DOUBLE",
        "primary_metric_name": "VARCHAR",
        "primary_metric_mean": "DOUBLE",
        "duration_ms_p50": "DOUBLE",
        "duration_ms_p90": "DOUBLE",
        "duration_ms_p95": "DOUBLE",
        "duration_ms_p99": "DOUBLE",
        "cost_usd_total": "DOUBLE",
        "cost_usd_mean": "DOUBLE",
        "cached_trials": "BIGINT",
        "cost_usd_cached": "DOUBLE",
        "metrics": "JSON",
        "pass_k": "JSON",
        "event_counts": "JSON",
    },
}
"""The columns of each table, with their DuckDB types.

Times are UTC. `metric_value` is a number (booleans as 0 and 1), text goes to `metric_text`; a trial has each metric at
most once per source.
"""

RUNNER_METRICS: Final = frozenset(
    ("duration_ms", "overhead_ms", "exit_code", "step_count", "turn_count", "tool_call_count", "tokens_in",
     "tokens_out", "model_requests", "model_cache_hits", "model_cache_misses", "estimated_cost_usd", "files_created", "files_modified", "files_removed", "diff_bytes")
)  # fmt: skip
"""The names of the metrics that the runner itself measures in every trial (see `trial/metrics.py`)."""

_opened: ContextVar[duckdb.DuckDBPyConnection | None] = ContextVar("_opened", default=None)
"""The connection of the innermost `one_duckdb`; None outside of it."""

_MEMORY_LIMIT = "256MB"
_ROW_GROUP_ROWS = 20_000
"""The number of rows in a group of a Parquet file.

DuckDB's default of 122,880 would hold that many rows in memory, and the message of one trial may have kilobytes.
"""


@dataclass(frozen=True)
class _Outputs:
    trials: IO[bytes]
    metrics: IO[bytes]
    events: IO[bytes]


def tables_dir(run_dir: Path) -> Path:
    """Return the folder of a run's tables."""
    return run_dir / ANALYSIS / TABLES


def write_tables(run_dir: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    """Write all tables of a run; the table `variant_summary` stays empty until the run is analysed.

    Args:
        run_dir: the run's folder; its `resolved_experiment.json` lists the metrics that the runner measures itself.
        rows: one per trial, from `TrialRow.to_json`.

    Raises:
        OSError: writing failed, for example on a full disk; the old tables stay.
    """
    folder = tables_dir(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    by_runner = RUNNER_METRICS | _configured_runner_metrics(run_dir)
    with ExitStack() as replaced:
        made = {name: replaced.enter_context(replacing(folder / name)) for name in [*_files(*COLUMNS), LOAD_SCRIPT]}
        with ExitStack() as stack:
            outputs = _Outputs(*(stack.enter_context(made[f"{name}.jsonl"].open("wb")) for name in (TRIALS, METRICS, EVENTS_BY_TRIAL)))  # fmt: skip
            for row in rows:
                _write_row(outputs, row, by_runner)
        made[f"{VARIANTS}.jsonl"].touch()
        with open_duckdb(folder) as connection:
            connection.execute(
                "COPY (SELECT run_id, variant_id, event_type, sum(event_count)::BIGINT AS event_count "  # noqa: S608
                f"FROM {_read_json(EVENTS_BY_TRIAL, made[f'{EVENTS_BY_TRIAL}.jsonl'])} GROUP BY ALL ORDER BY ALL) "
                f"TO {_quoted(str(made[f'{EVENTS_BY_VARIANT}.jsonl']))} (FORMAT json)"
            )
            for name in COLUMNS:
                _to_parquet(connection, name, made)
        made[LOAD_SCRIPT].write_text(load_script(), encoding="utf-8")


def write_variant_summary(run_dir: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the table `variant_summary`; each row needs the columns of `COLUMNS["variant_summary"]`.

    Raises:
        OSError: writing failed, for example on a full disk; the old table stays.
    """
    folder = tables_dir(run_dir)
    with ExitStack() as replaced:
        made = {name: replaced.enter_context(replacing(folder / name)) for name in _files(VARIANTS)}
        with made[f"{VARIANTS}.jsonl"].open("wb") as file:
            file.writelines(json_line(row) for row in rows)
        with open_duckdb(folder) as connection:
            _to_parquet(connection, VARIANTS, made)


def load_script() -> str:
    """Return the SQL statements that load a run's result tables into DuckDB.

    The statements contain relative paths, so DuckDB must run in the run's folder `analysis`.
    """
    statements = [
        f"CREATE OR REPLACE TABLE {name} AS\nSELECT * FROM {_read_json(name, f'{TABLES}/{name}.jsonl')};"
        for name in COLUMNS
    ]
    head = "-- In the folder `analysis` of a run:  duckdb agentlab.duckdb < tables/load_duckdb.sql\n"
    return head + "\n".join(statements) + "\n"


def table_source(run_dir: Path, name: str) -> str:
    """Return the DuckDB expression for a FROM clause that reads the Parquet file of the table `name`."""
    return f"read_parquet({_quoted(_no_glob(str(tables_dir(run_dir) / f'{name}.parquet')))})"


@contextmanager
def open_duckdb(spill_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to an in-memory DuckDB that downloads no extensions; close it after the `with` block.

    Args:
        spill_dir: the folder in which DuckDB creates its temporary files once it exceeds its memory limit.

    Raises:
        OSError: DuckDB fails on a file or on memory, for example on a full disk or an unreadable file.
    """
    import duckdb  # noqa: PLC0415 takes longer to load than most commands take

    opened = _opened.get()
    try:
        # A cursor is a connection of its own to the same instance: it sees no temporary table of another one.
        with _instance(spill_dir) if opened is None else opened.cursor() as connection:
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise OSError(str(error)) from error


@contextmanager
def one_duckdb(run_dir: Path) -> Iterator[None]:
    """Start one in-memory DuckDB, which all calls of `open_duckdb` inside the `with` block share.

    `run_dir` is the folder of the run.

    Raises:
        OSError: DuckDB cannot be opened.
    """
    with open_duckdb(tables_dir(run_dir)) as connection:
        # Each call would otherwise start its own instance, which takes 7 ms.
        token = _opened.set(connection)
        try:
            yield
        finally:
            _opened.reset(token)


def _instance(spill_dir: Path) -> duckdb.DuckDBPyConnection:
    import duckdb  # noqa: PLC0415 takes longer to load than most commands take

    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": _MEMORY_LIMIT,
        "threads": 2,
        "temp_directory": str(spill_dir / ".spilled"),
    }
    return duckdb.connect(":memory:", config=config)


def json_line(value: Any) -> bytes:
    """Return a value as a line of JSON with a newline. Non-finite numbers become null; invalid Unicode becomes `?`."""
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null") + b"\n"
    except (pydantic_core.PydanticSerializationError, UnicodeEncodeError):
        return pydantic_core.to_json(_as_unicode(value), inf_nan_mode="null") + b"\n"


def document_bytes(document: Any) -> bytes:
    """Return a document as indented JSON in UTF-8, with a newline at the end; non-finite numbers become null."""
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        # Means and sums of the largest figures that a harness may report overflow.
        text = json.dumps(_with_nulls(document), indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def _with_nulls(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _with_nulls(item) for key, item in value.items()}
    return [_with_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value


def _files(*tables: str) -> list[str]:
    return [f"{name}.{suffix}" for name in tables for suffix in ("jsonl", "parquet")]


def _configured_runner_metrics(run_dir: Path) -> set[str]:
    path = run_dir / RESOLVED
    if not path.exists():
        return set()
    declared = jiter.from_json(path.read_bytes()).get("metrics", [])
    return {metric["id"] for metric in declared if metric["source"] != "output"}


def _write_row(outputs: _Outputs, row: Mapping[str, Any], by_runner: frozenset[str] | set[str]) -> None:
    outputs.trials.write(json_line({name: row.get(name) for name in COLUMNS[TRIALS]}))
    ids = {name: row[name] for name in _IDS}
    for name, source, value in _metrics(row, by_runner):
        is_text = isinstance(value, str)
        outputs.metrics.write(
            json_line(
                ids
                | {
                    "outcome": row["outcome"],
                    "metric_name": name,
                    "metric_value": None if is_text else _number(value),
                    "metric_text": value if is_text else None,
                    "metric_source": source,
                }
            )
        )
    for kind, count in row["event_counts"].items():
        outputs.events.write(json_line(ids | {"event_type": kind, "event_count": count}))


def _metrics(row: Mapping[str, Any], by_runner: frozenset[str] | set[str]) -> Iterator[tuple[str, str, Any]]:
    primary = row["primary_metric_name"], row["primary_metric_value"]
    measured = [(name, row[name]) for name in ("duration_ms", "overhead_ms") if row[name] is not None]
    yield primary[0], "primary", primary[1]
    for name, value in measured:
        if (name, value) != primary:
            yield name, "runner", value
    names = {name for name, _ in (primary, *measured)}
    for name, value in row["metrics"].items():
        if name not in names:
            yield name, "runner" if name in by_runner else "output", value
        elif (name, value) not in (primary, *measured):
            # A harness may report its own duration or success: it is kept beside the runner's.
            yield name, "output", value


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _as_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_as_unicode(key): _as_unicode(item) for key, item in value.items()}
    return [_as_unicode(item) for item in value] if isinstance(value, (list, tuple)) else value


def _to_parquet(connection: duckdb.DuckDBPyConnection, name: str, made: Mapping[str, Path]) -> None:
    connection.execute(
        f"COPY (SELECT * FROM {_read_json(name, made[f'{name}.jsonl'])}) "  # noqa: S608
        f"TO {_quoted(str(made[f'{name}.parquet']))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
    )


def _read_json(name: str, path: Path | str) -> str:
    # Explicit types give an empty table its columns, too.
    columns = ", ".join(f"{column}: '{kind}'" for column, kind in COLUMNS[name].items())
    return f"read_json({_quoted(_no_glob(str(path)))}, format = 'newline_delimited', columns = {{{columns}}})"


def _no_glob(path: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
