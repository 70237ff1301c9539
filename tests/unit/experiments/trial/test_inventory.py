"""The state inventory of a trial: contract fields hold values of the contract, and `ext` holds the exact details."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from relab.experiments.sandbox.protocol import Posture
from relab.experiments.schemas.documents import schema_named
from relab.experiments.trial.inventory import inventory
from support.experiments.configs import config

IDENTITY = {"entry_command": ["x"], "exec_digest": "sha256:" + "1" * 64, "exec_digest_of": "script"}
CLOSED = {"performed": True, "method": "m", "interfaces": ["lo"], "routes": [], "passed": True}


def checked(document: dict[str, Any]) -> dict[str, Any]:
    schema = schema_named("state_inventory_v1")
    Draft202012Validator(schema).validate(document)
    return document


@pytest.mark.parametrize(
    ("mode", "enforcement", "word"),
    [
        ("local", "none", "unknown"),
        ("bwrap", "network_namespace", "unknown"),
        ("bwrap", "network_namespace_and_proxy", "sidecar_proxy"),
        ("container", "network_namespace", "docker_none"),
        ("container", "network_namespace_and_proxy", "sidecar_proxy"),
    ],
)
def test_enforcement_has_the_contract_value_and_the_exact_one_in_ext(mode: str, enforcement: str, word: str) -> None:
    posture = Posture("none", enforcement, CLOSED, {"/workspace": "rw", "/": "ro"}, {"max_pids": "cgroup v2 pids"})
    found = checked(inventory(config(runtime__sandbox={"mode": mode}), posture, IDENTITY))

    assert found["network"]["enforcement_effective"] == word
    assert found["ext"]["network"]["enforcement"] == enforcement
    assert found["ext"]["network"]["egress_self_test"] == CLOSED
    assert found["ext"]["sandbox"] == mode
    assert found["ext"]["started"] is True
    assert found["ext"]["limits"]["max_pids"]["enforced_by"] == "cgroup v2 pids"
    assert found["mounts"] == [
        {"name": "workspace", "path": "/workspace", "writable": True},
        {"name": "root", "path": "/", "writable": False},
    ]


@pytest.mark.parametrize(("passed", "observed"), [(True, "block"), (False, "allow")])
def test_egress_self_test_is_listed_as_a_case(passed: bool, observed: str) -> None:
    found = checked(inventory(config(), Posture("none", "x", CLOSED | {"passed": passed}, {}), IDENTITY))

    (case,) = found["network"]["egress_self_test"]["cases"]
    assert case["expected"] == "block"
    assert case["observed"] == observed
    assert case["ok"] == passed


def test_skipped_self_test_has_no_case_and_its_reason_is_in_ext() -> None:
    posture = Posture("full", "none", {"performed": False, "reason": "shared"}, {})
    found = checked(inventory(config(), posture, IDENTITY))

    assert found["network"]["egress_self_test"] == {"performed": False, "cases": []}
    assert found["ext"]["network"]["egress_self_test"]["reason"] == "shared"


def test_attempt_that_never_started_has_an_inventory() -> None:
    found = checked(inventory(config(), None, IDENTITY))

    assert found["ext"]["started"] is False
    assert found["mounts"] == []
    assert found["network"]["mode_effective"] == "none"


@pytest.mark.parametrize(
    ("profile", "policy", "network", "leaks", "violated"),
    [
        ("hermetic_functional_v2", "isolate_per_trial", "none", False, False),
        ("hermetic_functional_v2", "accumulate", "none", True, True),
        ("hermetic_functional_v2", "isolate_per_trial", "full", False, True),
        ("hermetic_functional", "accumulate", "none", False, True),
        ("none", "isolate_per_trial", "full", False, True),
    ],
)
def test_violations_refer_to_the_profile_in_the_document(
    profile: str, policy: str, network: str, leaks: bool, violated: bool
) -> None:
    asked = config(design={"sanitization_profile": profile, "policies": {"state": policy}})
    found = checked(inventory(asked, Posture(network, "none", {"performed": False}, {}), IDENTITY))

    assert found["sanitization_profile"] == "hermetic_functional_v2"
    assert found["violations"]["state_leak"] == leaks
    assert found["violations"]["profile_invariant_violation"] == violated
    assert bool(found["violations"]["notes"]) == violated
    assert found["ext"].get("sanitization_profile") == (None if profile.endswith("v2") else profile)
