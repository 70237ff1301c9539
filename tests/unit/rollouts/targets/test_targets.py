"""Targets of a rollout: flags and their shares, secrets in plans, identities of URLs, and invalid subjects."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from relab.core.errors import InvalidInputError
from relab.flags.evaluation import evaluate
from relab.flags.models import FlagContent, FlagVersion
from relab.rollouts.errors import (
    ChangesForbiddenError,
    FlagsChangedError,
    FlagsRejectedError,
    PlanInvalidError,
    SubjectError,
    TargetUnavailableError,
)
from relab.rollouts.models import Arm
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.plans.subject import ProductFlagSubject, ServiceFlagsSubject, Subject
from relab.rollouts.targets.identity import flag_identity
from relab.rollouts.targets.json_client import at_pointer, curl, with_environment
from relab.rollouts.targets.opening import TargetOpener
from relab.rollouts.targets.product_flag import ProductFlagTarget
from relab.rollouts.targets.protocol import FlagState
from relab.rollouts.targets.service_flags import check_change

BASE = "http://127.0.0.1:1"
NO_FLAGS: Any = None


def content(**fields: Any) -> FlagContent:
    given = {"value_type": "boolean", "variants": {"on": True, "off": False}, "default_variant": "off", **fields}
    return FlagContent.model_validate(given)


def product_flag() -> ProductFlagTarget:
    return ProductFlagTarget(NO_FLAGS, ProductFlagSubject(kind="product_flag", key="f", a="off", b="on"))


def served(document: Any, key: str, **context: Any) -> str:
    version = FlagVersion(
        key="f", version=1, action="updated", created_at=0, author="a", note="", digest="", restored_version=None,
        content=FlagContent.model_validate(document),
    )  # fmt: skip
    return evaluate(version, {"targetingKey": key, **context}).variant


def test_growing_share_keeps_every_subject_in_arm_b() -> None:
    before = FlagState(content().model_dump(mode="json"))
    keys = [f"user-{number}" for number in range(400)]
    shares = {
        share: {key for key in keys if served(product_flag().share_of(before, share), key) == "on"}
        for share in (0, 10, 50, 100)
    }

    assert shares[0] == set()
    assert 10 < len(shares[10]) < 90
    assert shares[10] < shares[50] < shares[100]
    assert shares[100] == set(keys)


def test_rules_with_conditions_still_decide_for_their_subjects() -> None:
    beta = {
        "name": "beta",
        "conditions": [{"attribute": "plan", "op": "eq", "value": "beta"}],
        "serve": {"variant": "on"},
    }
    everyone = {"name": "everyone", "serve": {"variant": "off"}}
    before = FlagState(content(rules=[beta, everyone]).model_dump(mode="json"))

    changed = product_flag().share_of(before, 100)

    assert [rule["name"] for rule in changed["rules"]] == ["beta", "rollout", "everyone"]  # type: ignore[index,call-overload,union-attr]
    assert served(product_flag().share_of(before, 0), "x", plan="beta") == "on"
    assert served(changed, "x") == "on"


def test_second_share_replaces_the_rule_of_the_first() -> None:
    first = product_flag().share_of(FlagState(content().model_dump(mode="json")), 10)

    second = product_flag().share_of(FlagState(first), 50)

    assert [rule["name"] for rule in second["rules"]] == ["rollout"]  # type: ignore[index,call-overload,union-attr]


@pytest.mark.parametrize(
    ("fields", "problem"), [({"is_enabled": False}, "disabled"), ({"variants": {"off": False}}, "'on'")]
)
def test_flag_without_a_variant_or_disabled_is_rejected(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(SubjectError, match=problem):
        product_flag().share_of(FlagState(content(**fields).model_dump(mode="json")), 50)


def test_single_flag_over_http_returns_to_its_earlier_value_in_arm_a() -> None:
    subject = Subject.model_validate({"flags": {"kind": "http", "url": "http://127.0.0.1:1/limit", "b": 20}})
    target = TargetOpener(NO_FLAGS, {}).open(Plan(base_url=BASE, subject=subject))

    assert target.changes_of(FlagState(10), {}) == {Arm.A: 10, Arm.B: 20}


def test_flags_of_a_service_have_no_shares() -> None:
    target = TargetOpener(NO_FLAGS, {}).open(Plan(base_url=BASE))

    with pytest.raises(SubjectError, match="no shares"):
        target.share_of(FlagState({}), 10)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (412, FlagsChangedError),
        (409, FlagsChangedError),
        (422, FlagsRejectedError),
        (400, FlagsRejectedError),
        (401, ChangesForbiddenError),
        (404, ChangesForbiddenError),
        (302, ChangesForbiddenError),
        (500, TargetUnavailableError),
        (429, TargetUnavailableError),
    ],
)
def test_status_of_a_rejected_change_decides_the_error(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="told to"):
        check_change("http://x/flags", status, f"{status}: told to")


def test_accepted_change_raises_no_error() -> None:
    check_change("http://x/flags", 204, "204: ")


def test_header_takes_only_variables_that_are_meant_for_rollouts() -> None:
    environment = {"ROLLOUT_TOKEN": "s3cret", "RELAB_LLM_KEY": "other"}

    assert with_environment({"A": "Bearer ${ROLLOUT_TOKEN}"}, environment) == {"A": "Bearer s3cret"}
    with pytest.raises(SubjectError, match="must begin with ROLLOUT_"):
        with_environment({"A": "${RELAB_LLM_KEY}"}, environment)
    with pytest.raises(SubjectError, match="is not set"):
        with_environment({"A": "${ROLLOUT_OTHER}"}, environment)


def test_command_lets_the_shell_fill_in_secrets() -> None:
    command = curl("PUT", "http://x/'y", {"a": "it's"}, {"Authorization": "Bearer ${ROLLOUT_TOKEN}"})

    assert """-H 'Authorization: Bearer '"${ROLLOUT_TOKEN}\"""" in command
    assert "'http://x/'\"'\"'y'" in command


@pytest.mark.parametrize(
    "value",
    ["Bearer ${ROLLOUT_TOKEN}!", "${ROLLOUT_TOKEN}${HOME}", "${x:-$(echo no)}", "`echo no` ${ROLLOUT_TOKEN} \"'\\"],
)
def test_shell_replaces_nothing_but_variables_of_rollouts(value: str) -> None:
    command = curl("PUT", "http://x/y", 1, {"X": value})
    script = f"curl() {{ printf '%s' \"$7\"; }}\n{command}"

    done = subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
        env={"ROLLOUT_TOKEN": "$(echo a) b"},
    )

    assert done.stdout == "X: " + value.replace("${ROLLOUT_TOKEN}", "$(echo a) b")


@pytest.mark.parametrize("secret", ["s3cret\n", "s3cret\u00e9", "s3cret\x00"])
def test_secret_that_no_header_may_hold_is_rejected_and_not_shown(secret: str) -> None:
    with pytest.raises(SubjectError, match="ROLLOUT_TOKEN") as raised:
        with_environment({"Authorization": "Bearer ${ROLLOUT_TOKEN}"}, {"ROLLOUT_TOKEN": secret})

    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Basic Zm9v"}, {"X-Api-Key": "12345"}, {"Cookie": "session=1"}, {"X": "Bearer abc"}]
)
def test_credential_in_a_plan_is_rejected_and_not_shown(headers: dict[str, str]) -> None:
    with pytest.raises(SubjectError, match="holds a credential") as raised:
        with_environment(headers, {})

    assert next(iter(headers.values())) not in str(raised.value)


def test_header_without_a_credential_may_be_literal() -> None:
    assert with_environment({"X-Scope-OrgID": "team-a"}, {}) == {"X-Scope-OrgID": "team-a"}


@pytest.mark.parametrize(
    "url",
    [
        "http://LocalHost/flags",
        "http://localhost:80/flags/",
        "http://127.0.0.1//flags",
        "http://[::1]/x/../flags",
        "http://localhost./%66lags",
    ],
)
def test_spellings_of_one_url_have_one_identity(url: str) -> None:
    assert flag_identity(url) == "http://localhost:80/flags"


def test_different_urls_have_different_identities_without_their_queries() -> None:
    urls = [
        "http://a/flags", "http://a:81/flags", "https://a/flags", "http://b/flags", "http://a/other",
        "http://a/flags?token=s3cret", "http://a/flags?token=other", "http://127.0.0.2/flags",
    ]  # fmt: skip

    identities = {flag_identity(url) for url in urls}

    assert len(identities) == len(urls)
    assert "s3cret" not in str(identities)


@pytest.mark.parametrize(("pointer", "value"), [("", {"a": [{"b/c": 1}]}), ("/a/0", {"b/c": 1}), ("/a/0/b~1c", 1)])
def test_json_pointer_reads_the_value_at_its_path(pointer: str, value: object) -> None:
    assert at_pointer({"a": [{"b/c": 1}]}, pointer) == value


@pytest.mark.parametrize("pointer", ["/x", "/a/1", "/a/x", "/a/0/b~1c/d"])
def test_json_pointer_to_a_missing_value_raises(pointer: str) -> None:
    with pytest.raises(LookupError):
        at_pointer({"a": [{"b/c": 1}]}, pointer)


PROMETHEUS = {
    "kind": "prometheus",
    "url": "http://127.0.0.1:9090",
    "query": "x{v='$arm'}",
    "requests": "r",
    "errors": "e",
}
FLAG = {"kind": "product_flag", "key": "f", "a": "off", "b": "on"}


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ({"live": True}, "product_flag"),
        ({"live": True, "flags": FLAG}, "requests"),
        ({"live": True, "flags": FLAG, "metric": {**PROMETHEUS, "errors": None}}, "errors"),
        ({"live": True, "flags": FLAG, "metric": {**PROMETHEUS, "query": "x"}}, "arm"),
        ({"flags": {**FLAG, "b": "off"}}, "the same"),
        ({"flags": {"kind": "http", "url": "ftp://x", "b": 1}}, "http://"),
        ({"flags": {"kind": "http", "url": "http://u:p@x", "b": 1}}, "user name"),
        ({"flags": {"kind": "http", "url": "http://x", "b": 1, "pointer": "a"}}, "pattern"),
        ({"flags": {"knob": 1}}, "knob"),
        ({"speed": 1}, "speed"),
    ],
)
def test_invalid_subject_is_rejected_with_the_problem(subject: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(Subject).validate_python(subject)


def test_subject_of_live_traffic_is_accepted() -> None:
    found = Subject.model_validate({"live": True, "flags": FLAG, "metric": PROMETHEUS})

    assert found.flags.kind == "product_flag"
    assert Subject.model_validate({"flags": {"write_path": "/f"}}).flags == ServiceFlagsSubject(write_path="/f")


def test_errors_of_subjects_are_input_errors() -> None:
    assert issubclass(SubjectError, InvalidInputError)


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ("canary: {}\n", "canary needs a flag with shares"),
        (
            "subject: {flags: {kind: http, url: 'http://x', b: 1}}\nexperiment: {conc_cap: 4}\n",
            "conc_cap: no effect",
        ),
        (
            (
                "subject: {live: true, flags: {kind: product_flag, key: f, a: x, b: y}, metric: {kind: prometheus,"
                " url: 'http://x', query: $arm, requests: r, errors: e}}\nexperiment: {qps: 4}\n"
            ),
            "qps: no effect",
        ),
        (
            "subject: {metric: {kind: json, url: 'http://x', pointer: /p95, requests: /n, errors: /bad}}\n",
            "metric.requests, metric.errors: no effect without `live: true`",
        ),
        ("subject: {speed: 1}\n", "speed"),
    ],
)
def test_field_of_a_plan_without_effect_is_rejected_by_name(plan: str, problem: str) -> None:
    with pytest.raises(PlanInvalidError) as raised:
        parse_plan(plan, "plan.yaml")

    assert problem in str(raised.value.problems)
