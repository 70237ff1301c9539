"""The published JSON schemas: each is valid, accepts known documents, and reports the place of an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from relab.core.json import digest
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.schemas.agentlab import CONTRACT
from relab.experiments.schemas.check import check_file
from relab.experiments.schemas.documents import schema_named, schema_names
from support.experiments.configs import IDS

OUTPUT = {"schema_version": "trial_output_v1", "ids": IDS.to_json(), "outcome": "success"}
EVENT = {
    "event_type": "agent_step_start",
    "ts": "2026-01-01T00:00:00Z",
    "seq": 1,
    "ids": IDS.to_json(),
    "step_index": 0,
}
MANIFEST = {
    "schema_version": "harness_manifest_v1",
    "created_at": "2026-01-01T00:00:00Z",
    "integration_level": "cli_basic",
    "step": {"semantics": "none"},
}
HOOKS = {"schema_version": "hook_events_v1", "events_path": "/out/harness_events.jsonl"}


def check(folder: Path, document: Any, schema: str | None = None) -> tuple[str, int]:
    path = folder / "document.json"
    path.write_text(json.dumps(document))
    return check_file(path, schema)


def wrong(folder: Path, document: Any, schema: str | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ExperimentInvalidError) as caught:
        check(folder, document, schema)
    return [(place.removeprefix(str(folder / "document.json")), text) for place, text in caught.value.problems]


@pytest.mark.parametrize("name", schema_names())
def test_each_schema_is_valid_and_rejects_invalid_documents(name: str) -> None:
    schema = schema_named(name)

    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert not validator.is_valid([])
    assert not validator.is_valid({"schema_version": "another"})


@pytest.mark.parametrize(
    ("document", "schema"),
    [
        (OUTPUT, None),
        ({**OUTPUT, "answer": "x", "metrics": {"a": 1}, "objective": {"name": "loss", "value": 0.5}, "ext": {"x": 1}}, None),
        ({**OUTPUT, "checkpoints": [{"path": "/state/a", "step": 3, "epoch": 0.5}]}, "trial_output_v1"),
        (EVENT, "hook_events_v1"),
        ({**EVENT, "event_type": "tool_call_end", "call_id": "a", "tool": {"name": "t"}, "outcome": {"status": "ok"}}, "hook_events_v1"),
        (MANIFEST, None),
        ({**MANIFEST, "integration_level": "sdk_full", "hooks": HOOKS}, None),
        ({"schema_version": "knob_manifest_v1", "knobs": []}, None),
        ({"schema_version": "experiment_overrides_v1", "values": {"a": 1}, "manifest_path": "x"}, None),
    ],
)  # fmt: skip
def test_documents_of_the_contract_pass(tmp_path: Path, document: Any, schema: str | None) -> None:
    assert check(tmp_path, document, schema) == (schema or document["schema_version"], 1)


@pytest.mark.parametrize(
    ("document", "schema", "place"),
    [
        ({**OUTPUT, "outcome": "great"}, None, "/outcome"),
        ({**OUTPUT, "more": 1}, None, ""),
        ({**OUTPUT, "ids": {**IDS.to_json(), "repl_idx": -1}}, None, "/ids/repl_idx"),
        ({**OUTPUT, "checkpoints": [{"path": "a"}, {}]}, None, "/checkpoints/1"),
        ({**EVENT, "seq": "1"}, "hook_events_v1", "/seq"),
        ({**EVENT, "event_type": "error"}, "hook_events_v1", ""),
        ({**EVENT, "event_type": "mine"}, "hook_events_v1", ""),
        ({**MANIFEST, "integration_level": "cli_events"}, None, ""),
        ({**MANIFEST, "integration_level": "otel"}, None, ""),
        ([], "trial_output_v1", ""),
    ],
)
def test_error_names_its_place(tmp_path: Path, document: Any, schema: str | None, place: str) -> None:
    assert place in {where for where, _ in wrong(tmp_path, document, schema)}


def test_each_line_of_a_json_lines_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps({**EVENT, "seq": number}) + "\n" for number in range(3)) + "\n")
    assert check_file(path, "hook_events_v1") == ("hook_events_v1", 3)

    with path.open("a") as file:
        file.write(json.dumps({**EVENT, "seq": -1}) + "\n")
    with pytest.raises(ExperimentInvalidError) as caught:
        check_file(path, "hook_events_v1")
    assert caught.value.problems[0] == (f"{path}:5/seq", "-1 is less than the minimum of 0")


@pytest.mark.parametrize(
    ("content", "schema", "says"),
    [
        ("{", None, "is not valid JSON"),
        ("", None, "contains no document"),
        ("{}", None, "has no schema_version"),
        ("{}", "trial_output_v9", "There is no schema 'trial_output_v9'"),
    ],
)
def test_unreadable_document_is_reported(tmp_path: Path, content: str, schema: str | None, says: str) -> None:
    path = tmp_path / "document.json"
    path.write_text(content)
    with pytest.raises(ExperimentInvalidError, match=says):
        check_file(path, schema)
    with pytest.raises(ExperimentInvalidError, match=r"absent\.json .*No such file"):
        check_file(tmp_path / "absent.json", schema)


# Computed from AgentLab's published schemas (2026-02-12), with local references inlined and annotations removed.
CONTRACT_DIGESTS = {
    "attestation_v1": "1a3d3a0043b696b7",
    "evidence_record_v1": "ca2249a684ec5e66",
    "experiment_overrides_v1": "24eb89e1314408ba",
    "grades_v1": "cb993d0dbb573ffa",
    "harness_manifest_v1": "d7d0e1b819351b0d",
    "hook_events_v1": "8c5bd8e8aead6e85",
    "knob_manifest_v1": "5916cc83b2999848",
    "manifest_v1": "652513735de28c76",
    "resolved_experiment_v0_3": "e43f6c14bf6245e3",
    "state_inventory_v1": "32f8e0797dcbf9f1",
    "task_chain_state_v1": "f2c320de0e492b44",
    "trace_manifest_v1": "59ac07466f8bc6c9",
    "trial_input_v1": "be9e10ede9bc2a34",
    "trial_output_v1": "34058487b744e643",
}


def ordered(schema: Any) -> Any:
    """Return a copy of a schema with its order-independent lists (`required`, `enum`) sorted."""
    if isinstance(schema, dict):
        sets = ("required", "enum")
        return {name: sorted(value, key=str) if name in sets else ordered(value) for name, value in schema.items()}
    return [ordered(item) for item in schema] if isinstance(schema, list) else schema


def test_contract_schemas_equal_those_published_by_agentlab() -> None:
    assert {name: digest(ordered(schema))[7:23] for name, schema in CONTRACT.items()} == CONTRACT_DIGESTS


def test_attestation_refers_to_the_schema_of_its_grades(tmp_path: Path) -> None:
    attestation = {
        "schema_version": "attestation_v1",
        "resolved_experiment_digest": "sha256:" + "1" * 64,
        "events_hashchain": [],
        "grades_summary": {"success": 2},
    }
    assert {where for where, _ in wrong(tmp_path, attestation)} == {"/grades_summary"}


def test_schema_is_found_by_the_name_of_agentlabs_file(tmp_path: Path) -> None:
    assert check(tmp_path, OUTPUT, "trial_output_v1.jsonschema")[1] == 1


def test_schema_is_the_same_with_and_without_the_suffix() -> None:
    assert schema_named("trial_output_v1.jsonschema") == schema_named("trial_output_v1")
