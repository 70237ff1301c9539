"""Promotion of a policy: judged on the log of decisions, put into use by a version of a flag, taken back by a rollback."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from relab.bootstrap import Services
from relab.builds.errors import DecisionLogError, UnknownPolicyError
from relab.builds.models import BuildFailure
from relab.builds.optimizer.catalogue import CATALOGUE_VERSION
from relab.builds.optimizer.decisions import BuildDecision
from relab.builds.optimizer.situation import BuildSituation
from relab.builds.optimizer.store import DecisionStore
from relab.core.ids import new_id
from relab.flags.errors import FlagNotFoundError
from relab.flags.models import FlagContent
from relab.server import create_app
from relab.stats.verdicts import Verdict
from support.api.client import loopback_client

FLAG = "builds.policy"


def log_decisions(services: Services, project: str, rewards: Sequence[float], count: int, actions: int = 2) -> None:
    """Log decisions of a policy that draws evenly; an action is rewarded with 1 with the probability `rewards[action]`."""
    generator = np.random.default_rng(7)
    store = DecisionStore(services.database)
    for _ in range(count):
        chosen = int(generator.integers(actions))
        store.add(
            BuildDecision(
                decision_id=new_id(),
                project=project,
                catalogue_version=CATALOGUE_VERSION,
                policy="thompson",
                situation=BuildSituation(failure=BuildFailure.OUT_OF_MEMORY, failed_attempts=1),
                actions=tuple(range(actions)),
                propensities=(1 / actions,) * actions,
                action_id=chosen,
                decided_at=1_000_000,
                reward=float(generator.random() < rewards[chosen]),
            )
        )


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    return make_services()


@pytest.fixture
def keeping(services: Services) -> Services:
    """Return services whose projects use the policy that keeps the configuration."""
    content = FlagContent(value_type="string", variants={"fixed": "fixed"}, default_variant="fixed")
    services.flags.create(FLAG, content, author="test")
    return services


def test_better_policy_is_used_by_its_project_alone_until_the_inverse_is_run(keeping: Services) -> None:
    promotion = keeping.build_promotion
    log_decisions(keeping, "engine", (0.1, 0.9), 240)

    found = promotion.promote("linucb", "engine", author="ada@host")

    assert found.verdict is Verdict.PASS
    assert found.replaced == "fixed"
    assert found.low > 0.5
    assert found.low < found.gain < found.high
    assert found.count == 120
    assert promotion.policy_of("engine") == "linucb"
    assert promotion.policy_of("other") == "fixed"

    changed = keeping.flags.get(FLAG)
    assert (changed.version, changed.author) == (found.version, "ada@host")
    assert "in place of fixed" in changed.note
    assert found.inverse == f"lab flags rollback {FLAG} --to 1"

    keeping.flags.rollback(FLAG, 1, expected=None, author="ada@host")
    assert promotion.policy_of("engine") == "fixed"


@pytest.mark.parametrize(
    ("rewards", "policy", "verdict"),
    [((0.9, 0.1), "fixed:1", Verdict.FAIL), ((0.5, 0.5), "fixed:1", Verdict.EDGE)],
    ids=["worse", "equal"],
)
def test_policy_that_is_not_better_is_not_used(
    keeping: Services, rewards: tuple[float, float], policy: str, verdict: Verdict
) -> None:
    log_decisions(keeping, "engine", rewards, 240)

    found = keeping.build_promotion.promote(policy, "engine", author="ada@host")

    assert found.verdict is verdict
    assert found.version is None
    assert found.inverse is None
    assert keeping.build_promotion.policy_of("engine") == "fixed"
    assert keeping.flags.get(FLAG).version == 1


def test_log_without_enough_weight_for_a_policy_is_invalid(keeping: Services) -> None:
    # Each of eight actions was drawn about eight times in the newer half.
    log_decisions(keeping, "engine", [0.5] * 8, 120, actions=8)

    found = keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    assert found.verdict is Verdict.INVALID
    assert "effective decisions" in found.reason


def test_short_log_and_unknown_policy_are_rejected_and_leave_no_flag(services: Services) -> None:
    log_decisions(services, "engine", (0.1, 0.9), 59)

    with pytest.raises(DecisionLogError, match="59 decisions"):
        services.build_promotion.promote("thompson", "engine", author="ada@host")
    with pytest.raises(UnknownPolicyError):
        services.build_promotion.promote("magic", "engine", author="ada@host")

    assert services.build_promotion.policy_of("engine") == "ucb"
    with pytest.raises(FlagNotFoundError):
        services.flags.get(FLAG)


def test_second_promotion_replaces_the_first_one(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    again = keeping.build_promotion.promote("fixed", "engine", author="ada@host")

    assert again.replaced == "fixed:1"
    assert again.verdict is Verdict.FAIL
    assert keeping.build_promotion.policy_of("engine") == "fixed:1"
    assert len(keeping.flags.get(FLAG).content.rules) == 1


def test_promoted_policy_answers_requests_that_name_none(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    with loopback_client(create_app(keeping)) as client:
        chosen = [
            client.post("/get_best_action", json=body).json()["policy"]
            for body in ({"project": "engine"}, {"project": "other"}, {"project": "engine", "policy": "linucb"})
        ]

    assert chosen == ["fixed:1", "fixed", "linucb"]
