"""Metrics of a trial: measured by the runner, reported by the harness, or defined in the configuration."""

from __future__ import annotations

import fnmatch
import itertools
import json
import operator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.trial.events import EventStream, read_events
from relab.experiments.trial.metrics import collect, guardrails_exceeded, matches, measure
from relab.experiments.trial.wire import TrialOutput
from relab.experiments.workspace.manifests import Diff, FileEntry
from support.experiments.configs import IDS, config

TS = "2026-01-01T00:00:00Z"


def entry(path: str, size: int = 10, mode: int = 0o644) -> FileEntry:
    return FileEntry(path, "sha256:0", size, mode)


def stream(folder: Path, *found: dict[str, Any]) -> EventStream:
    path = folder / "events.jsonl"
    lines = [{"ts": TS, "seq": number, "ids": IDS.to_json(), **item} for number, item in enumerate(found)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_events(path, IDS, below=path.parent)


def measured(
    folder: Path, events: EventStream | None = None, diff: Diff | None = None, **fields: Any
) -> dict[str, Any]:
    metrics = fields.pop("metrics", [])
    raw = {"schema_version": "trial_output_v1", "ids": IDS.to_json(), "outcome": "success", **fields}
    return measure(
        config(metrics=metrics),
        duration_ms=12.5,
        exit_code=0,
        raw_output=raw,
        output=TrialOutput.model_validate({**raw, "metrics": raw.pop("reported", {})}),
        events=events or EventStream(),
        diff=diff or Diff(),
        workspace=folder,
    )


def test_runner_always_measures_its_metrics(tmp_path: Path) -> None:
    diff = Diff(added=(entry("a", 5),), removed=(entry("b"),), modified=((entry("c", 1), entry("c", 7)),))

    assert measured(tmp_path, diff=diff) == {
        "duration_ms": 12.5,
        "exit_code": 0,
        "files_created": 1,
        "files_modified": 1,
        "files_removed": 1,
        "diff_bytes": 12,
    }


def test_metrics_are_counted_from_events(tmp_path: Path) -> None:
    found = measured(
        tmp_path,
        stream(
            tmp_path,
            {"event_type": "agent_step_start"},
            {"event_type": "model_call_end", "usage": {"tokens_in": 10, "tokens_out": 1}},
            {"event_type": "model_call_end", "usage": {"tokens_in": 5}},
            {"event_type": "tool_call_end"},
        ),
    )

    assert found["step_count"] == 1
    assert found["turn_count"] == 2
    assert found["tool_call_count"] == 1
    assert found["tokens_in"] == 15
    assert found["tokens_out"] == 1


def test_metrics_of_the_harness_take_precedence(tmp_path: Path) -> None:
    raw = {
        "schema_version": "trial_output_v1",
        "ids": IDS.to_json(),
        "outcome": "success",
        "metrics": {"diff_bytes": 3, "accuracy": 0.5, "note": "good", "none": None},
        "objective": {"name": "val_acc", "value": 0.75, "direction": "maximize"},
    }
    found = measure(
        config(metrics=[{"id": "val", "source": "output", "json_pointer": "/objective/value"}]),
        duration_ms=1,
        exit_code=0,
        raw_output=raw,
        output=TrialOutput.model_validate(raw),
        events=EventStream(),
        diff=Diff(),
        workspace=tmp_path,
    )

    assert found["diff_bytes"] == 3
    assert found["accuracy"] == 0.5
    assert found["note"] == "good"
    assert found["val_acc"] == 0.75
    assert found["val"] == 0.75
    assert "none" not in found


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/answer/0/score", 2.5),
        ("/answer/00/score", None),
        ("/answer/1/score", None),
        ("/answer/9/score", None),
        ("/answer/-", None),
        ("/answer/" + "9" * 5_000, None),
        ("/ext/a~1b", 1),
        ("/ext/a~0b", 2),
        ("/ext/text", "words"),
        ("/ext/text/0", None),
        ("/ext/flag", True),
        ("/ext", None),
        ("/none/at/all", None),
        ("", None),
    ],
)
def test_json_pointer_selects_a_metric_from_the_output(tmp_path: Path, pointer: str, value: Any) -> None:
    found = measured(
        tmp_path,
        metrics=[{"id": "m", "source": "output", "json_pointer": pointer}],
        answer=[{"score": 2.5}],
        ext={"a/b": 1, "a~b": 2, "text": "words", "flag": True},
    )

    assert found.get("m") == value


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [("sum", 9.0), ("max", 5.0), ("min", 1.0), ("mean", 3.0), ("last", 3.0), ("count", 4), (None, 9.0)],
)
def test_event_metric_aggregates_the_numeric_fields(tmp_path: Path, aggregate: str | None, value: float) -> None:
    calls = [{"event_type": "tool_call_end", "timing": {"duration_ms": ms}} for ms in (1, 5, "long", 3)]
    metric = {
        "id": "m",
        "source": "events",
        "event_type": "tool_call_end",
        "event_field": "timing.duration_ms",
        "aggregate": aggregate,
    }

    assert measured(tmp_path, stream(tmp_path, *calls), metrics=[metric])["m"] == value
    assert measured(tmp_path, metrics=[metric]).get("m") == (0 if aggregate == "count" else None)


@pytest.mark.parametrize("aggregate", ["sum", "max", "min", "mean", "last"])
@pytest.mark.parametrize("huge", [10**308, 1.7e308, -(10**308)])
def test_aggregate_beyond_a_double_is_omitted(tmp_path: Path, aggregate: str, huge: float) -> None:
    calls = [{"event_type": "x", "v": huge} for _ in range(3)]
    metric = {"id": "m", "source": "events", "event_type": "x", "event_field": "v", "aggregate": aggregate}
    found = measured(tmp_path, stream(tmp_path, *calls), metrics=[metric]).get("m")

    assert found == (None if aggregate in {"sum", "mean"} and found is None else float(huge))


def test_artifact_metric_measures_the_matching_files(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1\n2\n3\n")
    (tmp_path / "b.py").write_text("1\n")
    diff = Diff(
        added=(entry("src/a.py", 6), entry("link.py", 3, mode=-1)), modified=((entry("b.py", 1), entry("b.py", 2)),)
    )

    def of(measure_name: str, glob: str | None = None) -> float:
        metric = {"id": "m", "source": "artifacts", "artifact_measure": measure_name, "artifact_glob": glob}
        value: float = measured(tmp_path, diff=diff, metrics=[metric])["m"]
        return value

    assert of("file_count") == 3
    assert of("file_count", "src/**/*.py") == 1
    assert of("file_count", "**/*.py") == 3
    assert of("diff_lines") == 4
    assert of("diff_bytes") == of("total_bytes") == 11


def test_guardrail_is_exceeded_only_above_its_maximum() -> None:
    found = config(guardrails=[{"metric_id": "cost", "max": 1.5}, {"metric_id": "none", "max": 0}])

    assert guardrails_exceeded(found, {"cost": 1.6}) == ["cost"]
    assert guardrails_exceeded(found, {"cost": 1.5}) == []
    assert guardrails_exceeded(found, {"cost": "much"}) == []


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.py", "*.py", True),
        ("x/a.py", "**/*.py", True),
        ("a.py", "**/*.py", True),
        ("x/y/a.py", "x/**/*.py", True),
        ("x/a.py", "x/**/*.py", True),
        ("a/x/b/c.py", "a/**/b/**/*.py", True),
        ("a/b/x/c.py", "a/**/b/**/*.py", True),
        ("a/b/c.py", "a/**/b/**/*.py", True),
        ("b/c.py", "a/**/b/**/*.py", False),
        ("a.PY", "*.py", False),
        ("a.py", None, True),
        ("[a].py", "[[]a].py", True),
    ],
)
def test_glob_matches_paths_case_sensitively(path: str, pattern: str | None, fits: bool) -> None:
    assert matches(path, pattern) is fits


@given(
    st.text("ab/", max_size=8),
    st.lists(st.sampled_from(["a", "b", "/", "*", "?", "**/", "[ab]", "[!a]", "["]), max_size=7).map("".join),
)
def test_each_group_of_folders_in_a_glob_may_be_empty(path: str, pattern: str) -> None:
    begin, *others = pattern.split("**/")
    expansions = (
        begin + "".join(map(operator.add, folders, others))
        for folders in itertools.product(("**/", ""), repeat=len(others))
    )

    assert matches(path, pattern) is any(fnmatch.fnmatchcase(path, each) for each in expansions)


def test_glob_with_many_groups_of_folders_is_matched() -> None:
    assert matches("a/" * 30 + "b", "**/" * 60 + "b")
    assert not matches("a/" * 30, "**/a*" * 60 + "b")


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (".", ["out/a.txt", "b.txt"]),
        ("", ["out/a.txt", "b.txt"]),
        ("out", ["out/a.txt"]),
        ("./out/", ["out/a.txt"]),
        ("..", []),
        ("ou", []),
    ],
)
def test_only_matching_workspace_files_are_collected(tmp_path: Path, base: str, expected: list[str]) -> None:
    (tmp_path / "out").mkdir()
    for name in ("out/a.txt", "b.txt", "c.bin"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.txt").symlink_to("/etc/passwd")

    changed = ["out/a.txt", "b.txt", "c.bin", "link.txt", "gone.txt"]
    assert collect(tmp_path, ["*.txt"], base, changed) == expected
