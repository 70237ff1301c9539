"""The experiment file: defaults, older spellings, and errors that name file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from relab.experiments.config.file import EXPERIMENT_YAML, check_config
from relab.experiments.config.knobs import Knob, apply_overrides
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.policies import Scheduling
from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.sandbox.kinds import SandboxMode
from relab.experiments.sandbox.protocol import NetworkMode
from support.experiments.configs import config, document
from support.experiments.documents import read_config

PATH = Path("experiment.yaml")
MINIMAL = """\
version: "0.3"
experiment:
  id: demo
  name: A demo
dataset:
  path: tasks.jsonl
baseline:
  variant_id: control
runtime:
  harness:
    command: [python, harness.py]
"""


def check(text: str) -> ExperimentConfig:
    source = EXPERIMENT_YAML.parse(text, PATH)
    return check_config(source.value, source)


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ExperimentInvalidError) as caught:
        check(text)
    return list(caught.value.problems)


def problem(**fields: Any) -> tuple[str, str]:
    found = problems(yaml.safe_dump(document(**fields)))
    assert len(found) == 1
    place, message = found[0]
    return place.split(": ", 1)[-1], message


def test_defaults_are_those_of_the_contract() -> None:
    found = check(MINIMAL)

    assert found.design.replications == 1
    assert found.design.policies.scheduling is Scheduling.PAIRED_INTERLEAVED
    assert found.design.policies.state is StatePolicy.ISOLATE_PER_TRIAL
    assert found.runtime.network.mode is NetworkMode.NONE
    assert found.runtime.sandbox.mode is SandboxMode.LOCAL
    assert found.runtime.harness.output_path == "/out/trial_output.json"
    assert found.runtime.harness.control_plane.path == "/state/lab_control.json"
    assert found.analysis.primary_metrics == ["success"]


def test_older_spellings_are_read() -> None:
    found = check(MINIMAL.replace('"0.3"', "0.3") + "  sandbox: {mode: docker, image: x}\n")

    assert found.version == "0.3"
    assert found.runtime.sandbox.mode is SandboxMode.CONTAINER


def test_resolved_configuration_reads_back_unchanged() -> None:
    found = config(
        variant_plan=[{"variant_id": "b", "bindings": {"x": [1, {"y": None}], "no": 0.5}}],
        runtime__harness__environment={"pass": ["REGION"], "set": {"MODE": "test"}},
        design__policies__retry={"max_attempts": 3, "retry_on": ["failure"]},
        metrics=[{"id": "m", "source": "output", "json_pointer": "/metrics/m"}],
        ext={"anything": [1, 2]},
    )

    again = ExperimentConfig.model_validate(found.resolved())
    assert again.resolved() == found.resolved()
    assert again.model_dump(exclude={"design": {"policies": {"comparison"}}}) == found.model_dump(
        exclude={"design": {"policies": {"comparison"}}}
    )
    assert found.resolved()["runtime"]["harness"]["environment"] == {"pass": ["REGION"], "set": {"MODE": "test"}}


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("  name: A demo\n", "", "experiment.yaml:2: experiment.name", "is REQUIRED and missing"),
        ("version: ", "versoin: ", "experiment.yaml:1: version", "is REQUIRED and missing"),
        ("  id: demo", "  id: a/b", "experiment.yaml:3: experiment.id", "an id must not contain '/'"),
        ("  id: demo", "  id: ''", "experiment.yaml:3: experiment.id", "an id has 1 to 200 characters, not 0"),
        ("  id: demo", "  id: 7", "experiment.yaml:3: experiment.id", "input should be a valid string, not 7"),
        ("  id: demo", "  id:", "experiment.yaml:3: experiment.id", "input should be a valid string, not null"),
        ("command: [python, harness.py]", "command: python", "experiment.yaml:11: runtime.harness.command", "list"),
        ("command: [python, harness.py]", "command: []", "experiment.yaml:11: runtime.harness.command", "at least 1"),
        (
            "command: [python, harness.py]",
            "command:\n    - python\n    - 3.11",
            "experiment.yaml:13: runtime.harness.command.1",
            "string, not 3.11",
        ),
        ('"0.3"', '"0.4"', "experiment.yaml:1: version", "input should be '0.3', not '0.4'"),
    ],
)
def test_error_names_file_line_and_field(old: str, new: str, place: str, message: str) -> None:
    assert old in MINIMAL
    found = dict(problems(MINIMAL.replace(old, new)))

    assert place in found
    assert message in found[place]


@pytest.mark.parametrize(
    ("fields", "place", "hint"),
    [
        ({"desing": {}}, "desing", "design"),
        ({"design__replicatons": 3}, "design.replicatons", "replications"),
        ({"runtime__sandbox": {"resources": {"memory": 4}}}, "runtime.sandbox.resources.memory", "memory_mb"),
        ({"variant_plan": [{"variant_id": "b", "binding": {}}]}, "variant_plan.0.binding", "bindings"),
        ({"runtime__harness__environment": {"pas": []}}, "runtime.harness.environment.pas", "pass"),
    ],
)
def test_unknown_field_is_reported_with_the_nearest_known_one(fields: dict[str, Any], place: str, hint: str) -> None:
    found = problem(**fields)

    assert found[0] == place
    assert found[1] == f"is an unknown field (did you mean {hint!r}?)"


@pytest.mark.parametrize("name", ["a[b", "list[int]", "[", "x y"])
def test_a_field_with_a_bracket_is_an_unknown_field_too(name: str) -> None:
    assert problem(**{name: 1}) == (name, "is an unknown field")


def test_all_problems_are_reported() -> None:
    text = MINIMAL.replace("  id: demo\n", "").replace("  path: tasks.jsonl", "  pth: tasks.jsonl")

    assert [place for place, _ in problems(text)] == [
        "experiment.yaml:2: experiment.id",
        "experiment.yaml:4: dataset.path",
        "experiment.yaml:5: dataset.pth",
    ]
    with pytest.raises(ExperimentInvalidError) as caught:
        check(text)
    assert [place for place, _ in caught.value.problems] == [
        "experiment.yaml:2: experiment.id",
        "experiment.yaml:4: dataset.path",
        "experiment.yaml:5: dataset.pth",
    ]
    assert "(and 2 more)" in caught.value.message


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "7\n"])
def test_file_that_is_not_a_mapping_is_rejected(text: str) -> None:
    with pytest.raises(ExperimentInvalidError, match="mapping"):
        check(text)


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({"design__replications": 0}, "design.replications", "greater than or equal to 1, not 0"),
        ({"design__replications": 2.0}, "design.replications", "integer, not 2.0"),
        ({"design__replications": True}, "design.replications", "integer, not true"),
        ({"design__shuffle_tasks": "no"}, "design.shuffle_tasks", "boolean, not 'no'"),
        ({"design__max_concurrency": 0}, "design.max_concurrency", "greater than or equal to 1"),
        ({"design__sanitization_profile": "clean"}, "design.sanitization_profile", "hermetic_functional_v2"),
        ({"design__policies": {"scheduling": "random"}}, "design.policies.scheduling", "randomized"),
        ({"design__policies": {"comparison": "none"}}, "design", "contradict each other"),
        ({"dataset__limit": 0}, "dataset.limit", "greater than or equal to 1"),
        ({"runtime__timeouts": {"trial_seconds": 0}}, "runtime.timeouts.trial_seconds", "greater than 0"),
        ({"runtime__network": {"mode": "off"}}, "runtime.network.mode", "'none'"),
        ({"runtime__network": {"allowed_hosts": ["a"]}}, "runtime.network", "set mode to 'allowlist_enforced'"),
        (
            {"runtime__model_gateways": [{"variable": "A", "upstream": "https://a.example/v1 "}]},
            "runtime.model_gateways.0.upstream",
            "white space",
        ),
        (
            {"runtime__harness": {"command": ["a"], "input_path": "/etc/x"}},
            "runtime.harness.input_path",
            "not '/etc/x'",
        ),
        ({"runtime__sandbox": {"image": ""}}, "runtime.sandbox.image", "at least 1 character"),
        ({"variant_plan": [{"variant_id": "control"}]}, "variant_plan.0.variant_id", "the id 'control' occurs twice"),
        ({"metrics": [{"id": "m", "source": "output"}]}, "metrics.0", "needs json_pointer"),
        ({"metrics": [{"id": "m", "source": "events"}]}, "metrics.0", "needs event_type"),
        ({"metrics": [{"id": "m", "source": "artifacts"}]}, "metrics.0", "needs artifact_measure"),
        ({"artifacts": {"diff": False}}, "artifacts.diff", "always kept"),
        ({"metrics": [{"id": "m", "source": "runner"}] * 2}, "metrics.1.id", "the id 'm' occurs twice"),
    ],
)
def test_invalid_value_is_rejected_at_its_field(fields: dict[str, Any], place: str, message: str) -> None:
    found = problem(**fields)

    assert found[0].split(":")[0].removeprefix("experiment.yaml") == place
    assert message in found[1]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "out/x.json",
        "/out",
        "/out/",
        "/out/..",
        "/out/../etc/x",
        "/out/a/../../x",
        "/out//etc/x",
        "/out/./x",
        "/out/a/",
        "/dataset/x",
    ],
)
def test_path_outside_the_trial_folders_is_rejected(path: str) -> None:
    place, message = problem(runtime__harness__output_path=path)

    assert place == "runtime.harness.output_path"
    assert message.startswith("the path must be a file below one of /out/")


@pytest.mark.parametrize(
    "fields",
    [
        {"output_path": "/out/trial_input.json"},
        {"events": {"path": "/out/trial_output.json"}},
        {"control_plane": {"path": "/out/trial_output.json/control"}},
        {"input_path": "/out/harness_events.jsonl"},
    ],
)
def test_two_documents_in_one_file_are_refused(fields: dict[str, Any]) -> None:
    place, message = problem(runtime__harness={"command": ["x"], **fields})

    assert place == "runtime.harness"
    assert "need different files" in message


@pytest.mark.parametrize("name", ["", "A=B", "="])
def test_invalid_name_of_a_variable_is_rejected(name: str) -> None:
    place, message = problem(runtime__harness__environment={"set": {name: "x"}})

    assert place == "runtime.harness.environment.set"
    assert message == f"{name!r} cannot be the name of a variable"


def test_experiment_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(MINIMAL)

    assert read_config(path).experiment.name == "A demo"


def test_experiment_with_deeply_nested_overrides_is_refused() -> None:
    source = EXPERIMENT_YAML.parse(MINIMAL, PATH)
    assert isinstance(source.value, dict)
    pointer = "/baseline/bindings" + "/a" * 5_000
    changed, _ = apply_overrides(source.value, [(Knob(id="k", json_pointer=pointer, type="json"), 1)])

    with pytest.raises(ExperimentInvalidError, match="nested deeper than 100"):
        check_config(changed, source)
