"""Policies that end a run early: their validation, and their form in the resolved experiment."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.models import DEFAULT_FIRST_ERRORS
from relab.experiments.records.sessions import configured_ceilings
from support.experiments.configs import config
from support.experiments.documents import check_document

STOPPING = {"metric": "success", "margin": 0.05, "alpha": 0.1}


def experiment(**changes: Any) -> ExperimentConfig:
    sections: dict[str, Any] = {
        "variant_plan": [{"variant_id": "other"}],
        "design": {"shuffle_tasks": True, "policies": {"stopping": STOPPING, "budget": {"max_cost_usd": 2.5}}},
    }
    for name, value in changes.items():
        parent, _, last = name.rpartition("__")
        node = sections
        for part in parent.split("__") if parent else ():
            node = node.setdefault(part, {})
        node[last] = value
    return config(**sections)


def test_policies_survive_the_resolved_experiment_which_matches_its_schema() -> None:
    made = experiment()
    resolved = made.resolved()

    check_document("resolved_experiment_v0_3", resolved | {"dataset": {**resolved["dataset"], "limit": 1}})
    assert resolved["design"]["stopping"] == STOPPING
    policies = ExperimentConfig.model_validate(resolved).design.policies
    assert (policies.stopping, policies.budget) == (made.design.policies.stopping, made.design.policies.budget)


def test_resolved_experiment_without_policies_lacks_their_fields() -> None:
    assert config().resolved()["design"].keys().isdisjoint({"stopping", "budget"})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"variant_plan": []}, "variant_plan"),
        ({"design__shuffle_tasks": False}, "shuffle_tasks: true"),
        ({"design__comparison": "unpaired"}, "comparison: paired"),
        ({"design__policies__scheduling": "variant_sequential"}, "paired_interleaved"),
        ({"design__policies__state": "accumulate"}, "accumulate"),
        ({"analysis": {"cluster_field": "source"}}, "cluster_field"),
        ({"design__policies__stopping": {"metric": "success", "margin": -0.1}}, "margin"),
        ({"design__policies__stopping": {"metric": "success", "margin": float("nan")}}, "margin"),
        ({"design__policies__stopping": {"metric": "success", "margin": "5%"}}, "margin"),
        ({"design__policies__stopping": {"metric": "success", "alpha": 0}}, "alpha"),
        ({"design__policies__stopping": {"metric": "success", "alpha": 0.9}}, "alpha"),
        ({"design__policies__stopping": {"metric": ""}}, "metric"),
        ({"design__policies__stopping": {"margin": 0.1}}, "metric"),
        ({"design__policies__stopping": {"metric": "success", "looks": 3}}, "looks"),
        ({"design__policies__budget": {"max_trials": 0}}, "max_trials"),
        ({"design__policies__budget": {"max_first_errors": 0}}, "max_first_errors"),
        ({"design__policies__budget": {"max_cost_usd": float("inf")}}, "max_cost_usd"),
        ({"design__policies__budget": {"max_seconds": True}}, "max_seconds"),
        ({"design": {"stopping": STOPPING, "policies": "none"}}, "policies"),
    ],
)
def test_wrong_policies_are_rejected_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        experiment(**changes)


def test_ceiling_of_first_errors_is_stored_unless_it_is_the_default() -> None:
    def stored(budget: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = experiment(design__policies__budget=budget).resolved()["design"]["budget"]
        return found

    unlimited = experiment(design__policies__budget={"max_first_errors": None})

    assert "max_first_errors" not in stored({"max_trials": 3})
    assert stored({"max_first_errors": 3})["max_first_errors"] == 3
    assert stored({"max_first_errors": None})["max_first_errors"] is None
    assert configured_ceilings(unlimited).max_first_errors is None
    assert configured_ceilings(experiment()).max_first_errors == DEFAULT_FIRST_ERRORS
