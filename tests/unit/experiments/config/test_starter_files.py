"""Files of `lab init` and `lab knobs-init`: valid once filled in, and never overwritten after edits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from relab.experiments.config.knobs import load_overrides, read_manifest
from relab.experiments.config.starter_files import EXPERIMENT, SCHEMA, experiment_schema, write_experiment, write_knobs
from relab.experiments.errors import ExperimentInvalidError
from support.experiments.configs import document
from support.experiments.documents import read_config

KINDS = [("agent_harness", False), ("agent_harness", True), ("trainer", False), ("trainer", True)]


@pytest.mark.parametrize(("workload", "container"), KINDS)
def test_skeleton_needs_exactly_its_required_fields(tmp_path: Path, workload: str, container: bool) -> None:
    written = write_experiment(tmp_path, workload_type=workload, container=container)
    assert written == [tmp_path / EXPERIMENT, tmp_path / SCHEMA]
    text = written[0].read_text()
    marked = [f"{written[0]}:{n}" for n, line in enumerate(text.splitlines(), 1) if "# REQUIRED" in line]

    with pytest.raises(ExperimentInvalidError) as caught:
        read_config(written[0])
    assert [place.rsplit(": ", 1)[0] for place, _ in caught.value.problems] == marked
    assert len(marked) == (5 if container else 4)


@pytest.mark.parametrize(("workload", "container"), KINDS)
def test_a_skeleton_that_is_filled_in_can_be_read(tmp_path: Path, workload: str, container: bool) -> None:
    path = write_experiment(tmp_path, workload_type=workload, container=container)[0]
    text = path.read_text()
    for empty, full in {
        'id: ""': "id: demo",
        'name: ""': "name: Demo",
        'path: ""': "path: ../tasks.jsonl",
        "command: []": "command: [python, -m, x]",
        'image: ""': "image: x",
    }.items():
        text = text.replace(empty, full)
    path.write_text(text)
    found = read_config(path)

    assert found.experiment.workload_type == workload
    assert found.runtime.sandbox.mode == ("container" if container else "local")
    assert found.runtime.sandbox.image == ("x" if container else None)
    assert found.analysis.primary_metrics == (["val_acc"] if workload == "trainer" else ["success"])
    assert len(found.metrics) == (2 if workload == "trainer" else 0)
    assert [variant.variant_id for variant in found.variants] == ["control", "treatment"]


def test_commented_fields_of_a_skeleton_exist(tmp_path: Path) -> None:
    text = write_experiment(tmp_path, workload_type="agent_harness", container=False)[0].read_text()
    lines = []
    for line in text.splitlines():
        body = line.lstrip()
        name = body.removeprefix("# ").split(":")[0]
        if body.startswith("# ") and name.isidentifier() and not body.startswith("# yaml"):
            line = line.replace("# ", "", 1)  # noqa: PLW2901 the same line, switched on
        lines.append(line)
    (tmp_path / EXPERIMENT).write_text("\n".join(lines))

    with pytest.raises(ExperimentInvalidError) as caught:
        read_config(tmp_path / EXPERIMENT)
    assert not [message for _, message in caught.value.problems if "is no field" in message]


def test_schema_accepts_the_same_files_as_the_reader() -> None:
    schema = experiment_schema()
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.Draft202012Validator(schema)

    good: list[dict[str, Any]] = [
        document(),
        document(runtime__harness__environment={"pass": ["A"], "set": {"B": "c"}}),
        document(design__policies={"scheduling": "randomized"}, runtime__network={"mode": "full"}),
    ]
    for item in good:
        assert validator.is_valid(item)
    for item in (document(desing=1), document(experiment={"id": "a"}), document(design__replications=0)):
        assert not validator.is_valid(item)


def test_schema_is_rewritten_and_the_experiment_is_not(tmp_path: Path) -> None:
    (tmp_path / ".lab").mkdir()
    (tmp_path / SCHEMA).write_text("old")
    write_experiment(tmp_path, workload_type="trainer", container=False)
    assert json.loads((tmp_path / SCHEMA).read_text())["title"] == "relab experiment 0.3"

    (tmp_path / EXPERIMENT).write_text("mine")
    with pytest.raises(ExperimentInvalidError) as caught:
        write_experiment(tmp_path, workload_type="trainer", container=False)
    assert "experiment.yaml exists" in caught.value.message
    assert "`lab clean --init`" in caught.value.remedy
    assert (tmp_path / EXPERIMENT).read_text() == "mine"


def test_target_of_a_link_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".lab").mkdir()
    (tmp_path / "precious").write_text("x")
    (tmp_path / EXPERIMENT).symlink_to(tmp_path / "precious")

    with pytest.raises(ExperimentInvalidError, match=r"experiment\.yaml exists"):
        write_experiment(tmp_path, workload_type="trainer", container=False)
    assert (tmp_path / "precious").read_text() == "x"


def test_file_in_the_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".lab").write_text("a file")

    with pytest.raises(ExperimentInvalidError, match=r"\.lab .*File exists"):
        write_experiment(tmp_path, workload_type="trainer", container=False)
    with pytest.raises(ExperimentInvalidError, match=r"knobs .*Not a directory"):
        write_knobs(tmp_path)


def test_knobs_that_were_just_made_change_nothing(tmp_path: Path) -> None:
    manifest, overrides = write_knobs(tmp_path)

    assert load_overrides(overrides, tmp_path) == []
    experiment = yaml.safe_load(write_experiment(tmp_path, workload_type="trainer", container=False)[0].read_text())
    for knob in read_manifest(manifest).knobs:
        node = experiment
        for part in knob.json_pointer.split("/")[1:-1]:
            node = node[part]
        assert isinstance(node, dict)


@pytest.mark.parametrize("there", ["manifest.json", "overrides.json"])
def test_both_knob_files_are_written_or_neither(tmp_path: Path, there: str) -> None:
    folder = tmp_path / ".lab" / "knobs"
    folder.mkdir(parents=True)
    (folder / there).write_text("mine")

    with pytest.raises(ExperimentInvalidError, match=f"{there} exists"):
        write_knobs(tmp_path)
    assert [path.name for path in folder.iterdir()] == [there]
    assert (folder / there).read_text() == "mine"
