"""The actions that runbooks may name equal those of the action server."""

from __future__ import annotations

from relab.knowledge.actions import ACTIONS
from relab.testbed.actions.operations import dependencies, jobs, restarts, sessions, settings, traffic


def test_runbook_actions_equal_those_of_the_action_server() -> None:
    modules = (restarts, sessions, dependencies, settings, traffic, jobs)

    assert sorted(ACTIONS) == sorted(kind.ACTION.name for module in modules for kind in module.OPERATIONS)
