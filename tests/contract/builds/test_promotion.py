"""Promotion of policies: evaluated on the log of decisions, activated by a flag version, and undone by a rollback."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.builds.errors import DecisionLogError, PolicyFlagError, PolicyInUseError, UnknownPolicyError
from relab.builds.models import BuildFailure
from relab.builds.optimizer.catalogue import CATALOGUE_VERSION
from relab.builds.optimizer.decisions import BuildDecision
from relab.builds.optimizer.situation import BuildSituation
from relab.builds.optimizer.store import DecisionStore
from relab.core.errors import PreconditionFailedError
from relab.core.ids import new_id
from relab.flags.models import FlagContent, FlagVersion
from relab.server import create_app
from relab.stats.verdicts import Verdict
from support.api.client import assert_problem, loopback_client
from support.lab.process import run_lab

FLAG = "builds.policy"


def log_decisions(services: Services, project: str, rewards: Sequence[float], count: int, actions: int = 2) -> None:
    """Log decisions of a policy that draws actions uniformly; action `a` is rewarded with probability `rewards[a]`."""
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


def test_better_policy_applies_to_its_project_alone_until_its_inverse_is_run(keeping: Services) -> None:
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

    assert found.flag is not None
    changed = keeping.flags.get(found.flag)
    assert (changed.version, changed.author) == (found.version, "ada@host")
    assert "in place of fixed" in changed.note
    assert found.inverse == f"lab flags rollback {found.flag} --to 1 --if-version 2"

    keeping.flags.rollback(found.flag, 1, expected=[2], author="ada@host")
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
    assert [flag.key for flag in keeping.flags.list_flags().items] == [FLAG]


def test_log_without_enough_weight_for_a_policy_is_invalid(keeping: Services) -> None:
    # In the newer half of the log each of the eight actions was drawn about eight times.
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
    assert services.flags.list_flags(with_archived=True).items == []


def test_second_promotion_replaces_the_first_one(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    again = keeping.build_promotion.promote("fixed", "engine", author="ada@host")

    assert again.replaced == "fixed:1"
    assert again.verdict is Verdict.FAIL
    assert keeping.build_promotion.policy_of("engine") == "fixed:1"


def test_inverse_restores_the_policy_of_its_project_alone(keeping: Services) -> None:
    promoted = {}
    for project in ("octo/engine", "octo engine"):
        log_decisions(keeping, project, (0.1, 0.9), 240)
        promoted[project] = keeping.build_promotion.promote("fixed:1", project, author="ada@host")
    first, second = promoted.values()
    assert first.flag != second.flag

    result = run_lab(*shlex.split(first.inverse or "")[1:], home=keeping.settings.home)

    assert result.returncode == 0, result.stderr
    assert keeping.build_promotion.policy_of("octo/engine") == "fixed"
    assert keeping.build_promotion.policy_of("octo engine") == "fixed:1"


def test_inverse_is_rejected_after_a_later_promotion(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    first = keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")
    assert first.flag is not None
    keeping.flags.update(first.flag, keeping.flags.get(first.flag).content, expected=None, author="bob@host")

    result = run_lab(*shlex.split(first.inverse or "")[1:], home=keeping.settings.home)

    assert result.returncode != 0
    assert keeping.build_promotion.policy_of("engine") == "fixed:1"


def test_project_beyond_a_hundred_promoted_ones_is_promoted(services: Services) -> None:
    # Earlier versions stored all projects in one flag, which can have at most 100 rules.
    services.flags.create(FLAG, _rules([f"project-{number}" for number in range(100)]), author="test")
    log_decisions(services, "engine", (0.1, 0.9), 240)

    found = services.build_promotion.promote("fixed:1", "engine", author="ada@host")

    assert found.verdict is Verdict.PASS
    assert services.build_promotion.policy_of("engine") == "fixed:1"
    assert services.build_promotion.policy_of("project-99") == "fixed:2"


def _rules(projects: Sequence[str]) -> FlagContent:
    """Return the content of a flag whose value is `fixed:2` for some projects, and `fixed` for the others."""
    rules = [
        {
            "name": project,
            "conditions": [{"attribute": "project", "op": "eq", "value": project}],
            "serve": {"variant": "fixed-2"},
        }
        for project in projects
    ]
    variants = {"fixed": "fixed", "fixed-2": "fixed:2"}
    return FlagContent.model_validate(
        {"value_type": "string", "variants": variants, "default_variant": "fixed", "rules": rules}
    )


def test_policy_from_a_rule_of_the_common_flag_applies_until_it_is_replaced(services: Services) -> None:
    # Earlier versions stored promotions as such rules.
    content = _rules(["engine"])
    services.flags.create(FLAG, content, author="test")
    log_decisions(services, "engine", (0.1, 0.9), 240)
    assert services.build_promotion.policy_of("engine") == "fixed:2"

    found = services.build_promotion.promote("fixed:1", "engine", author="ada@host")

    assert found.replaced == "fixed:2"
    assert services.build_promotion.policy_of("engine") == "fixed:1"
    assert services.flags.get(FLAG).version == 1


def test_split_of_the_common_flag_assigns_each_project_to_one_policy(services: Services) -> None:
    split = [{"variant": "ucb", "weight_bp": 5_000}, {"variant": "linucb", "weight_bp": 5_000}]
    content = {
        "value_type": "string",
        "variants": {"ucb": "ucb", "linucb": "linucb"},
        "default_variant": "ucb",
        "rules": [{"name": "half", "serve": {"split": split}}],
    }
    services.flags.create(FLAG, FlagContent.model_validate(content), author="test")
    names = ["", *(f"project-{number}" for number in range(50))]

    found = [services.build_promotion.policy_of(name) for name in names]

    assert set(found) == {"ucb", "linucb"}
    assert [services.build_promotion.policy_of(name) for name in names] == found


@pytest.mark.parametrize(("value", "problem"), [("ubc", "no policy 'ubc'"), ("fixed:99", "no action 99")])
def test_flag_without_a_valid_policy_is_named(services: Services, value: str, problem: str) -> None:
    content = FlagContent(value_type="string", variants={"a": value}, default_variant="a")
    services.flags.create(FLAG, content, author="test")

    with pytest.raises(PolicyFlagError, match=problem) as caught:
        services.build_promotion.policy_of("engine")
    with loopback_client(create_app(services)) as client:
        response = client.post("/get_best_action", json={"project": "engine"})
        named = client.post("/get_best_action", json={"project": "engine", "policy": "ucb"})

    assert f"The flag '{FLAG}' has the invalid value '{value}'" in caught.value.message
    assert f"lab flags set {FLAG}" in str(caught.value)
    assert assert_problem(response, 503, "policy_flag_invalid")["detail"] == str(caught.value)
    assert named.status_code == 200


def test_policy_in_use_is_not_promoted(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)

    with pytest.raises(PolicyInUseError, match="uses the policy 'fixed' already"):
        keeping.build_promotion.promote("fixed", "engine", author="ada@host")


def test_promotion_of_a_policy_with_the_same_choices_is_invalid(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)

    with loopback_client(create_app(keeping)) as client:
        response = client.post("/build-policies/promote", json={"project": "engine", "policy": "fixed:0"})

    assert response.status_code == 200
    assert (response.json()["verdict"], response.json()["low"]) == ("INVALID", None)
    assert response.json()["reason"].startswith("The policies choose alike in all of these decisions")


def test_log_of_a_project_that_always_fails_is_invalid_and_the_reason_says_so(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.0, 0.0), 240)

    found = keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    assert (found.verdict, found.low) == (Verdict.INVALID, None)
    assert found.reason.startswith("No build succeeded after any of these decisions")


def test_promotion_over_http_names_the_caller_and_can_be_taken_back(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    token = keeping.access.create_token("release-bot", [Scope.OPERATE]).token

    with loopback_client(create_app(keeping)) as client:
        client.headers["authorization"] = f"Bearer {token}"
        before = client.get("/build-policies", params={"project": "engine"}).json()
        found = client.post("/build-policies/promote", json={"project": "engine", "policy": "linucb"}).json()
        after = client.get("/build-policies", params={"project": "engine"}).json()
        again = client.post("/build-policies/promote", json={"project": "engine", "policy": "linucb"})
        short = client.post("/build-policies/promote", json={"project": "other", "policy": "linucb"})
        undone = client.post(
            f"/flags/{found['flag']}/rollback",
            json={"version": found["restores"]},
            headers={"If-Match": f'"{found["version"]}"'},
        )
        restored = client.get("/build-policies", params={"project": "engine"}).json()

    assert (before["policy"], after["policy"], restored["policy"]) == ("fixed", "linucb", "fixed")
    assert (before["flag"], found["verdict"]) == (found["flag"], "PASS")
    assert before["estimates"]["linucb"]["doubly_robust"]["estimate"] > 0.8
    assert "release-bot" in keeping.flags.get_version(found["flag"], 2).author
    assert_problem(again, 409, "policy_in_use")
    assert_problem(short, 409, "decision_log_too_short")
    assert undone.status_code == 200


def test_policies_of_a_project_without_decisions_have_no_estimates(services: Services) -> None:
    found = services.build_promotion.policies("new")

    assert (found.policy, found.estimates) == ("ucb", {})


def test_promoted_policy_answers_requests_that_name_none(keeping: Services) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    with loopback_client(create_app(keeping)) as client:
        chosen = [
            client.post("/get_best_action", json=body).json()["policy"]
            for body in ({"project": "engine"}, {"project": "other"}, {"project": "engine", "policy": "linucb"})
        ]

    assert chosen == ["fixed:1", "fixed", "linucb"]


def test_promotion_that_another_one_overtakes_is_rejected(keeping: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    log_decisions(keeping, "engine", (0.1, 0.9), 240)
    create = keeping.flags.create

    def overtaken(key: str, content: FlagContent, **options: str) -> FlagVersion:
        create(key, content, author="bob@host")
        return create(key, content, author=options["author"], note=options["note"])

    monkeypatch.setattr(keeping.flags, "create", overtaken)

    with pytest.raises(PreconditionFailedError, match="is at version 1"):
        keeping.build_promotion.promote("fixed:1", "engine", author="ada@host")

    assert keeping.build_promotion.policy_of("engine") == "fixed"


def test_exit_code_of_the_command_is_that_of_the_verdict(keeping: Services) -> None:
    log_decisions(keeping, "better", (0.1, 0.9), 240)
    log_decisions(keeping, "worse", (0.9, 0.1), 240)
    log_decisions(keeping, "open", (0.5, 0.52), 240)
    home = keeping.settings.home

    codes = {
        project: run_lab("builds", "promote", "fixed:1", project, "--json", home=home).returncode
        for project in ("better", "worse", "open")
    }

    assert codes == {"better": 0, "worse": 1, "open": 2}
