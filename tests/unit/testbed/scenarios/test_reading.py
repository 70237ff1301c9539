"""Scenario files: parsing, errors with their place, and the validity of the shipped scenarios."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest

from relab.testbed.actions.operations.catalogue import all_operations
from relab.testbed.actions.plant import Plant
from relab.testbed.chaos.faults.catalogue import INJECTABLES
from relab.testbed.scenarios.errors import ScenarioError, UnknownScenarioError
from relab.testbed.scenarios.models import HttpProvider
from relab.testbed.scenarios.reading import find_scenario, parse_scenario, shipped_names
from support.components.chaostoolkit import require_chaoslib

PROBE: dict[str, Any] = {
    "type": "probe", "name": "look", "tolerance": 200, "provider": {"type": "http", "url": "http://127.0.0.1:1"},
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "title": "A title",
    "description": "What it is for",
    "steady-state-hypothesis": {"title": "All is well", "probes": [PROBE]},
    "method": [{**PROBE, "name": "look again", "pauses": {"after": 1}}, {"ref": "look"}],
    "rollbacks": [],
}
FAULT_PATH = re.compile(r"^\$\{chaos_url\}/api/v1/break/([a-z_]+)(/stop)?(?:\?duration=\d+)?$")
ACTION_PATH = re.compile(r"^\$\{actions_url\}/action/([a-z-]+)$")


def changed(path: str, value: Any) -> str:
    """Return the document as JSON with another value at a dotted path; `...` removes the field."""
    document = copy.deepcopy(WHOLE)
    *way, last = path.split(".")
    at: Any = document
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(document)


def test_complete_document_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(WHOLE))
    (tmp_path / "t.yaml").write_text(json.dumps(WHOLE, indent=1))

    read = find_scenario(str(tmp_path / "s.json"))

    assert read.name == "s"
    assert read.document == WHOLE
    assert read.about == {}
    assert read.experiment.activity(read.experiment.method[1]).name == "look"
    assert find_scenario(str(tmp_path / "t.yaml")).experiment == read.experiment


MISTAKES = [
    ("title", ..., "title", "required"),
    ("method", ..., "method", "required"),
    ("rolbacks", [], "rolbacks", "not permitted"),
    ("controls", [{"name": "c"}], "controls", "chaos run"),
    ("method.0.type", "look", "method.0.type", "'action' or 'probe'"),
    ("method.0.provider.type", "ftp", "method.0.provider", "http, process or python"),
    ("method.0.provider.url", ..., "method.0.provider.url", "required"),
    ("method.0.provider.timout", 3, "method.0.provider.timout", "not permitted"),
    ("method.0.provider.timeout", [], "method.0.provider.timeout", "at least 1"),
    ("method.0.provider.method", "BREW", "method.0.provider.method", "'GET'"),
    ("method.0.pauses.after", "soon", "method.0.pauses.after", "must be 0 to"),
    ("method.0.pauses.after", -1, "method.0.pauses.after", "must be 0 to"),
    ("method.0.tolerance", 1.5, "method.0.tolerance", "must be a value"),
    ("method.0.tolerance", {"type": "probe"}, "method.0.tolerance", "must be a value"),
    ("method.0.tolerance", {"type": "regex", "pattern": "("}, "method.0.tolerance.pattern", "regular expression"),
    ("method.0.tolerance", {"type": "jsonpath", "path": "$.."}, "method.0.tolerance.path", "not understood"),
    ("method.0.tolerance", {"type": "range", "range": [1]}, "method.0.tolerance.range.1", "required"),
    ("method.1.ref", "nobody", "file", "activity of the method"),
    ("steady-state-hypothesis.probes.0.tolerance", ..., "file", "has no tolerance"),
    ("runtime", {"hypothesis": {"strategy": "often"}}, "runtime.hypothesis.strategy", "'continuously'"),
    ("extensions", [{"purpose": "x"}], "file", "extension has a name"),
]


@pytest.mark.parametrize(("path", "value", "place", "said"), MISTAKES)
def test_error_names_its_place(path: str, value: Any, place: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(changed(path, value), "s", source="s.json")

    told = dict(caught.value.problems)
    assert place in told, told
    assert said in told[place]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not YAML"),
        ("- a", "not a valid scenario"),
        ("[" * 1_200, "nested"),
        ("a: 1\na: 2", "s.yaml:2: the key 'a' occurs twice"),
        ("a:\n  b: yes", "s.yaml:2: YAML 1.1 does not take 'yes' for the same"),
        ("a:\n  b: 1e3", "s.yaml:2: YAML 1.1 does not take '1e3' for the same"),
        ("a:\n  b: -.5", "s.yaml:2: YAML 1.1 does not take '-.5' for the same"),
        ("a: &a {b: 1}\nc: {<<: *a}", "s.yaml:2: .*merge key"),
        ("a: !!python/name:os.system ''", "is not a plain value"),
    ],
)
def test_invalid_document_is_rejected(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse_scenario(text, "s", source="s.yaml")


@pytest.mark.parametrize(
    "provider", [{"type": "process", "path": "true"}, {"type": "python", "module": "os", "func": "getcwd"}]
)
def test_code_is_rejected_unless_it_is_allowed(provider: dict[str, Any]) -> None:
    text = changed("method.0.provider", provider)

    with pytest.raises(ScenarioError, match="--allow-code") as caught:
        parse_scenario(text, "s", source="s.json")
    assert caught.value.problems[0][0] == "look again"
    assert parse_scenario(text, "s", source="s.json", allow_code=True).experiment.method


def test_missing_oversized_and_binary_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UnknownScenarioError) as caught:
        find_scenario("nothing")
    assert caught.value.code == "unknown_scenario"
    assert "'nothing'" in caught.value.message
    assert "pool-leak" in str(caught.value)
    with pytest.raises(UnknownScenarioError, match=r"nothing\.yaml"):
        find_scenario(str(tmp_path / "nothing.yaml"))
    (tmp_path / "large.yaml").write_bytes(b" " * 2_000_000)
    with pytest.raises(ScenarioError) as caught:
        find_scenario(str(tmp_path / "large.yaml"))
    assert caught.value.problems[0][0].endswith("large.yaml:1")
    assert "larger" in caught.value.problems[0][1]
    (tmp_path / "binary.yaml").write_bytes(b"\xff")
    with pytest.raises(ScenarioError) as caught:
        find_scenario(str(tmp_path / "binary.yaml"))
    assert caught.value.problems[0][0].endswith("binary.yaml:1")
    assert "UTF-8" in caught.value.problems[0][1]


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_scenario_has_a_description_and_rollbacks(name: str) -> None:
    scenario, known = find_scenario(name), INJECTABLES
    experiment = scenario.experiment
    begun: dict[str, dict[str, Any]] = {}
    for step in experiment.method:
        provider = experiment.activity(step).provider
        assert isinstance(provider, HttpProvider)
        if found := FAULT_PATH.match(provider.url):
            begun[found.group(1)] = dict(cast("dict[str, Any]", provider.arguments or {}))
    stopped = {
        match.group(1)
        for step in experiment.rollbacks
        if (match := FAULT_PATH.match(str(getattr(experiment.activity(step).provider, "url", "")))) and match.group(2)
    }

    assert begun.keys() == stopped == set(scenario.about["faults"])
    for fault, arguments in begun.items():
        known[fault].read_parameters(arguments)
    assert experiment.runtime.rollbacks.strategy == "always"
    assert scenario.about["outcome"] in {"holds", "deviates unless repaired"}
    is_noise = all(known[fault].kind == "noise" for fault in begun)
    assert is_noise is (scenario.about["kind"] == "noise")


@pytest.mark.parametrize("name", shipped_names())
def test_repairs_of_a_shipped_scenario_belong_to_its_faults(name: str, tmp_path: Path) -> None:
    scenario, known = find_scenario(name), INJECTABLES
    plant = Plant(tmp_path / "nobody.sock", "http://127.0.0.1:1")
    operations = {operation.action.name for operation in all_operations(plant)}
    plant.close()
    repairs = {repair for fault in scenario.about["faults"] for repair in known[fault].repairs}
    asked = {
        match.group(1)
        for activity in scenario.experiment.activities()
        if (match := ACTION_PATH.match(str(getattr(activity.provider, "url", ""))))
    }

    assert set(scenario.about["repairs"]) <= repairs
    assert asked <= operations


def test_shipped_scenarios_cover_all_kinds() -> None:
    kinds = {find_scenario(name).about["kind"] for name in shipped_names()}

    assert kinds == {"single", "gradual", "intermittent", "compound", "noise", "sequence"}


def test_shipped_scenarios_are_valid_to_chaostoolkit() -> None:
    require_chaoslib()
    from chaoslib.experiment import ensure_experiment_is_valid

    for name in shipped_names():
        ensure_experiment_is_valid(find_scenario(name).document)


def test_very_long_name_is_an_unknown_scenario() -> None:
    with pytest.raises(UnknownScenarioError):
        find_scenario("x" * 5_000)


def test_range_that_is_not_a_number_is_rejected() -> None:
    text = changed("steady-state-hypothesis.probes.0.tolerance", {"type": "range", "range": [0, "NaN"]})

    with pytest.raises(ScenarioError, match="not a valid scenario") as refused:
        parse_scenario(text, "s", source="s.json")
    assert "not NaN" in str(refused.value.problems)


def test_number_with_an_exponent_is_read_from_json() -> None:
    text = changed("extensions", [{"name": "other", "value": 1e-7}])

    assert "1e-07" in text
    assert parse_scenario(text, "s", source="s.json").document["extensions"][0]["value"] == 1e-7
