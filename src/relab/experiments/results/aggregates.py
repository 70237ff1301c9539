"""Query the tables of a run with DuckDB: the mean of each metric per task, counts, quantiles and sums of trials.

The statistics compare tasks, or clusters of tasks that depend on each other; they do not compare single trials. The
mean over the repeats of a task is computed only in this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jiter

from relab.experiments.config.metric_directions import MetricDirection
from relab.experiments.errors import damaged
from relab.experiments.results.result_tables import ANALYSIS, METRICS, TRIALS, open_duckdb, table_source, tables_dir
from relab.experiments.results.run_metadata import SUCCESS
from relab.stats.paired import Clusters

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)
MAX_METRICS: Final = 200
"""The largest number of metrics to aggregate: the requested ones first, then in the order of their names."""

ERRORS_DROPPED: Final = "success, errors dropped"
"""The name of the success rate over the trials with outcome success or failure.

A harness's metric of this name is ignored.
"""

STOPPING: Final = f"{ANALYSIS}/stopping.json"
"""The file with the tasks, in the order of the plan, on which variants are compared in a run that may stop early."""

MAX_FIGURE: Final = 1e290
"""The largest figure of a task that is averaged and compared: sums of larger ones may overflow."""

LATENCY: Final = "latency_ms"
DURATION: Final = "duration_ms"
COST: Final = "cost_usd"

_RANK = "list_position(['primary', 'runner', 'output'], metric_source)"

_SET_UP = f"""
CREATE TEMP TABLE tasks AS
    SELECT task_id, min(task_index) AS place, any_value(cluster) AS cluster,
           row_number() OVER (ORDER BY min(task_index), task_id) - 1 AS task,
    FROM trials GROUP BY task_id;
CREATE TEMP TABLE groups AS
    SELECT task_id, task, cluster,
           CASE WHEN cluster IS NULL THEN -1 - task ELSE dense_rank() OVER (ORDER BY cluster) END AS cluster_number
    FROM tasks;
CREATE TEMP TABLE sources AS
    SELECT metric_name, arg_min(metric_source, {_RANK}) AS metric_source
    FROM metrics_long WHERE isfinite(metric_value) AND metric_name NOT IN ('{SUCCESS}', '{ERRORS_DROPPED}')
    GROUP BY metric_name;
"""  # noqa: S608 constants

# The variance of values near the largest double would overflow, which DuckDB refuses.
_VARIANCE = "var_samp(CASE WHEN abs(metric_value) < 1e150 THEN metric_value END)"

_MEANS = f"""
CREATE TEMP TABLE task_means AS
    SELECT variant_id, '{SUCCESS}' AS metric, task, cluster_number,
           avg(success::INT) AS mean, count(*) AS trials, sum(success::INT)::BIGINT AS hits,
           var_samp(success::INT) AS variance
    FROM trials JOIN groups USING (task_id) GROUP BY ALL
UNION ALL
    SELECT variant_id, '{ERRORS_DROPPED}', task, cluster_number, avg(success::INT), count(*), sum(success::INT)::BIGINT,
           var_samp(success::INT)
    FROM trials JOIN groups USING (task_id) WHERE outcome IN ('success', 'failure') GROUP BY ALL
UNION ALL
    SELECT variant_id, metric_name, task, cluster_number, avg(metric_value), count(*), NULL, {_VARIANCE}
    FROM metrics_long JOIN sources USING (metric_name, metric_source) JOIN groups USING (task_id)
    WHERE isfinite(metric_value) AND metric_name IN (SELECT unnest(?::VARCHAR[])) GROUP BY ALL
"""  # noqa: S608 constants


@dataclass(frozen=True)
class TaskMeans:
    """The values of one metric of one variant, averaged by task. All arrays have one element per task.

    Attributes:
        tasks: the numbers that identify the tasks, ascending.
        means: the mean over the trials of the task.
        trials: how many trials the mean is computed from.
        groups: the number that identifies the task's cluster (tasks that depend on each other); negative for a task
            without a cluster.
        variances: the sample variance over the trials of the task; NaN for a task with one trial.
    """

    tasks: Ints
    means: Floats
    trials: Ints
    groups: Ints
    variances: Floats

    @property
    def can_be_summed(self) -> bool:
        """Whether each task's mean is a number between `-MAX_FIGURE` and `MAX_FIGURE`, so that sums do not overflow."""
        return bool((abs(self.means) <= MAX_FIGURE).all())

    def clusters(self) -> Clusters:
        """Return, for each cluster, the sum of its tasks' means and the number of its tasks.

        A cluster has tasks that depend on each other; a task without a cluster counts as a cluster of its own.
        """
        return sum_by_group(self.means, self.groups)

    def hits(self) -> Clusters:
        """Return, for each cluster, the number of its successful trials, and the number of all its trials.

        A cluster has tasks that depend on each other. The metric must be a rate, such as `success`: each trial has the
        value 0 or 1.
        """
        import numpy as np  # noqa: PLC0415 takes longer to load than most commands take

        trials = self.trials.astype(float)
        # Each task's part of the sum is whole; the mean times the trials differs from it only by rounding.
        return Clusters(
            sum_by_group(np.rint(self.means * trials), self.groups).sums, sum_by_group(trials, self.groups).sums
        )


def sum_by_group(values: Floats, groups: Ints) -> Clusters:
    """Return, for each group, the sum and the count of its values, in ascending order of the group ids.

    `groups` has, for each element of `values`, the id of its group.
    """
    import numpy as np  # noqa: PLC0415 takes longer to load than most commands take

    _, index = np.unique(groups, return_inverse=True)
    return Clusters(np.bincount(index, weights=values).astype(float), np.bincount(index).astype(float))


class TrialData:
    """The values of a run's metrics, by variant, metric and task. `open_trial_data` creates it.

    Args:
        connection: a DuckDB connection, in which the tables of the run are opened.
        run_dir: the run's folder.
        wanted: metrics to include first if there are more than `MAX_METRICS`.

    Attributes:
        metrics: `{name: source}` of the numeric metrics that have values, at most `MAX_METRICS`. The source is
            `primary` (the trials' primary metric), `runner` (measured by the runner) or `output` (reported by the
            harness).
        omitted: the number of further metrics, which are left out.
        partial: the metrics that cannot be compared between a fork and its parent (the forked trial), because the fork
            measures them only from its checkpoint on. Empty if the run has no forks.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_dir: Path, wanted: Sequence[str]) -> None:
        self._connection = connection
        self._stopping = _read_sequences(run_dir / STOPPING)
        for name in (TRIALS, METRICS):
            connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {table_source(run_dir, name)}")  # noqa: S608
        # Tables of an earlier version have no such column.
        self._has_cache = any(name == "cached_from" for name, *_ in self.rows("DESCRIBE trials"))
        connection.execute(_SET_UP)
        found = dict(self.rows("SELECT metric_name, metric_source FROM sources ORDER BY metric_name"))
        first = [name for name in dict.fromkeys([*wanted, DURATION, COST]) if name in found]
        kept = [*first, *(name for name in found if name not in first)][:MAX_METRICS]
        self.metrics: dict[str, str] = {name: found[name] for name in kept}
        self.omitted = len(found) - len(kept)
        # Forks and their parents, which are of another run, are in one table.
        has_parents = int(self.rows("SELECT count(DISTINCT run_id) FROM trials")[0][0]) > 1
        self.partial = frozenset(
            name for name in kept if has_parents and found[name] == "runner" and name != "exit_code"
        )
        connection.execute(_MEANS, [kept])

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run an SQL query over the tables `trials`, `metrics_long`, `tasks` and `task_means`, and return its rows.

        `parameters` are the values for the `?` in the query, in order.
        """
        return self._connection.execute(query, list(parameters)).fetchall()

    @property
    def tasks(self) -> int:
        """The number of tasks with at least one trial."""
        return int(self.rows("SELECT count(*) FROM tasks")[0][0])

    def name_of(self, metric: str) -> str | None:
        """Return the name under which the values of a metric are stored; None if no trial has a number for it.

        This is `metric` itself, except for the metric `latency_ms`: if no harness reports it, its values are those of
        `duration_ms`, which the runner measures.
        """
        if metric == SUCCESS or metric in self.metrics:
            return metric
        return DURATION if metric == LATENCY and DURATION in self.metrics else None

    def task_means(self, variant: str, metric: str) -> TaskMeans:
        """Return a metric of a variant by task, averaged over repeats; empty if no trial has a value of the metric."""
        found = self._connection.execute(
            "SELECT task, mean, trials, cluster_number, coalesce(variance, 'nan'::DOUBLE) AS variance "
            "FROM task_means WHERE variant_id = ? AND metric = ? ORDER BY task",
            [variant, metric],
        ).fetchnumpy()
        return TaskMeans(
            found["task"].astype("int64"),
            found["mean"].astype("float64"),
            found["trials"].astype("int64"),
            found["cluster_number"].astype("int64"),
            found["variance"].astype("float64"),
        )

    def without_result(self, baseline: str, variant: str, metric: str, *, are_forks: bool) -> str | None:
        """Return a sentence that says why a variant and the baseline cannot be compared; None if they can.

        Both must have a trial that ended in success or failure, with two exceptions:

        - In a run of forks (`are_forks`; trials that begin at a checkpoint of an earlier trial), one of the two must
          have such a trial, because a fork may correct the error of the earlier trial.
        - With the metric `SUCCESS`, only the baseline must have such a trial, because errors of the variant count as
          failures.
        """
        missing = [name for name in (baseline, variant) if not self.task_means(name, ERRORS_DROPPED).tasks.size]
        tolerated = 1 if are_forks else 0 if metric != SUCCESS or baseline in missing else 1
        if len(missing) <= tolerated:
            return None
        return f"no trial of {missing[0]!r} ended in success or failure, so it cannot be compared"

    @property
    def may_stop_early(self) -> bool:
        """Whether the run has a stopping rule, so that clear results may end the run early."""
        return self._stopping is not None

    def looked_at(self, baseline: str, variant: str) -> int:
        """Return how many tasks the stopping rule has examined for both variants; 0 for a run without a stopping rule.

        The rule examines the tasks in the order of the plan, so these are the first tasks of the plan.
        """
        if self._stopping is None:
            return 0
        order, positions = self._stopping
        return min(positions.get(name, len(order)) for name in (baseline, variant))

    def sequence(self, baseline: str, variant: str) -> list[int] | None:
        """Return the tasks that the stopping rule has examined for both variants, in the plan's order.

        Each task is given by its number, as in `TaskMeans.tasks`.

        Return None for a run without a stopping rule, in which all tasks are compared.
        """
        if self._stopping is None:
            return None
        numbers = dict(self.rows("SELECT place, task FROM tasks"))
        order = self._stopping[0][: self.looked_at(baseline, variant)]
        return [numbers[place] for place in order if place in numbers]

    def outcomes(self, variant: str) -> dict[str, int]:
        """Return `{outcome: number of trials}` of a variant."""
        return dict(self.rows("SELECT outcome, count(*) FROM trials WHERE variant_id = ? GROUP BY ALL", [variant]))

    def error_types(self, variant: str) -> dict[str, int]:
        """Return `{error type: number of trials}` of a variant's trials that have an error, most frequent first."""
        query = (
            "SELECT error_type, count(*) AS n FROM trials WHERE variant_id = ? AND error_type IS NOT NULL "
            "GROUP BY ALL ORDER BY n DESC, error_type"
        )
        return dict(self.rows(query, [variant]))

    def cached(self, variant: str) -> dict[str, float]:
        """Return `{trials, cost_usd}`: the number of trials with a result from the result cache, and the saved cost in USD."""
        if not self._has_cache:
            return {"trials": 0, "cost_usd": 0.0}
        query = (
            "SELECT count(*), coalesce(sum(try_cast(metrics->>'cost_usd' AS DOUBLE)), 0) "
            "FROM trials WHERE variant_id = ? AND cached_from IS NOT NULL"
        )
        trials, cost_usd = self.rows(query, [variant])[0]
        return {"trials": int(trials), "cost_usd": float(cost_usd)}

    def nonzero_exits(self, variant: str) -> int:
        """Return the number of a variant's trials with the outcome success or failure and an exit code other than 0."""
        query = (
            "SELECT count(*) FROM trials WHERE variant_id = ? AND exit_code <> 0 AND outcome IN ('success', 'failure')"
        )
        return int(self.rows(query, [variant])[0][0])

    def quantiles(self, variant: str, metric: str, at: Sequence[float] = QUANTILES) -> list[float] | None:
        """Return quantiles of a metric over the trials of a variant; None if no trial has a value of the metric.

        `at` are the wanted quantiles, 0 to 1, such as 0.5 for the median.
        """
        name = self.name_of(metric)
        found = self.rows(
            "SELECT quantile_cont(metric_value, ?::DOUBLE[]) FROM metrics_long "
            "WHERE variant_id = ? AND metric_name = ? AND metric_source = ? AND isfinite(metric_value)",
            [list(at), variant, name, self.metrics.get(name or "")],
        )
        return None if found[0][0] is None else list(found[0][0])

    def total(self, variant: str, metric: str) -> float | None:
        """Return the sum of a metric over the trials of a variant; None if no trial has a value of the metric."""
        found = self.rows(
            "SELECT sum(mean * trials) FROM task_means WHERE variant_id = ? AND metric = ?", [variant, metric]
        )
        return None if found[0][0] is None else float(found[0][0])

    def solved(self, variant: str) -> list[tuple[int, int, int]]:
        """Count the tasks of a variant by their successes; return `(successes, trials, tasks)` items, sorted.

        In each of these `tasks` tasks, `successes` of the `trials` trials succeeded.
        """
        return [
            (int(hits), int(trials), int(tasks))
            for hits, trials, tasks in self.rows(
                f"SELECT hits, trials, count(*) FROM task_means WHERE variant_id = ? AND metric = '{SUCCESS}' "  # noqa: S608
                "GROUP BY ALL ORDER BY ALL",
                [variant],
            )
        ]

    def missing_outcomes(self, variant: str) -> int:
        """Return how many trials of a variant have the outcome `missing`: they were not run, or gave no answer."""
        return self.outcomes(variant).get("missing", 0)

    def objective(self) -> str | None:
        """Return the name of the objective, the metric that a trainer optimizes; None without trials.

        A trainer is a harness that trains a model. It reports its objective as primary metric, so the result is the
        primary metric with values in most trials.
        """
        found = self.rows(
            "SELECT primary_metric_name FROM trials GROUP BY ALL "
            "ORDER BY count(primary_metric_value) DESC, count(*) DESC, primary_metric_name LIMIT 1"
        )
        return str(found[0][0]) if found else None

    def objective_direction(self, name: str) -> MetricDirection | None:
        """Return the direction that most trials report for the primary metric `name`; None if no trial reports one."""
        found = self.rows(
            "SELECT primary_metric_direction FROM trials WHERE primary_metric_name = ? "
            "AND primary_metric_direction IN ('maximize', 'minimize') GROUP BY ALL ORDER BY count(*) DESC, 1 LIMIT 1",
            [name],
        )
        return None if not found else "maximize" if found[0][0] == "maximize" else "minimize"


@contextmanager
def open_trial_data(run_dir: Path, *, wanted: Sequence[str] = ()) -> Iterator[TrialData]:
    """Open the tables of a run for analysis; close them after the `with` block.

    Args:
        run_dir: the run's folder; its tables must have been written.
        wanted: metrics to include first if there are more than `MAX_METRICS`.

    Raises:
        RunDamagedError: a table is missing or cannot be read.
        OSError: DuckDB has too little memory, or too little disk space for its temporary files.
    """
    import duckdb  # noqa: PLC0415 takes longer to load than most commands take

    folder = tables_dir(run_dir)
    for name in (TRIALS, METRICS):
        if not (folder / f"{name}.parquet").is_file():
            raise damaged(folder / f"{name}.parquet", "is missing")
    with open_duckdb(folder) as connection:
        try:
            yield TrialData(connection, run_dir, wanted)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            # Runs of the current version have digests that are checked before, so this is a damaged run of an earlier version.
            raise damaged(folder, f"has a table that cannot be read ({type(error).__name__})") from error


def _read_sequences(path: Path) -> tuple[list[int], dict[str, int]] | None:
    """Read the file about the tasks that a stopping rule (which can end a run early) has examined.

    Returns:
        `(tasks, counts)`: the indices of the tasks in the order of the plan, and `{variant id: n}`. The rule compared
            the variant with the baseline on the first n of these tasks. None if the file does not exist.

    Raises:
        RunDamagedError: the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        document = jiter.from_json(path.read_bytes())
        return [int(place) for place in document["order"]], {
            name: int(count) for name, count in document["positions"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"cannot be read: {error}") from error
