"""`POST /builds`: a CI's report is stored once as a build, with the log lines that explain its failure."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.api import builds
from relab.bootstrap import Services
from relab.http.body import PackedBody
from support.api.client import assert_problem
from support.builds.logs import as_github_step, recorded

FAILED: dict[str, Any] = {
    "project": "octo/engine",
    "id": "17-1",
    "status": "failure",
    "duration": 12.5,
    "commit": "9f3c2a1",
    "branch": "main",
    "job": "test",
    "url": "https://ci.example/17",
    "configuration": {"cache": True, "python": "3.12", "shards": 4},
    "log": as_github_step("make", recorded("gcc_undeclared")),
}


def test_failed_build_is_recorded_with_its_lines(api: TestClient) -> None:
    answer = api.post("/builds", json=FAILED)
    build = answer.json()

    assert answer.status_code == 201, answer.text
    assert build["result"]["status"] == "failed"
    assert build["result"]["duration_s"] == 12.5
    assert "undeclared" in build["result"]["error"]
    assert any("undeclared" in line["text"] for line in build["relevant_lines"])
    assert build["origin"]["configuration"] == {"cache": "true", "python": "3.12", "shards": "4"}
    assert build["origin"]["url"] == "https://ci.example/17"
    assert build["started_at"] == "2024-05-01T10:00:00.123456Z"
    assert api.get(f"/builds/{build['build_id']}").json() == build


def test_report_with_the_same_id_changes_nothing(api: TestClient) -> None:
    report = {**FAILED, "project": "repeated"}

    first = api.post("/builds", json=report)
    again = api.post("/builds", json={**report, "status": "success"})
    other_project = api.post("/builds", json={**report, "project": "other"})

    assert (first.status_code, again.status_code, other_project.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert other_project.json()["build_id"] != first.json()["build_id"]


def test_report_without_id_is_one_build_for_each_content(api: TestClient) -> None:
    report = {"project": "p", "status": "success", "commit": "a"}

    codes = [api.post("/builds", json=body).status_code for body in (report, report, {**report, "commit": "b"})]

    assert codes == [201, 200, 201]


def test_missing_status_and_duration_are_read_from_the_log(api: TestClient) -> None:
    body = {"project": "p", "commit": "", "log": FAILED["log"]}

    build = api.post("/builds", json=body).json()

    assert build["result"]["status"] == "failed"
    assert build["result"]["duration_s"] > 0
    assert build["origin"]["commit"] is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("success", "success"),
        ("failed", "failed"),
        ("canceled", "interrupted"),
        ("cancelled", "interrupted"),
        ("unknown", "unknown"),
    ],
)
def test_status_words_of_ci_systems_are_accepted(api: TestClient, status: str, expected: str) -> None:
    assert api.post("/builds", json={"project": "p", "status": status}).json()["result"]["status"] == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"project": ""}, "project"), ({"status": "running"}, "status"), ({"duration": -1}, "duration"),
        ({"duration": "12"}, "duration"), ({"started_at": "yesterday"}, "started_at"), ({"id": "a/b"}, "id"),
        ({"configuration": {"a": [1]}}, "configuration.a"), ({"configuration": {str(n): 1 for n in range(51)}}, "configuration"),
        ({"commit": "a" * 201}, "commit"), ({"secret": 1}, "secret"),
    ],
)  # fmt: skip
def test_invalid_field_is_named(api: TestClient, change: dict[str, Any], field: str) -> None:
    problem = assert_problem(api.post("/builds", json={**FAILED, **change}), 422)

    assert any(error["field"].startswith(field) for error in problem["errors"])


def test_entity_bomb_in_a_report_is_rejected(api: TestClient) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><testsuite/>'

    assert "document type" in assert_problem(api.post("/builds", json={"project": "p", "log": bomb}), 422)["detail"]


def test_body_may_be_gzip_and_secrets_are_not_stored(api: TestClient, installation: Services) -> None:
    body = gzip.compress(
        json.dumps({**FAILED, "id": "secrets", "log": "error: password=hunter2hunter2 denied\n"}).encode()
    )

    answer = api.post("/builds", content=body, headers={"content-type": "application/json", "content-encoding": "gzip"})

    assert answer.status_code == 201, answer.text
    assert "hunter2" not in answer.text
    assert "hunter2" not in (installation.builds.log(answer.json()["build_id"]) or "")


def test_one_body_at_a_time_is_decompressed(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 bodies of 64 KB each may be 4 GB when they are decompressed."""
    gate, real, was_held = api.app.state.ingest_gate, builds._reported, []  # type: ignore[attr-defined]

    def reported(body: PackedBody, max_bytes: int) -> object:
        was_held.append(gate.decoding.locked())
        return real(body, max_bytes)

    monkeypatch.setattr(builds, "_reported", reported)
    invalid = api.post("/builds", content=b"{", headers={"content-type": "application/json"})

    assert invalid.status_code == 422
    assert was_held == [True]
    assert not gate.decoding.locked()


def test_description_forbids_nul_in_names_of_settings(api: TestClient) -> None:
    schema = api.get("/openapi.json").json()["components"]["schemas"]["ReportedBuild-Input"]

    assert schema["properties"]["configuration"]["propertyNames"]["pattern"] == r"^[^\x00]*$"


@pytest.mark.parametrize("project", ["p\x1b[31m", "line\nbreak", "c1\x9b"])
def test_project_with_a_control_character_is_rejected(api: TestClient, project: str) -> None:
    problem = assert_problem(api.post("/builds", json={"project": project, "log": "x"}), 422)

    assert "project" in problem["detail"]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//ci.example/1", "https://ci.example/ 1", "https://ci.example/\x1b[31m"]
)
def test_url_that_is_not_an_http_address_is_rejected(api: TestClient, url: str) -> None:
    problem = assert_problem(api.post("/builds", json={"project": "p", "url": url, "log": "x"}), 422)

    assert [error["field"] for error in problem["errors"]] == ["url"]


def test_setting_of_a_wrong_type_is_named_by_its_key(api: TestClient) -> None:
    body = {"project": "p", "configuration": {"a": [1], "str": {"deep": 1}, "good": 1}, "log": "x"}

    problem = assert_problem(api.post("/builds", json=body), 422)

    assert [error["field"] for error in problem["errors"]] == ["configuration.a", "configuration.str"]
    assert problem["errors"][0]["message"].startswith("Input should be a valid string, or a valid boolean, or a valid")


@pytest.mark.parametrize("log", ["", " \n", "\u0087", "\x1b[0m\r\n"])
def test_report_whose_log_shows_no_cause_is_recorded_without_lines(api: TestClient, log: str) -> None:
    answer = api.post("/builds", json={"project": "engine", "status": "failed", "log": log})

    assert answer.status_code == 201
    assert answer.json()["result"]["status"] == "failed"
    assert answer.json()["relevant_lines"] == []


def test_log_that_begins_with_megabytes_of_blanks_is_recorded(api: TestClient) -> None:
    answer = api.post("/builds", json={"project": "p", "log": " " * 3_000_000 + "\nmake: *** [all] Error 1\n"})

    assert answer.status_code == 201
    assert answer.json()["result"]["status"] == "failed"
