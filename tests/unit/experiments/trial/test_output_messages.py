"""The messages about invalid outputs name all that the author of a harness has to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.models import ErrorType
from relab.experiments.trial.wire import ReadOutput, read_output
from support.experiments.configs import IDS

WHOLE = {"schema_version": "trial_output_v1", "ids": IDS.to_json(), "outcome": "success"}


def read(root: Path, *, file: str | None = None, stdout: str = "") -> ReadOutput:
    (root / "stdout.log").write_text(stdout)
    if file is not None:
        (root / "trial_output.json").write_text(file)
    return read_output(root / "trial_output.json", root / "stdout.log", IDS, 0, below=root)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "the output lacks schema_version, ids, outcome;"),
        ({"outcome": "success"}, "the output lacks schema_version, ids; its format: lab schema-validate"),
        (
            {**WHOLE, "ids": {"run_id": "r"}},
            "the output lacks ids.trial_id, ids.variant_id, ids.task_id, ids.repl_idx;",
        ),
        ({"outcome": "pass", "score": 1}, "the output lacks schema_version, ids;"),
        ({**WHOLE, "outcome": "pass", "score": 1}, "the output's field outcome: Input should be 'success'"),
        (
            {**WHOLE, "score": 1, "tokens": 5},
            "the output has fields that its format lacks: score, tokens; write numbers to metrics, other values to ext",
        ),
    ],
)
def test_message_names_missing_fields_then_wrong_values_then_unknown_fields(
    tmp_path: Path, document: dict[str, Any], message: str
) -> None:
    found = read(tmp_path, file=json.dumps(document))

    assert found.error_type is ErrorType.INVALID_OUTPUT
    assert str(found.message).startswith(message)


@pytest.mark.parametrize(
    ("stdout", "hint"),
    [
        (
            '{"outcome": "success", "tokens": }\n',
            "the last line of standard output is not valid JSON: expected value at line 1 column 34",
        ),
        ("working\n{half", "the last line of standard output is not valid JSON: "),
        ("done\n", "in the last line of standard output"),
    ],
)
def test_message_about_a_missing_output_explains_a_last_line_that_begins_like_json(
    tmp_path: Path, stdout: str, hint: str
) -> None:
    found = read(tmp_path, stdout=stdout)

    assert found.error_type is ErrorType.HARNESS_PROCESS
    assert hint in str(found.message)
    assert ("not valid JSON" in str(found.message)) == ("{" in stdout)


def test_message_names_not_a_number_as_python_writes_it(tmp_path: Path) -> None:
    found = read(tmp_path, file=json.dumps({**WHOLE, "metrics": {"loss": float("nan")}}))

    assert "NaN or an infinity at line 1 column" in str(found.message)
    assert str(found.message).endswith("write null in its place.")
