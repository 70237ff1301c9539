"""Runbooks and past incidents for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.knowledge.models import (
    Expectation,
    FactCondition,
    FactValue,
    Operator,
    PastIncident,
    Resolver,
    Risk,
    Runbook,
    RunbookAction,
)

TEXT = """\
---
cause: connection_pool_leak
title: The service leaks database connections
prior: 1.5
risk: low
symptoms:
  - "requests wait for a database connection and time out"
looks: [pool, database.sessions]
expects:
  - {fact: pool.used_pct, at_least: 95, likely: 0.95, otherwise: 0.05}
  - {fact: dependency.database, is: ok, likely: 0.9, otherwise: 0.6}
actions:
  - {action: remediate-pool, parameters: {worker: "{worker.name}", count: 3}, why: "It gives back what is held."}
mended:
  - {fact: pool.pending, at_most: 0}
---

# What to do

Ask the *pool*.
"""
"""A complete runbook file; tests refer to its line numbers."""


def expects(
    fact: str, value: FactValue, likely: float, otherwise: float, operator: Operator = Operator.AT_LEAST
) -> Expectation:
    """Return an expectation; by default that a number is at least `value`."""
    return Expectation(FactCondition(fact, operator, value), likely, otherwise)


def runbook(cause: str = "cause", **changed: Any) -> Runbook:
    """Return a valid runbook; each cause expects a different signal."""
    fields: dict[str, Any] = {
        "cause": cause,
        "title": f"What {cause} is",
        "symptoms": (f"all goes wrong because of {cause}",),
        "expects": (expects(f"{cause}.signal", 5.0, 0.9, 0.1),),
        "looks": (),
        "actions": (RunbookAction("mend", {}, "It mends."),),
        "mended": (FactCondition(f"{cause}.signal", Operator.AT_MOST, 1.0),),
        "risk": Risk.LOW,
        "text": "What to know.",
        "source": f"{cause}.md",
    }
    return Runbook(**{**fields, **changed})


def past(
    incident_id: str,
    cause: str,
    facts: Mapping[str, FactValue] | None = None,
    templates: Mapping[str, int] | None = None,
    **changed: Any,
) -> PastIncident:
    """Return a past incident that a person closed."""
    fields: dict[str, Any] = {
        "incident_id": incident_id,
        "opened_at": 1_700_000_000_000_000,
        "resolved_at": 1_700_000_060_000_001,
        "cause": cause,
        "facts": facts or {},
        "templates": templates or {},
        "resolved_by": Resolver.PERSON,
        "resolver": "ann",
    }
    return PastIncident(**{**fields, **changed})
