"""Measure the metrics of a trial: the runner's standard metrics, and those that the configuration defines."""

from __future__ import annotations

import fnmatch
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from relab.core.json import is_number
from relab.experiments.config.models import ExperimentConfig, MetricConfig
from relab.experiments.trial.events import EventStream
from relab.experiments.trial.wire import TrialOutput, numeric_metrics
from relab.experiments.workspace.manifests import Diff

_MAX_LINES_BYTES = 16 * 1_048_576
_INDEX = re.compile("0|[1-9][0-9]{0,9}")
_GLOB_PART = re.compile(r"\*\*/|\[!?+\]?+[^\]]*\]|.", re.DOTALL)
"""A part of a glob: `**/`, a class such as `[a-z]` as `fnmatch` reads it, or one character."""


def measure(
    config: ExperimentConfig,
    *,
    duration_ms: float,
    exit_code: int | None,
    raw_output: Mapping[str, Any],
    output: TrialOutput | None,
    events: EventStream,
    diff: Diff,
    workspace: Path,
) -> dict[str, Any]:
    """Return the metrics of an attempt by name.

    If several sources give a metric of the same name, a configured metric has priority, then the harness's value, then
    the runner's.

    Args:
        config: the experiment.
        duration_ms: the duration of the harness's process.
        exit_code: the exit code of the harness; None if it is unknown, and then no metric.
        raw_output: the output as the harness wrote it; empty if there is no output.
        output: the validated output; None if there is no valid one.
        events: the events of the harness.
        diff: the changes of the workspace.
        workspace: the folder of the workspace.
    """
    found: dict[str, Any] = {"duration_ms": duration_ms} | ({} if exit_code is None else {"exit_code": exit_code})
    found |= _counted(events)
    found |= {
        "files_created": len(diff.added),
        "files_modified": len(diff.modified),
        "files_removed": len(diff.removed),
        "diff_bytes": diff.changed_bytes,
    }
    if output is not None:
        found |= numeric_metrics(output.metrics)
        if output.objective is not None and output.objective.value is not None:
            found[output.objective.name] = output.objective.value
    for metric in config.metrics:
        value = _defined(metric, found, raw_output, events, diff, workspace)
        if value is not None:
            found[metric.id] = value
    return found


def guardrails_exceeded(config: ExperimentConfig, metrics: Mapping[str, Any]) -> list[str]:
    """Return the ids of the metrics whose value is above the maximum of their guardrail in `config`."""
    found = []
    for guardrail in config.guardrails:
        value = metrics.get(guardrail.metric_id)
        if isinstance(value, (int, float)) and value > guardrail.max:
            found.append(guardrail.metric_id)
    return found


def _counted(events: EventStream) -> dict[str, Any]:
    if not events.events:
        return {}
    tokens_in = events.sum_of("model_call_end", "usage", "tokens_in")
    tokens_out = events.sum_of("model_call_end", "usage", "tokens_out")
    found = {
        "step_count": events.counts["agent_step_start"],
        "turn_count": events.counts["model_call_end"],
        "tool_call_count": events.counts["tool_call_end"],
    }
    return found | {
        name: value for name, value in (("tokens_in", tokens_in), ("tokens_out", tokens_out)) if value is not None
    }


def _defined(
    metric: MetricConfig,
    found: Mapping[str, Any],
    raw_output: Mapping[str, Any],
    events: EventStream,
    diff: Diff,
    workspace: Path,
) -> Any:
    if metric.source == "runner":
        return found.get(metric.id)
    if metric.source == "output":
        value = _pointed(raw_output, metric.json_pointer or "")
        return numeric_metrics({metric.id: value}).get(metric.id)
    if metric.source == "events":
        return _aggregated(metric, events)
    return _of_artifacts(metric, diff, workspace)


def _pointed(document: Any, pointer: str) -> Any:
    """Return the value in a document at a JSON pointer (RFC 6901); None if there is no such value."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, Mapping):
            document = document.get(name)
        elif isinstance(document, list) and _INDEX.fullmatch(name) and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def _aggregated(metric: MetricConfig, events: EventStream) -> float | None:
    chosen = [event for event in events.events if event["event_type"] == metric.event_type]
    if metric.aggregate == "count" or metric.event_field is None:
        return len(chosen)
    values = [_pointed(event, "/" + metric.event_field.replace(".", "/")) for event in chosen]
    numbers = [value for value in values if is_number(value)]
    if not numbers:
        return None
    aggregates: dict[str, Callable[[list[float]], float]] = {
        "last": lambda items: items[-1],
        "max": max,
        "min": min,
        "mean": statistics.fmean,
    }
    try:
        found = float(aggregates.get(metric.aggregate or "sum", sum)(numbers))
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _of_artifacts(metric: MetricConfig, diff: Diff, workspace: Path) -> float:
    pattern = metric.artifact_glob
    changed = [entry for entry in [*diff.added, *[new for _, new in diff.modified]] if matches(entry.path, pattern)]
    if metric.artifact_measure == "file_count":
        return len(changed)
    if metric.artifact_measure == "diff_lines":
        return sum(_lines(workspace / entry.path) for entry in changed if entry.mode >= 0)
    return sum(entry.size for entry in changed)


def matches(path: str, pattern: str | None) -> bool:
    """Return whether a path matches the glob `pattern`, in which `**/` matches any number of folders.

    If `pattern` is None, every path matches.
    """
    if pattern is None:
        return True
    if "**/" not in pattern:
        return fnmatch.fnmatchcase(path, pattern)
    # The positions in the path up to which the parts of the pattern so far match. With a set of them, the time is linear
    # in the length of the pattern, however many `**/` it has.
    reached = {0}
    for part in _GLOB_PART.findall(pattern):
        if part == "*":
            reached = set(range(min(reached), len(path) + 1))
        elif part == "**/":
            reached |= {place + 1 for place in range(min(reached), len(path)) if path[place] == "/"}
        elif len(part) == 1 and part != "?":
            reached = {place + 1 for place in reached if path[place : place + 1] == part}
        else:
            reached = {place + 1 for place in reached if fnmatch.fnmatchcase(path[place : place + 1], part)}
        if not reached:
            return False
    return len(path) in reached


def _lines(path: Path) -> int:
    try:
        if path.stat().st_size > _MAX_LINES_BYTES:
            return 0
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def collect(workspace: Path, patterns: Sequence[str], base: str, paths: Sequence[str]) -> list[str]:
    """Return those of `paths` that are artifacts of a trial: regular files below `base` that match a pattern.

    Args:
        workspace: the workspace of the trial.
        patterns: globs for paths relative to `base`.
        base: a folder, as a path below the workspace.
        paths: the files that the trial changed, as paths below the workspace.
    """
    folder = PurePosixPath(base)
    prefix = f"{folder}/" if folder.parts else ""
    return [
        path
        for path in paths
        if path.startswith(prefix)
        and any(matches(path.removeprefix(prefix), pattern) for pattern in patterns)
        and (workspace / path).is_file()
        and not (workspace / path).is_symlink()
    ]
