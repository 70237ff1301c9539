"""Suggestions over HTTP: they are stored and listed, and verdicts of callers change later suggestions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.builds.advice import store
from relab.server import create_app
from support.api.client import assert_problem, loopback_client, running_api

OOM = "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n"
DISK = "write /var/lib/x: no space left on device\n"


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with running_api(services) as client:
        yield client


def suggest(client: TestClient, log: str, project: str = "engine") -> dict[str, Any]:
    answer = client.post("/suggest_fix", json={"log": log, "project": project})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def judge(client: TestClient, suggestion_id: str, verdict: str, note: str = "") -> dict[str, Any]:
    answer = client.post(f"/builds/suggestions/{suggestion_id}/verdict", json={"verdict": verdict, "note": note})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def reject(client: TestClient, log: str, *, project: str = "engine", times: int = 2) -> None:
    for _ in range(times):
        judge(client, suggest(client, log, project)["suggestion_id"], "rejected")


def test_suggestion_is_stored_with_templates_and_without_texts_and_secrets(client: TestClient) -> None:
    made = suggest(client, f"step 1 of 97 token=abcdefgh1234\nerror at 12:34 password=hunter22: {DISK}")

    (listed,) = client.get("/builds/suggestions").json()["items"]

    assert listed["suggestion_id"] == made["suggestion_id"]
    assert (listed["project"], listed["incident"], listed["state"]) == ("engine", "disk_full", "open")
    assert listed["confidence"] == made["confidence"]
    assert listed["build_id"] is None
    assert listed["templates"] == ["error at #:# password=[masked] write /var/lib/x: no space left on device"]
    assert listed["verdicts"] == []


def test_list_is_filtered_and_paged(client: TestClient) -> None:
    ids = [suggest(client, DISK, project)["suggestion_id"] for project in ("a", "b", "a", "a")]
    judge(client, ids[0], "accepted")

    def listed(**query: Any) -> list[str]:
        return [item["suggestion_id"] for item in client.get("/builds/suggestions", params=query).json()["items"]]

    first = client.get("/builds/suggestions", params={"limit": 3}).json()
    assert [item["suggestion_id"] for item in first["items"]] == ids[:0:-1]
    assert listed(before=first["next_before"]) == ids[:1]
    assert listed(project="a") == [ids[3], ids[2], ids[0]]
    assert listed(project="a", status="open") == [ids[3], ids[2]]
    assert listed(status="accepted") == [ids[0]]
    assert listed(status="rejected") == []
    assert_problem(client.get("/builds/suggestions", params={"status": "maybe"}), 422)


def test_verdict_names_its_caller_and_can_be_changed(services: Services) -> None:
    with loopback_client(create_app(services), client_host="203.0.113.9", url="http://relab.example") as client:
        token = services.access.create_token("night-shift", [Scope.OPERATE]).token
        client.headers["authorization"] = f"Bearer {token}"
        made = suggest(client, DISK)

        judge(client, made["suggestion_id"], "rejected", "it was a quota")
        changed = judge(client, made["suggestion_id"], "accepted", "the cache was full\x07 password=hunter22")

    assert changed["state"] == "accepted"
    assert [(entry["verdict"], entry["by"]) for entry in changed["verdicts"]] == [
        ("rejected", "night-shift"),
        ("accepted", "night-shift"),
    ]
    assert changed["verdicts"][0]["note"] == "it was a quota"
    assert changed["verdicts"][1]["note"] == "the cache was full  password=[masked]"


def test_repeated_verdict_changes_nothing(client: TestClient) -> None:
    made = suggest(client, DISK)["suggestion_id"]
    first = judge(client, made, "accepted", "bigger disk")

    assert judge(client, made, "accepted", "bigger disk") == first
    assert judge(client, made, "accepted") == first
    assert len(judge(client, made, "accepted", "another disk")["verdicts"]) == 2


def test_unknown_suggestion_is_named(client: TestClient) -> None:
    answer = client.post("/builds/suggestions/none/verdict", json={"verdict": "accepted"})

    assert "'none'" in assert_problem(answer, 404, "suggestion_not_found")["detail"]


@pytest.mark.parametrize("body", [{}, {"verdict": "open"}, {"verdict": "accepted", "note": "x" * 1_001}, {"state": 1}])
def test_invalid_verdict_is_rejected(client: TestClient, body: dict[str, Any]) -> None:
    made = suggest(client, DISK)["suggestion_id"]

    answer = client.post(f"/builds/suggestions/{made}/verdict", json=body)

    assert_problem(answer, 422)
    assert "SuggestionState" not in answer.text


def test_failure_that_was_rejected_repeatedly_is_not_suggested_again(client: TestClient) -> None:
    before = suggest(client, OOM)
    reject(client, OOM, times=1)
    doubted = suggest(client, OOM)
    reject(client, OOM, times=1)
    withheld = suggest(client, OOM)

    assert doubted["incident"] == before["incident"] == "build_out_of_memory"
    assert doubted["confidence"] < before["confidence"]
    assert not withheld["is_known"]
    assert "it was rejected for them" in withheld["suggestion"]
    assert withheld["rejected"] == 2


@pytest.mark.parametrize(
    ("judged", "look_alike"),
    [
        (OOM, DISK),
        (OOM, "LLVM ERROR: out of memory\n"),
        (
            "##[error]Process completed with exit code 137.\n",
            "##[error]The runner: exit code 137 of gcc. out of memory\n",
        ),
        ("ModuleNotFoundError: No module named 'yaml'\n", "ModuleNotFoundError: No module named 'numpy'\n"),
        (
            "src/a.ts(3,1): error TS2307: Cannot find module 'x'\n",
            "src/a.ts(3,1): error TS2792: Cannot find module 'x'\n",
        ),
    ],
)
def test_verdicts_about_one_kind_of_failure_do_not_affect_similar_ones(
    client: TestClient, judged: str, look_alike: str
) -> None:
    before = suggest(client, look_alike)
    reject(client, judged, times=5)

    after = suggest(client, look_alike)

    assert {**after, "suggestion_id": ""} == {**before, "suggestion_id": ""}


def test_verdicts_apply_to_the_same_failure_with_other_numbers(client: TestClient) -> None:
    log = "2024-05-01T10:00:{0:02}Z step {0}\nwrite /data/{0}: no space left on device\n"
    reject(client, log.format(1))

    assert not suggest(client, log.format(58))["is_known"]


def test_verdicts_of_other_projects_weigh_less_and_never_withhold(client: TestClient) -> None:
    before = suggest(client, OOM, "mine")
    reject(client, OOM, project="theirs", times=6)

    mine = suggest(client, OOM, "mine")

    assert not suggest(client, OOM, "theirs")["is_known"]
    assert mine["is_known"]
    assert mine["confidence"] < before["confidence"]


def test_recorded_fix_is_quoted_in_its_project_alone(client: TestClient) -> None:
    unknown = "error: the frobnicator is unhappy\n"
    made = suggest(client, unknown)["suggestion_id"]
    judge(client, made, "accepted", "restart the\nlicence server")

    found = suggest(client, unknown)

    (fix,) = found["past_fixes"]
    assert (fix["kind"], fix["note"], fix["suggestion_id"]) == ("recorded", "restart the licence server", made)
    assert '"restart the licence server"' in found["suggestion"]
    assert not found["is_known"]
    assert suggest(client, unknown, "other")["past_fixes"] == []
    assert suggest(client, "error: the frobnicator is sad\n")["past_fixes"] == []


def test_builds_that_a_ci_reports_are_past_fixes(client: TestClient) -> None:
    log = "cc -c a.c\nc++: fatal error: Killed signal terminated program cc1plus\n"
    common = {"project": "engine", "commit": "9f3c2a1", "job": "test"}
    reports: list[dict[str, Any]] = [
        {"id": "1", "status": "failure", "log": log, "configuration": {"memory": "2g"}},
        {"id": "2", "status": "failure", "log": "error: other\n", "configuration": {"memory": "3g"}},
        {"id": "3", "status": "success", "configuration": {"memory": "4g"}},
    ]
    first, _, last = (client.post("/builds", json={**common, **each}).json()["build_id"] for each in reports)

    (fix,) = suggest(client, log)["past_fixes"]

    assert (fix["kind"], fix["changes"]) == ("configuration", {"memory": "4g"})
    assert (fix["failed_build"], fix["succeeded_build"]) == (first, last)
    assert f"build {last}" in suggest(client, log)["suggestion"]
    assert suggest(client, DISK)["past_fixes"] == []
    assert suggest(client, log, "other")["past_fixes"] == []


def test_open_suggestions_are_bounded_and_judged_ones_stay(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_OPEN", 3)
    judged = suggest(client, DISK)["suggestion_id"]
    judge(client, judged, "accepted")

    ids = [suggest(client, DISK)["suggestion_id"] for _ in range(5)]

    listed = [item["suggestion_id"] for item in client.get("/builds/suggestions").json()["items"]]
    assert listed == [*reversed(ids[2:]), judged]


def test_queries_of_suggestions_need_no_scan(make_services: Callable[..., Services]) -> None:
    services = make_services()
    queries = (
        "SELECT document FROM build_suggestions WHERE failure_key = 'k' AND state = 'accepted' LIMIT 500",
        "SELECT suggestion_id FROM build_suggestions WHERE state = 'open' ORDER BY suggestion_id DESC LIMIT 1 OFFSET 9",
        "SELECT document FROM builds WHERE project = 'p' AND failure_key = 'k' ORDER BY build_id DESC LIMIT 200",
    )
    with services.database.read() as session:
        for query in queries:
            plan = " ".join(str(row[3]) for row in session.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            assert "SEARCH" in plan
            assert "SCAN" not in plan
