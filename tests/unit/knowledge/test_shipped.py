"""The shipped runbooks: free of lint findings, and with only known actions, probes and facts."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping

import pytest
from pydantic import BaseModel

from relab.incidents.diagnosis.onset import ONSET
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.service_health import RELATIVE_FACTS
from relab.knowledge.library import load_library, shipped_shelf
from relab.knowledge.lint import Surroundings, Weight, lint
from relab.knowledge.models import Runbook
from relab.knowledge.reading import parse_runbook
from relab.knowledge.writing import write_runbook
from relab.testbed.actions.operations.catalogue import all_operations
from relab.testbed.actions.plant import Plant

RUNBOOKS = load_library().runbooks
BY_CAUSE = [pytest.param(runbook, id=runbook.cause) for runbook in RUNBOOKS]


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, type[BaseModel]]:
    """Return the parameter model of each action of a target."""
    plant = Plant(tmp_path_factory.mktemp("plant") / "nobody.sock", "http://127.0.0.1:1")
    found = {operation.action.name: operation.action.parameters for operation in all_operations(plant)}
    plant.close()
    return found


def test_each_cause_has_a_shipped_runbook() -> None:
    assert shipped_shelf().problems == ()
    assert len(RUNBOOKS) == len(shipped_shelf().runbooks) == 32


def names(facts: Iterable[str]) -> str:
    """Return a pattern that matches all names of these facts; `*` in a fact stands for any text."""
    return "|".join(fnmatch.translate(fact) for fact in facts)


def test_shipped_runbooks_name_only_known_actions_probes_and_facts(actions: Mapping[str, type[BaseModel]]) -> None:
    looks = {name: look.facts for name, look in PROBES.items()}

    remarks = lint(RUNBOOKS, Surroundings(actions=actions.keys(), looks=looks))

    assert [remark for remark in remarks if remark.weight is Weight.ERROR] == []


@pytest.mark.parametrize("runbook", BY_CAUSE)
def test_facts_of_a_shipped_runbook_come_from_a_probe(runbook: Runbook) -> None:
    given = names([*RELATIVE_FACTS, ONSET, *(fact for look in PROBES.values() for fact in look.facts)])
    wanted = [each.condition.fact for each in runbook.expects] + [
        each.fact for each in (*runbook.mended, *runbook.requires)
    ]

    assert [fact for fact in wanted if not re.match(given, fact)] == []


@pytest.mark.parametrize("runbook", BY_CAUSE)
def test_actions_of_a_shipped_runbook_accept_its_parameters(
    runbook: Runbook, actions: Mapping[str, type[BaseModel]]
) -> None:
    for each in runbook.actions:
        fields = {found.alias or name for name, found in actions[each.action].model_fields.items()}
        assert each.parameters.keys() <= fields, each.action
        if not each.needs:
            actions[each.action].model_validate(dict(each.parameters))


@pytest.mark.parametrize("runbook", BY_CAUSE)
def test_shipped_runbook_is_written_back_unchanged(runbook: Runbook) -> None:
    assert parse_runbook(write_runbook(runbook), runbook.source) == runbook
