"""The shipped runbooks: one per cause, no lint findings, and actions that the action server offers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from relab.incidents.capabilities import capabilities
from relab.incidents.diagnosis.candidates import UNKNOWN
from relab.incidents.diagnosis.inference import Diagnosis
from relab.incidents.probes.catalogue import PROBES
from relab.knowledge.library import shipped_shelf
from relab.knowledge.lint import lint
from relab.knowledge.models import Runbook
from relab.testbed.actions.models import Action
from relab.testbed.actions.operations import dependencies, jobs, restarts, sessions, traffic
from relab.testbed.actions.operations import settings as setting_operations
from relab.testbed.chaos.faults.catalogue import FAULTS
from support.incidents.probe_answers import facts_of

SHELF = shipped_shelf()
CAUSES = {fault.name: fault.cause for fault in FAULTS.values()}
ACTIONS: dict[str, Action] = {
    kind.ACTION.name: kind.ACTION
    for module in (restarts, sessions, dependencies, setting_operations, traffic, jobs)
    for kind in module.OPERATIONS
}
EXAMPLES: dict[str, Any] = {
    "database.blocking.pid": "4711", "processes.frozen.component": "worker-1", "workers.growing.worker": "2",
    "workers.largest.worker": "1", "settings.before_change.version": 1.0, "flags.limit.usual_policy": "aimd",
    "flags.route.usual": "rules", "search.broken.worker": "1", "search.broken.last.worker": "2",
}  # fmt: skip
"""Probe results for the facts that action parameters use."""


def test_each_cause_has_a_shipped_runbook() -> None:
    assert SHELF.problems == ()
    assert sorted(runbook.cause for runbook in SHELF.runbooks) == sorted(CAUSES.values())
    assert {runbook.source for runbook in SHELF.runbooks} == {f"shipped/{cause}.md" for cause in CAUSES.values()}


def test_shipped_runbooks_have_no_lint_findings() -> None:
    assert lint(SHELF.runbooks, capabilities(ACTIONS)) == []


@pytest.mark.parametrize("runbook", SHELF.runbooks, ids=lambda runbook: runbook.cause)
def test_actions_of_a_shipped_runbook_accept_its_filled_parameters(runbook: Runbook) -> None:
    assert runbook.actions
    for action in runbook.actions:
        given = {name: filled(value) for name, value in action.parameters.items()}
        ACTIONS[action.action].parameters.model_validate_json(json.dumps(given))


def filled(value: object) -> object:
    found = re.fullmatch(r"\{([^{}]+)\}", value) if isinstance(value, str) else None
    return EXAMPLES[found[1]] if found else value


@pytest.mark.parametrize("runbook", SHELF.runbooks, ids=lambda runbook: runbook.cause)
def test_shipped_runbook_has_all_sections(runbook: Runbook) -> None:
    headings = re.findall(r"^## (.+)$", runbook.text, re.MULTILINE)
    assert headings == ["How it looks", "What it is not", "What to do", "How to see that it is over"]
    assert "Do not" in runbook.text
    assert runbook.mended


def test_shipped_runbooks_do_not_describe_fault_injection() -> None:
    for runbook in SHELF.runbooks:
        words = set(
            re.findall(r"[a-z_]+", f"{runbook.text} {runbook.title} {runbook.symptoms} {runbook.actions}".lower())
        )
        assert not words & (
            {"chaos", "inject", "injected", "injector", "fault", "faults", "attack", "toxic"} | only_faults()
        )


def only_faults() -> set[str]:
    """Return the names of faults that are neither names of causes nor plain words; runbooks must not use them."""
    return {name for name, cause in CAUSES.items() if name != cause and "_" in name} - set(CAUSES.values())


def test_healthy_target_satisfies_verification_and_suggests_no_cause() -> None:
    well = {fact: value for name in PROBES for fact, value in facts_of(name).items()}
    for runbook in SHELF.runbooks:
        assert [str(condition) for condition in runbook.mended if condition.holds(well) is not True] == []
        seldom = [each.condition for each in runbook.expects if each.otherwise < 0.5]
        assert [str(condition) for condition in seldom if condition.holds(well)] == []
    assert Diagnosis(SHELF.runbooks, well).candidates()[0].cause == UNKNOWN


@pytest.mark.parametrize("dependency", ["cache", "database"])
def test_late_errors_of_old_connections_do_not_show_the_repaired_cause_again(dependency: str) -> None:
    runbook = next(runbook for runbook in SHELF.runbooks if runbook.cause == f"{dependency}_path_reset")
    for lines, is_mended in ((0.0, True), (2.0, True), (3.0, False)):
        facts = {f"logs.{dependency}.cut": lines}
        assert all(condition.holds(facts) is True for condition in runbook.mended) is is_mended
