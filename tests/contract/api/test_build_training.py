"""`/build-trainings`: valid requests are queued, and invalid requests and unknown trainings are rejected."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from support.api.client import assert_problem
from support.components.rl import has_rl


def test_training_is_queued_or_rejected_with_the_name_of_the_missing_extra(api: TestClient) -> None:
    answer = api.post("/build-trainings", json={"builds": 1_000, "seed": 7})

    if not has_rl():
        assert "relab[rl]" in assert_problem(answer, 409, "rl_extra_missing")["detail"]
        return
    assert answer.status_code == 202
    training = answer.json()
    assert training["status"] == "pending"
    assert api.get(f"/build-trainings/{training['training_id']}").json() == training


@pytest.mark.parametrize(
    "body",
    [{"builds": 999}, {"builds": 1_000_001}, {"builds": "1000"}, {"seed": -1}, {"seed": 2**32}, {"seed": False}, {"epochs": 3}],
)  # fmt: skip
def test_request_that_the_schema_excludes_is_rejected(api: TestClient, body: dict[str, Any]) -> None:
    assert_problem(api.post("/build-trainings", json=body), 422)


def test_unknown_training_is_not_found(api: TestClient) -> None:
    assert_problem(api.get("/build-trainings/none"), 404)
