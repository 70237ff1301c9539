"""The actions that a runbook may name are those that the action server has."""

from __future__ import annotations

from relab.knowledge.actions import ACTIONS
from relab.testbed.actions.operations import dependencies, jobs, restarts, sessions, settings, traffic


def test_they_are_those_of_the_action_server() -> None:
    modules = (restarts, sessions, dependencies, settings, traffic, jobs)

    assert sorted(ACTIONS) == sorted(kind.ACTION.name for module in modules for kind in module.OPERATIONS)
