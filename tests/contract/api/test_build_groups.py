"""`GET /builds/groups`: failed builds with the same cause are one group that shows its first and last build."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from support.api.client import assert_problem
from support.builds.logs import as_github_step, recorded
from support.builds.reports import junit, report

GENERIC = "make: *** [Makefile:3: all] Error 1\n"
DNS = "curl: (6) Could not resolve host: mirror.example\n"


def send(api: TestClient, *reports: dict[str, Any]) -> list[str]:
    """Report builds and return their ids."""
    answers = [api.post("/builds", json={"status": "failed", **each}) for each in reports]
    assert {answer.status_code for answer in answers} == {201}
    return [answer.json()["build_id"] for answer in answers]


def listed(api: TestClient, **query: object) -> list[dict[str, Any]]:
    answer = api.get("/builds/groups", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def compiler(line: int, folder: str) -> str:
    return f"{folder}/src/main.c:{line}:5: error: 'total' undeclared\n{GENERIC}"


def test_builds_with_the_same_cause_are_one_group_with_first_and_last_build(api: TestClient) -> None:
    ids = send(
        api,
        report("g1", 2, compiler(4, "/builds/a")),
        report("g1", 1, compiler(90, "/home/runner/work/b")),
        report("g1", 3, as_github_step("make", compiler(7, "/tmp/x1"))),
        report("g1", 4, recorded("linker_undefined")),
        report("g1", 5, status="failed"),
    )

    linker, compile_ = listed(api, project="g1")

    assert (compile_["count"], compile_["first_build"], compile_["last_build"]) == (3, ids[1], ids[2])
    assert compile_["first_at"] == "2026-05-01T01:01:00Z"
    assert compile_["line"] == "/tmp/x1/src/main.c:7:5: error: 'total' undeclared"
    assert (linker["count"], linker["last_build"]) == (1, ids[3])
    assert api.get(f"/builds/{ids[0]}").json()["failure_group"] == compile_["group"]
    assert api.get(f"/builds/{ids[4]}").json()["failure_group"] is None


def test_group_goes_on_until_a_build_of_its_project_succeeds_or_fails_otherwise(api: TestClient) -> None:
    send(api, report("g2", 1, compiler(1, "/a")), report("g2", 2, compiler(2, "/a")))
    before = [item["goes_on"] for item in listed(api, project="g2")]
    send(api, report("g2", 3, "fine", status="success"))

    assert before == [True]
    assert [item["goes_on"] for item in listed(api, project="g2")] == [False]


def test_generic_line_makes_no_group_of_different_failures(api: TestClient) -> None:
    send(
        api,
        report("g3", 1, f"the first tool is unhappy\n{GENERIC}"),
        report("g3", 2, f"another one complains\n{GENERIC}"),
        report("g3", 3, GENERIC),
    )

    assert [item["count"] for item in listed(api, project="g3")] == [1, 1]


def test_cause_outside_of_projects_makes_one_group_over_all_projects(api: TestClient) -> None:
    send(
        api,
        report("g4", 1, DNS),
        report("g5", 2, DNS),
        report("g4", 3, compiler(1, "/a")),
        report("g5", 4, compiler(1, "/a")),
    )

    (shared,) = [item for item in listed(api) if "mirror.example" in item["line"]]
    (of_one,) = [item for item in listed(api, project="g4") if "mirror.example" in item["line"]]

    assert (shared["count"], shared["projects"]) == (2, ["g4", "g5"])
    assert (of_one["count"], of_one["projects"]) == (1, ["g4"])
    assert len({item["group"] for name in ("g4", "g5") for item in listed(api, project=name)}) == 3


def test_failed_tests_of_junit_are_grouped_by_test_and_message(api: TestClient) -> None:
    first, second, other = send(
        api, report("g6", 1, junit(a="f", b="p")), report("g6", 2, junit(b="s", a="f")), report("g6", 3, junit(b="f"))
    )

    newest, oldest = listed(api, project="g6")

    assert (oldest["first_build"], oldest["last_build"], oldest["line"]) == (first, second, "a: expected 3")
    assert newest["last_build"] == other


def test_pages_have_each_group_once(api: TestClient) -> None:
    send(api, *(report("g7", number, f"error: the {'x' * number} machine is gone\n") for number in range(1, 8)))

    found: list[str] = []
    before = None
    for _ in range(10):
        page = api.get("/builds/groups", params={"project": "g7", "limit": 3, **({"before": before} if before else {})})
        found += [item["group"] for item in page.json()["items"]]
        before = page.json()["next_before"]
        if before is None:
            break

    assert len(found) == len(set(found)) == 7


@pytest.mark.parametrize("before", ["x", "-1.a", "9" * 30 + ".a", "\u0661.a"])
def test_invalid_cursor_of_groups_is_rejected(api: TestClient, before: str) -> None:
    assert_problem(api.get("/builds/groups", params={"before": before}), 422, "invalid_input")


def test_secret_in_the_line_of_a_cause_is_masked(api: TestClient) -> None:
    secret = "ghp_" + "a1B2" * 9
    (build_id,) = send(api, report("g8", 1, f"error: the token {secret} has expired\n"))

    build = api.get(f"/builds/{build_id}").json()

    assert build["failure_line"] == "error: the token [masked] has expired"


def test_deleted_builds_leave_their_group(api: TestClient, installation: Services) -> None:
    send(
        api,
        report("g9", 1, compiler(1, "/a"), started_at="1980-01-01T00:00:00Z"),
        report("g9", 2, compiler(2, "/a")),
    )
    assert [item["count"] for item in listed(api, project="g9")] == [2]

    list(installation.builds.retention.prune(400_000_000_000_000))

    assert [(item["count"], item["first_at"]) for item in listed(api, project="g9")] == [(1, "2026-05-01T01:02:00Z")]
