"""Import of Inspect logs as runs: outcomes, scores, events and agent runs agree with Inspect's own reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.core.clock import SystemClock
from relab.core.json import parse_json
from relab.experiments.inspect_logs.importing import Imported, ImportOptions, import_logs, task_id_of
from relab.experiments.inspect_logs.logs import clean
from relab.experiments.inspect_logs.scores import number_of
from relab.experiments.results.integrity import damage_of_run
from relab.experiments.schemas.check import check_file
from support.experiments.eval_logs import FIXTURES, header, sample, write_entries, write_log
from support.experiments.projects import Run

EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


def import_into(root: Path, *logs: Path, **options: Any) -> tuple[Imported, Run, list[dict[str, Any]]]:
    sent: list[dict[str, Any]] = []
    [made] = import_logs(
        root, logs, ImportOptions(**options), SystemClock(), lambda run: sent.append(run) if run else None
    )
    return made, Run(made.run_dir), sent


@pytest.fixture(scope="module", params=["right", "wrong", "deflated"])
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Run, list[dict[str, Any]]]:
    """Import a real log: of Inspect 0.3.285 (Zstandard), or of 0.3.100 (deflated, without times of samples)."""
    name = request.param
    expected = EXPECTED["right" if name == "deflated" else name]
    _, run, sent = import_into(tmp_path_factory.mktemp(name), FIXTURES / f"{name}.eval")
    return expected, run, sent


def by_sample(run: Run) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["task_id"], row["repl_idx"] + 1): row for row in run.rows.values()}


def test_outcomes_are_those_that_inspect_reads(real: tuple[Any, Run, Any]) -> None:
    expected, run, _ = real
    words = {"C": "success", "I": "failure", None: "error"}

    wanted = {
        (task_id_of(str(item["id"])), item["epoch"]): words[item["scores"].get("includes")]
        for item in expected["samples"]
    }
    assert {key: row["outcome"] for key, row in by_sample(run).items()} == wanted


def test_scores_and_tokens_are_metrics(real: tuple[Any, Run, Any]) -> None:
    expected, run, _ = real

    for item in expected["samples"]:
        metrics = by_sample(run)[task_id_of(str(item["id"])), item["epoch"]]["metrics"]
        [(tokens_in, tokens_out)] = item["tokens"].values()
        assert (metrics["tokens_in"], metrics["tokens_out"]) == (tokens_in, tokens_out)
        assert metrics["turn_count"] == len(item["models"])
        assert metrics["tool_call_count"] == len(item["calls"])
        if item["scores"]:
            assert metrics["score.length"] == item["scores"]["length"]
            assert (metrics["score.parts.a"], metrics["score.parts.b"]) == (1, 0.5)


def test_error_has_the_class_of_the_exception(real: tuple[Any, Run, Any]) -> None:
    row = by_sample(real[1])["boom", 1]

    assert row["error_type"] == "RuntimeError"
    assert "the tool crashed at 99" in row["error_message"]


def test_agent_runs_have_the_tool_calls_with_arguments_and_errors(real: tuple[Any, Run, Any]) -> None:
    expected, _, sent = real

    found = {(run["task_id"], run["experiment"]["repl_idx"] + 1): run for run in sent}
    for item in expected["samples"]:
        run = found[task_id_of(str(item["id"])), item["epoch"]]
        calls = [[call["tool_name"], call["args_json"]] for call in run["tool_calls"]]
        assert calls == [call[:2] for call in item["calls"]]
        assert run["question"] == item["input"]
    refused = found["2", 1]["tool_calls"][0]
    assert (refused["status"], refused["error_message"]) == ("failure", "13 is refused")


def test_documents_match_their_schemas_and_digests(real: tuple[Any, Run, Any]) -> None:
    run = real[1]

    for trial in sorted(run.path.glob("trials/*")):
        for name in ("trial_input.json", "trial_output.json"):
            check_file(trial / name)
        check_file(trial / "out" / "harness_events.jsonl", "hook_events_v1")
    assert damage_of_run(run.path) == []


def test_logs_of_one_task_become_variants_of_one_run(tmp_path: Path) -> None:
    made, run, _ = import_into(tmp_path, FIXTURES / "right.eval", FIXTURES / "wrong.eval", baseline="mockllm:wrong")

    assert made.outcomes["mockllm:right"] == {"success": 4, "error": 2}
    assert made.outcomes["mockllm:wrong"] == {"failure": 4, "error": 2}
    assert {row["baseline_id"] for row in run.rows.values()} == {"mockllm:wrong"}


def test_variants_of_equal_models_are_named_by_solver_and_number(tmp_path: Path) -> None:
    logs = [
        write_log(tmp_path / f"{number}.eval", sample(), eval_id=str(number), solver=solver)
        for number, solver in enumerate(("pkg/plan", "react", "react"))
    ]

    made, _, _ = import_into(tmp_path, *logs)

    assert list(made.outcomes) == ["m:x plan", "m:x react", "m:x react #2"]


def test_logs_of_different_tasks_become_different_runs(tmp_path: Path) -> None:
    logs = [write_log(tmp_path / f"{task[-1]}.eval", sample(), task=task) for task in ("a", "pkg/b")]

    made = import_logs(tmp_path, logs, ImportOptions(), SystemClock(), lambda _: None)

    assert [item.task for item in made] == ["a", "b"]


def test_samples_that_a_log_lacks_are_missing_trials(tmp_path: Path) -> None:
    whole = write_log(tmp_path / "whole.eval", sample(1), sample(2), sample(1, 2), sample(2, 2), epochs=2)
    part = write_log(tmp_path / "part.eval", sample(1), epochs=2, model="m/y")

    made, run, _ = import_into(tmp_path, whole, part)

    assert made.outcomes["m:y"] == {"success": 1, "missing": 3}
    assert len(run.rows) == 8


def test_unfinished_log_is_imported_with_a_warning(tmp_path: Path) -> None:
    start = {name: value for name, value in header().items() if name != "status"}
    log = write_entries(tmp_path / "crashed.eval", {"_journal/start.json": start, "samples/one_epoch_1.json": sample()})

    made, _, _ = import_into(tmp_path, log)

    assert made.outcomes == {"m:x": {"success": 1}}
    assert "unfinished" in made.warnings[0]


@pytest.mark.parametrize(
    ("fields", "outcome", "error_type"),
    [
        ({"scores": {"match": {"value": "P"}}}, "failure", None),
        ({"scores": {"match": {"value": 1}}}, "success", None),
        ({"scores": {"match": {"value": True}}}, "success", None),
        ({"scores": {}}, "missing", "no_score"),
        ({"scores": {"match": {"value": float("nan")}}}, "missing", "no_score"),
        ({"scores": {}, "limit": {"type": "token", "limit": 10}}, "error", "token_limit"),
        ({"error": {"message": "just words"}}, "error", "sample_error"),
        ({"scores": None, "score": {"value": "C"}}, "missing", "no_score"),
    ],
)
def test_outcome_follows_error_score_and_limit(
    tmp_path: Path, fields: dict[str, Any], outcome: str, error_type: str | None
) -> None:
    _, run, _ = import_into(tmp_path, write_log(tmp_path / "log.eval", sample(**fields)))

    [row] = run.rows.values()
    assert (row["outcome"], row["error_type"]) == (outcome, error_type)


def test_threshold_of_success_can_be_chosen(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.eval", sample(scores={"match": {"value": 0.7}}))

    made, _, _ = import_into(tmp_path, log, success_at=0.5)

    assert made.outcomes["m:x"] == {"success": 1}


def test_secret_arguments_of_a_model_are_left_out(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.eval", sample(), model_args={"api_key": "sk-planted", "max_tokens": 5})

    _, run, _ = import_into(tmp_path, log)

    assert not [path for path in run.path.rglob("*") if path.is_file() and b"sk-planted" in path.read_bytes()]
    assert run.json("resolved_experiment.json")["baseline"]["bindings"]["model_args"] == {"max_tokens": 5}


@given(st.text(min_size=1, max_size=300))
def test_every_sample_id_becomes_a_task_id(name: str) -> None:
    found = task_id_of(name)

    assert 1 <= len(found) <= 200
    assert "/" not in found
    assert task_id_of(found) == found


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(_JSON)
@settings(max_examples=50)
def test_cleaned_value_is_strict_json(value: Any) -> None:
    assert parse_json(json.dumps(clean(value)).encode()) is not ...


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("C", 1.0),
        ("I", 0.0),
        ("P", 0.5),
        ("N", 0.0),
        ("yes", 1.0),
        ("False", 0.0),
        ("0.25", 0.25),
        (3, 3.0),
        ("c", None),
    ],
)
def test_scores_are_converted_to_numbers_as_in_inspect(value: Any, number: float | None) -> None:
    assert number_of(value) == number
