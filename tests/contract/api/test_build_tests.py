"""`GET /builds/tests`: reported builds form a history of tests, which distinguishes flaky from broken tests."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from support.api.client import assert_problem
from support.builds.reports import junit, junit_of, report


def send(api: TestClient, *reports: dict[str, Any]) -> list[str]:
    """Report builds and return their ids."""
    answers = [api.post("/builds", json=each) for each in reports]
    assert {answer.status_code for answer in answers} == {201}
    return [answer.json()["build_id"] for answer in answers]


def listed(api: TestClient, **query: object) -> list[dict[str, Any]]:
    answer = api.get("/builds/tests", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def statuses(api: TestClient, project: str) -> dict[str, str]:
    return {item["name"]: item["status"] for item in listed(api, project=project)}


def test_test_with_two_outcomes_of_one_commit_is_flaky_and_one_that_fails_since_a_commit_is_broken(
    api: TestClient,
) -> None:
    ids = send(
        api,
        report("shop", 1, junit(net="p", total="p", good="p"), commit="a"),
        report("shop", 2, junit(net="f", total="p", good="p"), commit="a"),
        report("shop", 3, junit(net="p", total="f", good="p"), commit="b"),
        report("shop", 4, junit(net="p", total="f", good="p"), commit="c"),
    )

    found = {item["name"]: item for item in listed(api, project="shop")}

    assert {name: item["status"] for name, item in found.items()} == {"net": "flaky", "total": "broken"}
    assert [(each["build_id"], each["outcome"]) for each in found["net"]["evidence"]] == [
        (ids[0], "passed"),
        (ids[1], "failed"),
    ]
    assert [each["build_id"] for each in found["total"]["evidence"]] == [ids[1], ids[2]]
    assert (found["total"]["streak"], found["total"]["failures"], found["total"]["builds"]) == (2, 2, 4)
    assert found["net"]["evidence"][1]["commit"] == "a"
    assert found["total"]["message"] == "expected 3"
    assert [item["name"] for item in listed(api, project="shop", status="flaky")] == ["net"]
    assert [item["name"] for item in listed(api, project="shop", status="stable")] == ["good"]


def test_test_is_not_flaky_without_input_or_commit(api: TestClient) -> None:
    send(api, *(report("unknown", number, junit(a="pf"[number % 2])) for number in range(6)))

    assert statuses(api, "unknown") == {"a": "changing"}


def test_success_of_the_same_job_is_a_pass_of_tests_that_its_log_does_not_name(api: TestClient) -> None:
    failed = "FAILED t.py::test_net - OSError\n"
    _, passed = send(
        api,
        report("quiet", 1, failed, commit="a", status="failed"),
        report("quiet", 2, "3 passed in 0.1s\n", commit="a", status="success"),
    )
    send(
        api,
        report("jobless", 1, failed, commit="a", status="failed", job=""),
        report("jobless", 2, "lint is fine\n", commit="a", status="success", job=""),
    )

    (item,) = listed(api, project="quiet")

    assert item["status"] == "flaky"
    assert (item["evidence"][1]["build_id"], item["evidence"][1]["is_inferred"]) == (passed, True)
    assert statuses(api, "jobless") == {"t.py::test_net": "failing"}


def test_same_commit_in_another_job_or_configuration_is_another_input(api: TestClient) -> None:
    send(
        api,
        report("matrix", 1, junit(a="f"), commit="a", job="windows"),
        report("matrix", 2, junit(a="p"), commit="a", job="linux"),
        report("matrix", 3, junit(a="p"), commit="a", job="windows", configuration={"python": "3.12"}),
    )

    assert statuses(api, "matrix") == {"a": "failing"}


def test_stopped_build_does_not_count_for_its_tests(api: TestClient) -> None:
    send(
        api,
        report("stopped", 1, "FAILED t.py::test_a - x\n", commit="a", status="cancelled"),
        report("stopped", 2, "t.py::test_a PASSED [100%]\n", commit="a", status="success"),
    )

    assert statuses(api, "stopped") == {"t.py::test_a": "stable"}


def test_message_is_that_of_the_failure_in_the_build_that_started_last(api: TestClient) -> None:
    """A build that is reported late, and a stopped build, do not replace the message."""
    send(
        api,
        report("late", 5, "FAILED t.py::test_a - newer\n", status="failed"),
        report("late", 1, "FAILED t.py::test_a - older\n", status="failed"),
        report("late", 9, "FAILED t.py::test_a - stopped\n", status="cancelled"),
    )

    (item,) = listed(api, project="late")

    assert item["message"] == "newer"
    assert item["failures"] == 2


def test_pages_have_each_test_once(api: TestClient) -> None:
    names = {f"t{number:03}": "f" for number in range(120)}
    send(api, report("pages", 1, junit_of(names)), report("pages", 2, junit_of(dict.fromkeys(names, "p"))))
    send(api, report("pages", 3, junit_of({f"new{number}": "p" for number in range(70)})))

    for status, expected in (("fixed", set(names)), ("stable", {f"new{number}" for number in range(70)})):
        found: list[str] = []
        before = None
        for _ in range(20):
            query = {"project": "pages", "status": status, "limit": 33, **({"before": before} if before else {})}
            page = api.get("/builds/tests", params=query).json()
            found += [item["name"] for item in page["items"]]
            before = page["next_before"]
            if before is None:
                break
        assert len(found) == len(expected)
        assert set(found) == expected


@pytest.mark.parametrize("before", ["x", "-0000000000000000.", "g" * 16 + ".b", "_" * 16 + ".b"])
def test_invalid_cursor_is_rejected(api: TestClient, before: str) -> None:
    assert_problem(api.get("/builds/tests", params={"before": before}), 422, "invalid_input")


def test_test_names_are_masked_cut_and_kept_distinct(api: TestClient) -> None:
    secret = "ghp_" + "a1B2" * 9
    long = "x" * 10_000
    send(
        api,
        report("hostile", 1, junit_of({f"1{long}": "f", f"2{long}": "p", f"login[token={secret}]\u202e": "f"})),
    )

    names = [item["name"] for item in listed(api, project="hostile")]
    stable = [item["name"] for item in listed(api, project="hostile", status="stable")]

    assert secret not in str(names)
    assert any("[masked]" in name for name in names)
    assert all(len(name) <= 500 for name in [*names, *stable])
    assert len(names) == 2
    assert len(stable) == 1


def test_tests_beyond_the_limit_are_left_out_unless_they_fail_or_failed(
    api: TestClient, installation: Services
) -> None:
    many = {f"suite.test_number_{number}": "p" for number in range(25_000)}
    late = "suite.test_number_9999"
    (first,) = send(api, report("many", 1, junit_of({**many, late: "f", "suite.test_number_24999": "f"}), commit="a"))
    send(api, report("many", 2, junit_of(many), commit="a"))

    build = api.get(f"/builds/{first}").json()

    assert statuses(api, "many")[late] == "flaky"
    assert statuses(api, "many")["suite.test_number_24999"] == "failing"
    assert build["tests"]["failed"] == 2
    assert build["tests"]["left_out"] == 20_000


def test_tests_are_deleted_with_their_builds(api: TestClient, installation: Services) -> None:
    send(api, report("old", 1, junit(a="f"), started_at="1980-01-01T00:00:00Z"))
    assert statuses(api, "old") == {"a": "failing"}

    list(installation.builds.retention.prune(400_000_000_000_000))

    assert statuses(api, "old") == {}
