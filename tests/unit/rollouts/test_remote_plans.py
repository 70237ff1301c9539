"""Hosts in plans: only loopback and configured hosts and ports are allowed."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rollouts.errors import PlanInvalidError
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.subject import Subject
from relab.rollouts.remote_plans import reject_hosts

INTERNAL = "http://10.0.0.7:8080/x"
HTTP_FLAG = {"kind": "http", "url": "http://127.0.0.1/x", "b": 1}


def plan_of(base_url: str = "http://127.0.0.1:8011", **subject: Any) -> Plan:
    return Plan(base_url=base_url, subject=Subject.model_validate(subject))


def rejected_fields(plan: Plan, allowed: list[str]) -> list[str]:
    try:
        reject_hosts(plan, allowed)
    except PlanInvalidError as error:
        return [name for name, _ in error.problems]
    return []


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (plan_of("http://169.254.169.254"), "base_url"),
        (plan_of("http://localhost.example.com"), "base_url"),
        (plan_of("http://2130706433"), "base_url"),
        (plan_of(flags={**HTTP_FLAG, "url": INTERNAL}), "subject.flags.url"),
        (plan_of(flags={**HTTP_FLAG, "read_url": INTERNAL}), "subject.flags.read_url"),
        (plan_of(health={"url": INTERNAL}), "subject.health.url"),
        (plan_of(metric={"kind": "json", "url": INTERNAL, "pointer": ""}), "subject.metric.url"),
        (plan_of(metric={"kind": "prometheus", "url": INTERNAL, "query": "x"}), "subject.metric.url"),
    ],
)
def test_other_host_is_rejected_with_the_field(plan: Plan, field: str) -> None:
    assert rejected_fields(plan, []) == [field]


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:8011"])
def test_loopback_is_allowed(url: str) -> None:
    assert rejected_fields(plan_of(url), []) == []


@pytest.mark.parametrize("allowed", ["shop.example", "shop.example:8011"])
def test_configured_host_is_allowed(allowed: str) -> None:
    assert rejected_fields(plan_of("http://Shop.example:8011"), [allowed]) == []


def test_configured_port_does_not_allow_another_port() -> None:
    with pytest.raises(PlanInvalidError):
        reject_hosts(plan_of("http://shop.example:9000"), ["shop.example:8011"])
