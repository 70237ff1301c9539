"""`/get_best_action` with the seed's fields, outcomes of decisions, and the lists of builds."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.builds.errors import BuildProjectNotFoundError
from relab.builds.models import ACTION_IDS
from relab.builds.service import BuildSymptoms
from relab.core.ids import new_id
from support.api.client import assert_problem

SEED_BUILD = {"status": "failed", "duration": 2.34, "error": "Out of memory during build"}


def test_best_action_answers_get_and_post_with_the_fields_of_the_seed(api: TestClient) -> None:
    for answer in (
        api.get("/get_best_action"),
        api.get("/get_best_action", params=SEED_BUILD),
        api.post("/get_best_action"),
        api.post("/get_best_action", json=SEED_BUILD),
    ):
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert isinstance(found["action_id"], int)
        assert isinstance(found["action_description"], str)
        assert 0 < found["propensity"] <= 1
        assert found["policy"] == "ucb"


def test_action_1_has_the_description_use_cache(api: TestClient) -> None:
    found = api.get("/get_best_action", params={"policy": "fixed:1"}).json()

    assert (found["action_id"], found["action_description"]) == (1, "use cache")


def test_action_is_one_of_those_that_the_ci_can_perform(api: TestClient) -> None:
    found = [api.get("/get_best_action", params={"actions": [3, 6]}).json()["action_id"] for _ in range(5)]

    assert set(found) <= {3, 6}


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"policy": "fixed:99"}, "unknown_action", "no action 99"),
        ({"actions": [1, 99]}, "unknown_action", "no action 99"),
        ({"policy": "ppo"}, "unknown_policy", "no policy 'ppo'"),
    ],
)
def test_unknown_action_and_policy_are_named(api: TestClient, query: dict[str, str], code: str, text: str) -> None:
    problem = assert_problem(api.get("/get_best_action", params=query), 422, code)

    assert text in problem["detail"]


def test_policy_without_a_trained_model_conflicts_with_the_stored_state(api: TestClient) -> None:
    problem = assert_problem(api.get("/get_best_action", params={"policy": "dqn"}), 409, "policy_model_missing")

    assert "lab builds train" in problem["detail"]


def test_decision_is_logged_with_its_outcome_once(api: TestClient, installation: Services) -> None:
    decision = api.post("/get_best_action", json={**SEED_BUILD, "project": "logged"}).json()
    url = f"/builds/decisions/{decision['decision_id']}/outcome"

    reported = api.post(url, json={"status": "success", "duration": 30, "reference": 60})
    again = api.post(url, json={"status": "failed", "duration": 1})

    assert reported.status_code == 200, reported.text
    assert reported.json()["reward"] == pytest.approx(2 / 3)
    assert reported.json()["situation"]["failure"] == "out_of_memory"
    assert again.status_code == 409
    (stored,) = installation.builds.decisions.list_decisions(project="logged").items
    assert stored.reward == pytest.approx(2 / 3)
    assert sum(stored.propensities) == pytest.approx(1)
    assert stored.propensity == pytest.approx(decision["propensity"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/get_best_action", {"cache": 0.0}),
        ("/get_best_action", {"actions": [False]}),
        ("/get_best_action", {"attempts": "1"}),
        ("/get_best_action", {"policy": ""}),
        ("/simulate_build", {"seed": False}),
    ],
)
def test_value_that_the_schema_excludes_is_rejected(api: TestClient, path: str, body: dict[str, Any]) -> None:
    assert_problem(api.post(path, json=body), 422)


def test_whole_number_may_be_written_with_a_fraction_of_zero(api: TestClient) -> None:
    assert api.post("/get_best_action", json={"attempts": 2.0, "actions": [1.0]}).status_code == 200


def test_query_parameters_have_the_fields_of_the_body(api: TestClient) -> None:
    query = {"cache": "true", "actions": ["1", "2"], "attempts": "1"}

    assert api.get("/get_best_action", params=query).status_code == 200
    assert api.get("/simulate_build", params={"seed": "3"}).status_code == 200


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_unfinished_build_is_rejected_as_an_outcome(api: TestClient, status: str) -> None:
    decision = api.post("/get_best_action", json=SEED_BUILD).json()
    url = f"/builds/decisions/{decision['decision_id']}/outcome"

    assert_problem(api.post(url, json={"status": status, "duration": 30}), 422)

    assert api.post(url, json={"status": "success", "duration": 30}).status_code == 200


def test_problems_name_values_of_the_api_and_no_names_of_the_code(api: TestClient) -> None:
    outcome = api.post("/builds/decisions/d/outcome", json={"status": "x", "duration": 1}).json()
    report = api.post("/builds", json={"project": "p", "started_at": "yesterday"}).json()
    rollout = api.post("/rollouts", json=[]).json()

    assert outcome["detail"] == "status: Input should be 'success' or 'failed'."
    assert report["detail"].startswith("started_at: 'yesterday' is not an RFC 3339 time")
    assert rollout["detail"] == "body: Input should be a valid dictionary."


def test_policy_learns_from_reported_outcomes(api: TestClient, installation: Services) -> None:
    for _ in range(60):
        body = {**SEED_BUILD, "project": "learning", "actions": [0, 1, 2]}
        decision = api.post("/get_best_action", json=body).json()
        status = "success" if decision["action_id"] == 2 else "failed"
        api.post(f"/builds/decisions/{decision['decision_id']}/outcome", json={"status": status, "duration": 1})

    (last,) = installation.builds.decisions.list_decisions(project="learning", limit=1).items
    assert last.actions == (0, 1, 2)
    assert last.propensities[2] > 0.9


def test_unknown_build_and_decision_are_not_found(api: TestClient) -> None:
    assert_problem(api.get("/builds/missing"), 404)
    missing = api.post("/builds/decisions/missing/outcome", json={"status": "success", "duration": 1})
    assert_problem(missing, 404)


def test_builds_are_listed(api: TestClient) -> None:
    answer = api.get("/builds", params={"status": "failed"})

    assert answer.status_code == 200
    assert answer.json() == {"items": [], "next_before": None}


@pytest.mark.parametrize("path", ["/builds", "/builds/suggestions", "/rollouts"])
@pytest.mark.parametrize(
    "before", ["", "x", "0", "019ac0de-0000-7000-8000-00000000000", "019ac0de-0000-7000-8000-00000000000g"]
)
def test_invalid_cursor_is_rejected(api: TestClient, path: str, before: str) -> None:
    problem = assert_problem(api.get(path, params={"before": before}), 422)

    assert problem["errors"] == [{"field": "query.before", "message": "is not a `next_before` of this list"}]


@pytest.mark.parametrize("path", ["/builds", "/builds/suggestions", "/rollouts"])
def test_cursor_of_a_deleted_item_continues_the_list(api: TestClient, path: str) -> None:
    assert api.get(path, params={"before": new_id()}).status_code == 200


def test_simulated_build_answers_get_and_post_with_the_fields_of_the_seed(api: TestClient) -> None:
    for answer in (api.get("/simulate_build"), api.post("/simulate_build")):
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] in {"success", "failed"}
        assert answer.json()["duration"] > 0
        assert (answer.json()["error"] is None) == (answer.json()["status"] == "success")


def test_simulation_is_repeatable_by_its_seed(api: TestClient) -> None:
    query = {"fault": "memory", "action_id": 0, "seed": 7}

    answers = [api.get("/simulate_build", params=query).json(), api.post("/simulate_build", json=query).json()]

    assert answers[0] == answers[1]
    assert answers[0]["status"] == "failed"
    assert "Out of memory during build" in answers[0]["error"]


def test_each_action_that_may_be_chosen_can_be_simulated(api: TestClient) -> None:
    query = {"fault": "memory", "seed": 7}
    built = {number: api.post("/simulate_build", json={**query, "action_id": number}) for number in ACTION_IDS}

    assert {number: answer.status_code for number, answer in built.items()} == dict.fromkeys(ACTION_IDS, 200)
    for unchanged in (5, 7):
        assert built[unchanged].json() == {**built[0].json(), "action_id": unchanged}


@pytest.mark.parametrize(
    ("query", "code"), [({"fault": "disk"}, "unknown_fault"), ({"action_id": 99}, "unknown_action")]
)
def test_unknown_fault_and_action_of_a_simulation_are_named(api: TestClient, query: dict[str, str], code: str) -> None:
    assert_problem(api.get("/simulate_build", params=query), 422, code)


@pytest.mark.parametrize("path", ["/builds", "/builds/tests", "/builds/groups", "/builds/suggestions"])
def test_list_of_an_unknown_project_is_empty(api: TestClient, path: str) -> None:
    answer = api.get(path, params={"project": "no-such-project"})

    assert answer.status_code == 200
    assert answer.json() == {"items": [], "next_before": None}


def test_error_about_an_unknown_project_names_no_project_without_a_name(services: Services) -> None:
    services.builds.decisions.best_action(BuildSymptoms(), default_policy="ucb")

    with pytest.raises(BuildProjectNotFoundError) as raised:
        services.builds.check_project("odd")

    assert raised.value.remedy == "Record one: lab builds run"
