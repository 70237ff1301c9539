"""Knobs: the rules for overrides, and the error for each broken rule."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.config.knobs import Knob, apply_overrides, load_overrides, read_manifest, read_overrides
from relab.experiments.errors import ExperimentInvalidError


def knob(**fields: Any) -> dict[str, Any]:
    return {"id": "k", "json_pointer": "/a", "type": "integer", **fields}


def manifest(folder: Path, *knobs: dict[str, Any]) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"knobs": knobs}))
    return path


def load(folder: Path, values: dict[str, Any], *knobs: dict[str, Any]) -> list[tuple[Knob, Any]]:
    manifest(folder, *knobs)
    overrides = folder / "overrides.json"
    overrides.write_text(json.dumps({"manifest_path": "manifest.json", "values": values}))
    return load_overrides(overrides, folder)


def refused(folder: Path, value: Any, **fields: Any) -> str:
    with pytest.raises(ExperimentInvalidError) as caught:
        load(folder, {"k": value}, knob(**fields))
    assert [place for place, _ in caught.value.problems] == [f"{folder / 'overrides.json'}: k"]
    return caught.value.problems[0][1]


def pointed(pointer: str, value: Any, document: Any) -> Any:
    changed, _ = apply_overrides(document, [(Knob(id="k", json_pointer=pointer, type="json"), value)])
    return changed


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", "x"),
        ("string", ""),
        ("integer", 0),
        ("integer", -3),
        ("number", 1),
        ("number", 1.5),
        ("boolean", False),
        ("array", []),
        ("object", {"a": 1}),
        ("json", None),
        ("json", [1, {"a": True}]),
    ],
)
def test_value_of_the_declared_type_is_accepted(tmp_path: Path, kind: str, value: Any) -> None:
    assert [found for _, found in load(tmp_path, {"k": value}, knob(type=kind))] == [value]


@pytest.mark.parametrize(
    ("kind", "value", "given_type"),
    [
        ("string", 1, "integer"),
        ("string", None, "null"),
        ("integer", 1.0, "number"),
        ("integer", "1", "string"),
        ("integer", True, "boolean"),
        ("number", True, "boolean"),
        ("number", "1", "string"),
        ("boolean", 1, "integer"),
        ("boolean", "true", "string"),
        ("array", {}, "object"),
        ("object", [], "array"),
    ],
)
def test_value_of_another_type_is_rejected(tmp_path: Path, kind: str, value: Any, given_type: str) -> None:
    assert refused(tmp_path, value, type=kind) == f"is of type {kind}, not {given_type}"


@pytest.mark.parametrize(
    ("options", "value", "fits"),
    [
        (["a", "b"], "b", True),
        (["a", "b"], "c", False),
        ([1, 2], 1, True),
        ([1, 2], True, False),
        ([True], 1, False),
        ([[1]], [True], False),
        ([{"a": 1}], {"a": 1}, True),
        ([{"a": 0}], {"a": False}, False),
        ([1, 0.5], 1.0, True),
        ([None], None, True),
        ([], "a", False),
    ],
)
def test_value_must_be_one_of_the_options(tmp_path: Path, options: list[Any], value: Any, fits: bool) -> None:
    if fits:
        assert load(tmp_path, {"k": value}, knob(type="json", options=options))
    else:
        assert refused(tmp_path, value, type="json", options=options) == f"is one of {options}, not {value!r}"


def test_bounds_are_inclusive(tmp_path: Path) -> None:
    bounds = {"minimum": 1, "maximum": 1_234_567}

    assert load(tmp_path, {"k": 1}, knob(**bounds))
    assert load(tmp_path, {"k": 1_234_567}, knob(**bounds))
    assert refused(tmp_path, 0, **bounds) == "is 1 at least, not 0"
    # The message must show the exact bound, not 1.23457e+06.
    assert refused(tmp_path, 1_234_568, **bounds) == "is 1234567 at most, not 1234568"
    assert refused(tmp_path, 0.4, type="number", minimum=0.5) == "is 0.5 at least, not 0.4"


def test_unknown_knob_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError) as caught:
        load(tmp_path, {"design.replication": 1, "zzz": 2}, knob(id="design.replications"))

    path = tmp_path / "manifest.json"
    assert [message for _, message in caught.value.problems] == [
        f"is no knob of {path} (did you mean 'design.replications'?)",
        f"is no knob of {path}",
    ]


def test_every_wrong_value_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError) as caught:
        load(tmp_path, {"a": "x", "b": 1, "c": 2}, knob(id="a"), knob(id="b"), knob(id="c", maximum=1))

    assert [place.rsplit(": ", 1)[1] for place, _ in caught.value.problems] == ["a", "c"]


def test_given_manifest_replaces_the_one_named_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "overrides.json").write_text('{"manifest_path": "none.json", "values": {"k": 1}}')
    given_manifest = manifest(tmp_path, knob())

    with pytest.raises(ExperimentInvalidError, match=r"none\.json .*No such file"):
        load_overrides(tmp_path / "overrides.json", tmp_path)
    assert load_overrides(tmp_path / "overrides.json", tmp_path, given_manifest)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "text"}, "knobs.0.type"),
        ({"json_pointer": "a"}, "knobs.0.json_pointer"),
        ({"json_pointer": ""}, "knobs.0.json_pointer"),
        ({"json_pointer": "/"}, "knobs.0.json_pointer"),
        ({"json_pointer": "/a~2"}, "knobs.0.json_pointer"),
        ({"json_pointer": "/a~"}, "knobs.0.json_pointer"),
        ({"role": "other"}, "knobs.0.role"),
        ({"scientific_role": "other"}, "knobs.0.scientific_role"),
        ({"id": ""}, "knobs.0.id"),
        ({"maximun": 3}, "knobs.0.maximun"),
        ({"minimum": "1"}, "knobs.0.minimum"),
        ({"type": "string", "minimum": 1}, "the knob 'k' of type string has a minimum"),
        ({"type": "boolean", "maximum": 1}, "the knob 'k' of type boolean has a maximum"),
        ({"minimum": 2, "maximum": 1}, "has a minimum of 2 above its maximum of 1"),
    ],
)
def test_invalid_manifest_is_rejected_with_its_path(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = manifest(tmp_path, knob(**fields))

    with pytest.raises(ExperimentInvalidError) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_repeated_knob_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError, match="'k' occurs twice"):
        read_manifest(manifest(tmp_path, knob(), knob()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("", "is not valid JSON"),
        ('{"values": {"a": 1, "a": 2}}', "is not valid JSON"),
        ('{"values": {"a": NaN}}', "is not valid JSON"),
        ("[]", "Input should be"),
        ("{}", "values: Field required"),
        ('{"values": []}', "values: Input should be"),
        (
            '{"schema_version": "v9", "values": {}}',
            "schema_version: Input should be 'experiment_overrides_v1', not 'v9'",
        ),
    ],
)
def test_invalid_overrides_are_rejected_with_their_path(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "overrides.json"
    path.write_text(text)

    with pytest.raises(ExperimentInvalidError) as caught:
        read_overrides(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pointer", "document", "expected"),
    [
        ("/a", {"a": 1}, {"a": 9}),
        ("/a/b", {"a": {"b": 1, "c": 2}}, {"a": {"b": 9, "c": 2}}),
        ("/a/b/c", {}, {"a": {"b": {"c": 9}}}),
        ("/a~1b", {"a/b": 1}, {"a/b": 9}),
        ("/a~0b", {"a~b": 1}, {"a~b": 9}),
        ("/a~01b", {"a~1b": 1}, {"a~1b": 9}),
        ("/a~10", {"a/0": 1}, {"a/0": 9}),
        ("/a/0", {"a": [1, 2]}, {"a": [9, 2]}),
        ("/a/1/b", {"a": [{}, {"b": 1}]}, {"a": [{}, {"b": 9}]}),
        ("/a/0", {"a": {"0": 1}}, {"a": {"0": 9}}),
    ],
)
def test_pointer_sets_the_value_at_its_place(pointer: str, document: Any, expected: Any) -> None:
    assert pointed(pointer, 9, document) == expected


@pytest.mark.parametrize(
    ("pointer", "document"),
    [
        ("/a/2", {"a": [1, 2]}),
        ("/a/-", {"a": [1, 2]}),
        ("/a/-1", {"a": [1, 2]}),
        ("/a/01", {"a": [1, 2]}),
        ("/a/1.0", {"a": [1, 2]}),
        ("/a/x", {"a": [1, 2]}),
        ("/a/²", {"a": [1, 2, 3]}),
        ("/a/" + "9" * 5_000, {"a": [1]}),
        ("/a/b", {"a": 1}),
        ("/a/b", {"a": None}),
        ("/a/b/c", {"a": "text"}),
        ("/a", [1]),
        ("/a", "text"),
    ],
)
def test_pointer_to_a_missing_place_is_rejected(pointer: str, document: Any) -> None:
    with pytest.raises(ExperimentInvalidError, match=f"{re.escape(pointer)}, which does not exist"):
        pointed(pointer, 9, document)


def test_overrides_are_recorded_and_change_nothing_else() -> None:
    document = {"design": {"replications": 3}, "list": [1]}
    value = {"deep": [1]}
    knobs = [
        (Knob(id="a", json_pointer="/design/replications", type="integer", scientific_role="treatment"), 1),
        (Knob(id="b", json_pointer="/new", type="object", role="infra"), value),
    ]
    changed, applied = apply_overrides(document, knobs)

    assert document == {"design": {"replications": 3}, "list": [1]}
    assert changed == {"design": {"replications": 1}, "list": [1], "new": value}
    assert isinstance(changed, dict)
    assert changed["new"] is not value
    assert [override.model_dump() for override in applied] == [
        {
            "id": "a",
            "json_pointer": "/design/replications",
            "value": 1,
            "previous": 3,
            "role": "core",
            "scientific_role": "treatment",
        },
        {
            "id": "b",
            "json_pointer": "/new",
            "value": value,
            "previous": None,
            "role": "infra",
            "scientific_role": "control",
        },
    ]


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4))
def test_pointer_reaches_any_name(names: list[str]) -> None:
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    found = pointed(pointer, 9, {})
    for name in names:
        found = found[name]

    assert found == 9
