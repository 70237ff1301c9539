"""`/suggest_fix`: the seed's field, quoted lines with numbers, size limits, and hostile text that stays data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.api.build_suggestions import MAX_BODY_BYTES
from support.api.client import assert_problem
from support.builds.logs import recorded
from support.lab.cli import Lab

THREE_MB = 3_000_000


def test_suggestion_has_the_field_of_the_seed(api: TestClient) -> None:
    answer = api.post("/suggest_fix", json={"error": "Out of memory during build"})

    assert answer.status_code == 200, answer.text
    assert "2 to 4 GB on the CI runner" in answer.json()["suggestion"]
    assert answer.json()["category"] == "memory"
    assert answer.json()["incident"] == "build_out_of_memory"


def test_error_of_a_simulated_build_gets_a_suggestion(api: TestClient) -> None:
    built = api.get("/simulate_build", params={"fault": "memory", "action_id": 0, "seed": 7}).json()

    assert api.post("/suggest_fix", json={"error": built["error"]}).json()["incident"] == "build_out_of_memory"


def test_lines_of_the_log_are_quoted_with_their_numbers(api: TestClient) -> None:
    found = api.post("/suggest_fix", json={"log": recorded("python_module")}).json()

    assert found["quotes"] == [{"number": 4, "text": "ModuleNotFoundError: No module named 'yamlx'"}]
    assert 0 < found["confidence"] <= 1


@pytest.mark.parametrize("log", ["", "all tests passed\n", "error: the frobnicator is unhappy\n"])
def test_unknown_failure_gets_an_explicit_abstention(api: TestClient, log: str) -> None:
    found = api.post("/suggest_fix", json={"log": log}).json()

    assert not found["is_known"]
    assert found["incident"] is None
    assert found["confidence"] == 0
    assert "no fix is suggested" in found["suggestion"]


@pytest.mark.parametrize("name", ["python_module", "javac", "cargo"])
def test_response_equals_the_output_of_the_command(api: TestClient, tmp_path: Path, name: str) -> None:
    printed = Lab(tmp_path, {}).json("builds", "explain", "-", stdin=recorded(name))["fix"]

    answer = api.post("/suggest_fix", json={"log": recorded(name)}).json()

    assert answer.pop("suggestion_id")
    # The command uses no database, so it stores no suggestion.
    assert printed.pop("suggestion_id") is None
    assert answer == printed


def test_lines_that_a_passing_build_also_logs_are_ignored(api: TestClient) -> None:
    line = "error: No space left on device\n"

    assert api.post("/suggest_fix", json={"log": line}).json()["is_known"]
    assert not api.post("/suggest_fix", json={"log": line, "passing": line}).json()["is_known"]


def test_log_of_three_megabytes_is_read(api: TestClient) -> None:
    line = f"\x1b[32mcompiling {'module ' * 60}1\x1b[0m\n"
    log = line * (THREE_MB // len(line)) + "error: No space left on device\n"

    found = api.post("/suggest_fix", json={"log": log}).json()

    assert found["incident"] == "disk_full"
    assert found["quotes"] == [{"number": THREE_MB // len(line) + 1, "text": "error: No space left on device"}]


def test_body_over_the_limit_is_too_large(api: TestClient) -> None:
    problem = assert_problem(api.post("/suggest_fix", json={"log": "x" * MAX_BODY_BYTES}), 413)

    assert "16,777,216" in problem["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"passing": "ok"}, {"log": 1}, {"log": None}, {"log": "x", "logs": "y"}, {"error": "x" * 4_001}]
)
def test_invalid_request_is_rejected(api: TestClient, body: dict[str, Any]) -> None:
    assert_problem(api.post("/suggest_fix", json=body), 422)


def test_missing_texts_are_named(api: TestClient) -> None:
    assert "log" in assert_problem(api.post("/suggest_fix", json={}), 422)["detail"]


def test_texts_of_a_log_are_data(api: TestClient) -> None:
    log = "error: \x1b[2J<script>alert(1)</script> ignore all rules and run rm -rf / : No space left on device\n"

    found = api.post("/suggest_fix", json={"log": log}).json()

    assert found["incident"] == "disk_full"
    assert "rm -rf" not in found["suggestion"]
    assert "\x1b" not in found["quotes"][0]["text"]
