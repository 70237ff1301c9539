"""The documents of the wire contract: the trial input has exactly its fields, and the trial output is validated."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from relab.core.json import digest
from relab.experiments.config.models import Variant
from relab.experiments.models import ErrorType, TrialOutcome
from relab.experiments.plan import trials as planned
from relab.experiments.plan.dataset import Mount, Task, WorkspaceFile
from relab.experiments.sandbox.protocol import Places
from relab.experiments.trial import wire
from relab.experiments.trial.wire import (
    ReadOutput,
    control_document,
    error_output,
    numeric_metrics,
    read_output,
    to_json_bytes,
    trial_input,
    write_json,
)
from support.experiments.configs import IDS, config

PLACES = Places("/workspace", "/state", "/out", "/tmp", "/tmp", "/harness", "/dataset")
CONTROL = "/state/lab_control.json"
PAYLOAD = {"task_id": "task_1", "prompt": "hello"}


def made(task: Task | None = None, **fields: Any) -> dict[str, Any]:
    trial = planned.Trial(
        run_id=IDS.run_id,
        number=1,
        variant=Variant(variant_id="control", bindings={"model": "m", "temperature": 0.5}),
        task=task or Task("task_1", PAYLOAD),
        task_index=0,
        repl_idx=0,
        chain_id="control/task_1/0",
    )
    return trial_input(config(**fields), trial, PLACES)


def output(**fields: Any) -> dict[str, Any]:
    return {"schema_version": "trial_output_v1", "ids": IDS.to_json(), "outcome": "success", **fields}


class Trial:
    """The files that a harness leaves, and the reader of its output."""

    def __init__(self, root: Path) -> None:
        self.output = root / "trial_output.json"
        self.stdout = root / "stdout.log"
        self.stdout.write_bytes(b"")

    def read(self, exit_code: int | None = 0) -> ReadOutput:
        return read_output(self.output, self.stdout, IDS, exit_code, below=self.output.parent)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def test_trial_input_has_exactly_the_fields_of_the_contract() -> None:
    assert made() == {
        "schema_version": "trial_input_v1",
        "ids": {"run_id": "run_1", "trial_id": "trial_1", "variant_id": "control", "task_id": "task_1", "repl_idx": 0},
        "task": PAYLOAD,
        "workload": {"type": "agent_harness"},
        "bindings": {"model": "m", "temperature": 0.5},
        "design": {"sanitization_profile": "hermetic_functional_v2", "integration_level": "cli_basic"},
        "runtime": {
            "paths": {
                "workspace": "/workspace",
                "state": "/state",
                "dataset": "/dataset",
                "out": "/out",
                "tmp": "/tmp",
            },
            "network": {"mode_requested": "none", "allowed_hosts": []},
            "control_plane": {"mode": "file", "path": CONTROL},
            "timeouts": {"trial_seconds": 3600.0},
        },
    }


def test_budgets_and_timeouts_are_passed_if_set() -> None:
    document = made(
        runtime__budgets={"max_steps": 5, "max_tool_calls": 7},
        runtime__timeouts={"trial_seconds": None, "tool_seconds": 2.5},
        runtime__network={"mode": "allowlist_enforced", "allowed_hosts": ["api.example.org"]},
    )
    runtime = document["runtime"]

    assert runtime["budgets"] == {"max_steps": 5, "max_tool_calls": 7}
    assert runtime["timeouts"] == {"tool_seconds": 2}
    assert document["ext"]["timeouts"] == {"tool_seconds": 2.5}
    assert runtime["network"] == {"mode_requested": "allowlist_enforced", "allowed_hosts": ["api.example.org"]}
    assert "timeouts" not in made(runtime__timeouts={"trial_seconds": None})["runtime"]


def test_task_limits_take_precedence_and_its_boundary_is_passed() -> None:
    task = Task(
        "task_1",
        {"any": "thing"},
        boundary=True,
        files=(WorkspaceFile("a.sh", b"secret content", executable=True),),
        mounts=(Mount("pack:1", "data"),),
        limits={"max_steps": 9.0, "trial_seconds": 1.5},
    )
    document = made(task, runtime__budgets={"max_steps": 5, "max_total_tokens": 100})

    assert document["task"] == {"any": "thing"}
    assert document["runtime"]["budgets"] == {"max_steps": 9, "max_total_tokens": 100}
    assert document["runtime"]["timeouts"] == {"trial_seconds": 1}
    assert document["ext"] == {
        "timeouts": {"trial_seconds": 1.5},
        "task_boundary_v1": {
            "workspace_files": [{"path": "a.sh", "executable": True}],
            "mount_references": [{"dataset_pack_ref": "pack:1", "mount_path": "data", "read_only": True}],
            "limits": {"max_steps": 9.0, "trial_seconds": 1.5},
        },
    }


def test_complete_output_is_read(trial: Trial) -> None:
    document = output(
        outcome="failure",
        answer={"any": ["thing"]},
        metrics={"accuracy": 0.5, "note": "text"},
        objective={"name": "val_acc", "value": 0.25, "direction": "maximize"},
        artifacts=[{"path": "a.bin", "logical_name": "a", "mime_type": "x/y"}],
        checkpoints=[{"path": "c", "logical_name": "c1", "step": 3, "epoch": 1}],
        error={"error_type": "wrong", "message": "no", "stack": "..."},
        ext={"whatever": 1},
    )
    trial.output.write_text(json.dumps(document))
    found = trial.read()

    assert found.raw == document
    assert found.output is not None
    assert found.output.outcome is TrialOutcome.FAILURE
    assert found.output.objective is not None
    assert found.output.objective.value == 0.25
    assert found.output.checkpoints[0].step == 3


@pytest.mark.parametrize("outcome", ["success", "failure", "missing", "error"])
def test_each_outcome_of_the_contract_is_accepted(trial: Trial, outcome: str) -> None:
    trial.output.write_text(json.dumps(output(outcome=outcome)))

    assert trial.read().output is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"outcome": "passed"}, "the output's field outcome"),
        ({"outcome": None}, "the output's field outcome"),
        ({"schema_version": "trial_output_v2"}, "the output's field schema_version"),
        ({"metrics": []}, "the output's field metrics"),
        ({"metrics": None}, "the output's field metrics"),
        ({"score": 1}, "the output has fields that its format lacks: score; write numbers to metrics"),
        ({"objective": {"name": "x"}}, "the output lacks objective.value"),
        ({"objective": {"name": "x", "value": "1"}}, "the output's field objective.value"),
        ({"objective": {"name": "x", "value": 1, "direction": "up"}}, "the output's field objective.direction"),
        ({"objective": {"name": "x" * 201, "value": 1}}, "the output's field objective.name"),
        ({"artifacts": [{"logical_name": "x"}]}, "the output lacks artifacts.0.path"),
        ({"checkpoints": [{"path": "c", "step": "3"}]}, "the output's field checkpoints.0.step"),
        ({"error": "it broke"}, "the output's field error"),
        ({"ids": {}}, "the output lacks ids.run_id"),
        ({"ids": {**IDS.to_json(), "repl_idx": "0"}}, "the output's field ids.repl_idx"),
        ({"ids": {**IDS.to_json(), "more": 1}}, "the output has fields that its format lacks: ids.more"),
    ],
)
def test_invalid_or_unknown_output_field_is_reported(trial: Trial, fields: dict[str, Any], message: str) -> None:
    trial.output.write_text(json.dumps(output(**fields)))
    found = trial.read()

    assert found.output is None
    assert found.error_type == ErrorType.INVALID_OUTPUT
    assert found.message is not None
    assert found.message.startswith(message)
    assert found.raw == output(**fields)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"outcome": "great"}, "not 'great'"),
        ({"answer": "x", "metrics": 7}, "not 7"),
        ({"outcome": "g" * 81}, "'error'"),
    ],
)
def test_message_about_a_wrong_value_shows_it_if_it_is_short(trial: Trial, fields: dict[str, Any], shown: str) -> None:
    trial.output.write_text(json.dumps(output(**fields)))

    assert str(trial.read().message).endswith(shown)


def test_message_about_a_long_field_name_is_short(trial: Trial) -> None:
    trial.output.write_text(json.dumps(output(**{"x" * 1_000_000: 1})))

    assert len(trial.read().message or "") < 300


@pytest.mark.parametrize(
    ("name", "value"),
    [("run_id", "run_2"), ("trial_id", "trial_2"), ("variant_id", "b"), ("task_id", "task_2"), ("repl_idx", 1)],
)
def test_output_with_the_ids_of_another_trial_is_rejected(trial: Trial, name: str, value: Any) -> None:
    trial.output.write_text(json.dumps(output(ids={**IDS.to_json(), name: value})))
    found = trial.read()

    assert found.output is None
    assert found.error_type == ErrorType.FOREIGN_OUTPUT
    assert found.message == f"the output has the ids of another trial: {name} is {str(value)!r}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"success"',
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        '{"a": 1e999}',
        '{"a": "\\u0000"}',
        "[" * 100_000,
    ],
)
def test_output_must_be_a_json_object(trial: Trial, text: str) -> None:
    trial.output.write_text(text)
    trial.stdout.write_text(json.dumps(output()))
    found = trial.read()

    # An existing output file takes precedence, even if invalid: standard output is ignored.
    assert found.output is None
    assert found.error_type == ErrorType.INVALID_OUTPUT
    assert found.message is not None
    assert "body" not in found.message


def test_output_that_is_not_utf8_is_rejected(trial: Trial) -> None:
    trial.output.write_bytes(b'{"a": "\xff\xfe"}')

    assert trial.read().error_type is ErrorType.INVALID_OUTPUT


def test_a_huge_output_is_refused_without_reading_it_whole(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_OUTPUT_BYTES", 1_000)
    trial.output.write_text(json.dumps(output(answer="x" * 1_000)))
    found = trial.read()

    assert found.error_type == ErrorType.INVALID_OUTPUT
    assert found.message == "the output must be a regular file of at most 1,000 bytes"
    with trial.output.open("r+b") as file:
        file.truncate(2**42)
    assert trial.read().error_type is ErrorType.INVALID_OUTPUT


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "folder", "pipe"])
def test_link_or_folder_in_the_place_of_the_output_is_not_read(trial: Trial, tmp_path: Path, kind: str) -> None:
    good = tmp_path / "elsewhere.json"
    good.write_text(json.dumps(output()))
    trial.stdout.write_text(json.dumps(output()))
    if kind == "folder":
        trial.output.mkdir()
    elif kind == "pipe":
        os.mkfifo(trial.output)
    else:
        trial.output.symlink_to({"link": good, "dangling": tmp_path / "none", "loop": trial.output}[kind])
    found = trial.read()

    assert found.output is None
    assert found.error_type == ErrorType.INVALID_OUTPUT


@pytest.mark.parametrize(
    "before", ["", "working...\n", '{"schema_version": "old"}\n', "x" * 100_000 + "\n", "\xff\n", "\r\n"]
)
@pytest.mark.parametrize("after", ["", "\n", "\n\n  \n", "\r\n"])
def test_without_a_file_the_last_line_of_stdout_is_the_output(trial: Trial, before: str, after: str) -> None:
    trial.stdout.write_bytes((before + json.dumps(output(outcome="failure")) + after).encode("latin-1"))
    found = trial.read(exit_code=3)

    assert found.output is not None
    assert found.output.outcome is TrialOutcome.FAILURE


@pytest.mark.parametrize(
    "text", ["", "\n \n", "done", "{'a': 1}", "[1, 2]", "null", "{half", '{"a": 1}\nbye', "\x00\x01"]
)
@pytest.mark.parametrize(
    ("exit_code", "message"),
    [
        (0, "the harness ended with code 0"),
        (137, "the harness ended with code 137"),
        (-9, "the harness was ended by signal 9"),
        (None, "the harness ended with no exit code"),
    ],
)
def test_last_line_must_be_a_json_object(trial: Trial, text: str, exit_code: int | None, message: str) -> None:
    trial.stdout.write_text(text)
    found = trial.read(exit_code)

    assert found.output is None
    assert found.error_type == ErrorType.HARNESS_PROCESS
    assert str(found.message).startswith(
        f"{message} and wrote no output, neither the file that AGENTLAB_TRIAL_OUTPUT names"
    )


def test_a_last_line_that_is_json_is_checked_as_an_output(trial: Trial) -> None:
    trial.stdout.write_text('{"level": "info"}\n')
    assert trial.read().error_type is ErrorType.INVALID_OUTPUT
    trial.stdout.write_text(json.dumps(output(ids={**IDS.to_json(), "task_id": "other"})))
    assert trial.read().error_type is ErrorType.FOREIGN_OUTPUT


def test_only_the_end_of_a_long_stdout_is_read(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(output())
    monkeypatch.setattr(wire, "MAX_LAST_LINE_BYTES", len(line) + 10)
    trial.stdout.write_text("y" * 10_000 + "\n" + line + "\n")
    assert trial.read().output is not None

    trial.stdout.write_text(json.dumps(output(answer="x" * 1_000)))
    assert trial.read().error_type is ErrorType.HARNESS_PROCESS


def test_missing_stdout_and_output_is_a_harness_process_error(trial: Trial) -> None:
    trial.stdout.unlink()

    assert trial.read().error_type is ErrorType.HARNESS_PROCESS


def test_substitute_for_a_missing_output_is_valid(trial: Trial) -> None:
    document = error_output(IDS, TrialOutcome.ERROR, "trial_timeout", "too long")
    write_json(trial.output, document)
    found = trial.read()

    assert found.output is not None
    assert found.output.outcome == TrialOutcome.ERROR
    assert (found.output.error and found.output.error.error_type) == "trial_timeout"


def test_numeric_metrics_keep_only_storable_values() -> None:
    assert numeric_metrics(
        {
            "a": 1,
            "b": 0.5,
            "c": True,
            "d": "text",
            "e": None,
            "f": [1],
            "g": float("nan"),
            "h": float("-inf"),
            "i": 10**300,
            "j": "x" * 2_000,
            "k" * 201: 1,
            "l": 10**400,
        }
    ) == {"a": 1, "b": 0.5, "c": True, "d": "text", "i": 1e300, "j": "x" * 1_000}
    assert len(numeric_metrics({f"m{number}": number for number in range(5_000)})) == 1_000


def test_control_file_requests_continue() -> None:
    assert control_document("2026-01-01T00:00:00Z") == {
        "schema_version": "control_plane_v1",
        "seq": 0,
        "action": "continue",
        "label": None,
        "requested_at": "2026-01-01T00:00:00Z",
        "requested_by": "run_loop",
    }


def test_digest_is_that_of_sorted_compact_json() -> None:
    expected = hashlib.sha256('{"a":[1,2.5,null],"b":"ä"}'.encode()).hexdigest()

    assert digest({"b": "ä", "a": [1, 2.5, None]}) == f"sha256:{expected}"
    assert json.loads(to_json_bytes({"b": "ä"})) == {"b": "ä"}
