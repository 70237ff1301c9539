"""Knobs: fields of an experiment that overrides may change, with their bounds; and the overrides that set them."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import MalformedBodyError
from relab.core.ids import ExternalId
from relab.core.json import JsonValue, canonical_json, is_number, parse_json
from relab.core.regular_files import read_regular_file
from relab.core.validation import message_with_value
from relab.core.yaml_source import nearest
from relab.experiments.errors import ExperimentInvalidError

DEFAULT_MANIFEST = ".lab/knobs/manifest.json"
DEFAULT_OVERRIDES = ".lab/knobs/overrides.json"

T = TypeVar("T", bound=BaseModel)

KnobType = Literal["string", "integer", "number", "boolean", "array", "object", "json"]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


_INDEX = re.compile("0|[1-9][0-9]{0,9}")
"""A list index in a JSON pointer (RFC 6901, section 4)."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Knob(_Strict):
    """A field of the experiment that overrides may change, with the allowed values.

    Attributes:
        json_pointer: the place of the field in the experiment file (RFC 6901).
        role: the part of the system that the field belongs to, such as `harness` or `infra`.
        scientific_role: the role of the field in the comparison, such as `treatment` or `confound`.
        options: the allowed values; None if the values are not listed.
        minimum, maximum: the bounds of a number; None for no bound.
        label, description: texts for people.
    """

    id: ExternalId
    json_pointer: Annotated[str, Field(pattern=r"^(/([^~/]|~[01])+)+$")]
    type: KnobType
    options: list[Any] | None = None
    minimum: float | None = None
    maximum: float | None = None
    role: Literal["core", "harness", "benchmark", "infra"] = "core"
    scientific_role: Literal["treatment", "control", "confound", "invariant"] = "control"
    label: str | None = None
    description: str | None = None


class KnobManifest(_Strict):
    """The knobs of an experiment: the fields that overrides may change."""

    schema_version: Literal["knob_manifest_v1"] = "knob_manifest_v1"
    knobs: list[Knob]


class Overrides(_Strict):
    """The content of an overrides file: values that replace those of the experiment file.

    A knob is a field of the experiment that may be replaced; the manifest lists the knobs.

    Attributes:
        manifest_path: the file of the manifest, relative to the project's root.
        values: the new values, by the id of the knob.
    """

    schema_version: Literal["experiment_overrides_v1"] = "experiment_overrides_v1"
    manifest_path: str = DEFAULT_MANIFEST
    values: dict[str, Any]


class Override(BaseModel):
    """The new value of one knob (a field that overrides may change), as the manifest of a run records it.

    `id`, `json_pointer`, `role` (the part of the experiment that the field belongs to, such as `harness`) and
    `scientific_role` (the field's role in the comparison, such as `treatment`) are copied from the knob. `previous` is
    the value in the experiment file, or None if the field was absent there.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    json_pointer: str
    value: Any
    previous: Any = None
    role: str
    scientific_role: str


def read_manifest(path: Path) -> KnobManifest:
    """Read a manifest of knobs: the list of the experiment's fields that overrides may change.

    Raises:
        ExperimentInvalidError: the file is missing, is not JSON, or is invalid.
    """
    manifest = _read(path, KnobManifest)
    twice = sorted({knob.id for knob in manifest.knobs if [other.id for other in manifest.knobs].count(knob.id) > 1})
    if twice:
        raise ExperimentInvalidError(f"{path}: the knob {twice[0]!r} occurs twice.")
    for knob in manifest.knobs:
        for bound, least in ((knob.minimum, True), (knob.maximum, False)):
            if bound is not None and knob.type not in {"integer", "number"}:
                name = "minimum" if least else "maximum"
                raise ExperimentInvalidError(f"{path}: the knob {knob.id!r} of type {knob.type} has a {name}.")
        if knob.minimum is not None and knob.maximum is not None and knob.minimum > knob.maximum:
            raise ExperimentInvalidError(
                f"{path}: the knob {knob.id!r} has a minimum of {_shown(knob.minimum)} "
                f"above its maximum of {_shown(knob.maximum)}."
            )
    return manifest


def read_overrides(path: Path) -> Overrides:
    """Read a file of overrides: new values for knobs (fields that overrides may change).

    Raises:
        ExperimentInvalidError: the file is missing, is not JSON, or is invalid.
    """
    return _read(path, Overrides)


def load_overrides(overrides_path: Path, root: Path, manifest_path: Path | None = None) -> list[tuple[Knob, Any]]:
    """Read a file of overrides and its manifest of knobs; return each knob with its checked value.

    A knob is a field of the experiment that may be changed. The manifest lists the knobs and their allowed values.

    Args:
        overrides_path: the file of overrides.
        root: the folder of the project.
        manifest_path: the manifest; None for the one that the overrides name, relative to `root`.

    Raises:
        ExperimentInvalidError: a file is unreadable or invalid, a knob is unknown, or a value is not allowed; the error
            lists every unknown knob and every value that is not allowed.
    """
    overrides = read_overrides(overrides_path)
    manifest_path = manifest_path or root / overrides.manifest_path
    knobs = {knob.id: knob for knob in read_manifest(manifest_path).knobs}
    problems = []
    for name, value in overrides.values.items():
        knob = knobs.get(name)
        problem = f"is no knob of {manifest_path}{nearest(name, list(knobs))}" if knob is None else _wrong(knob, value)
        if problem:
            problems.append((f"{overrides_path}: {name}", problem))
    if problems:
        raise ExperimentInvalidError(f"{problems[0][0]} {problems[0][1]}.", problems=tuple(problems))
    return [(knobs[name], value) for name, value in overrides.values.items()]


def apply_overrides(value: JsonValue, overrides: Sequence[tuple[Knob, Any]]) -> tuple[JsonValue, list[Override]]:
    """Set knobs (fields that overrides may change) in a copy of an experiment; return the copy and the changes.

    Args:
        value: the experiment, as JSON values.
        overrides: `(knob, new value)` pairs, from `load_overrides`.

    Raises:
        ExperimentInvalidError: a knob's pointer leads through a value that is not an object or list, or to a missing
            list item.
    """
    changed = copy.deepcopy(value)
    applied = []
    for knob, new in overrides:
        previous = _set_at(changed, knob, new)
        applied.append(
            Override(
                id=knob.id,
                json_pointer=knob.json_pointer,
                value=new,
                previous=previous,
                role=knob.role,
                scientific_role=knob.scientific_role,
            )
        )
    return changed, applied


def _wrong(knob: Knob, value: Any) -> str | None:
    if knob.type != "json":
        fits = isinstance(value, _TYPES[knob.type]) and (knob.type == "boolean" or not isinstance(value, bool))
        if not fits:
            return f"is of type {knob.type}, not {_json_type(value)}"
    if knob.options is not None and not any(_same(value, option) for option in knob.options):
        return f"is one of {knob.options}, not {value!r}"
    if is_number(value):
        if not math.isfinite(value):
            return "is not finite"
        if knob.minimum is not None and value < knob.minimum:
            return f"is {_shown(knob.minimum)} at least, not {value!r}"
        if knob.maximum is not None and value > knob.maximum:
            return f"is {_shown(knob.maximum)} at most, not {value!r}"
    return None


def _same(value: Any, option: Any) -> bool:
    """Return whether two values are equal in JSON, where true differs from 1, and 1 equals 1.0."""
    numbers = [is_number(item) for item in (value, option)]
    return bool(value == option) if all(numbers) else canonical_json(value) == canonical_json(option)


def _shown(bound: float) -> str:
    return str(int(bound)) if bound.is_integer() else str(bound)


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _set_at(root: Any, knob: Knob, value: Any) -> Any:
    """Set a knob (a field that overrides may change) to `value` in the experiment `root`; return the previous value.

    The knob's JSON pointer (RFC 6901) names the field; missing objects on the way to the field are created.

    Raises:
        ExperimentInvalidError: the pointer leads through a value that is not an object or list, or to a missing list
            item.
    """
    parts = [part.replace("~1", "/").replace("~0", "~") for part in knob.json_pointer.split("/")[1:]]
    node = root
    for part in parts[:-1]:
        node = node.setdefault(part, {}) if isinstance(node, dict) else _item(node, part, knob)
    last = parts[-1]
    if isinstance(node, dict):
        previous = node.get(last)
        node[last] = copy.deepcopy(value)
        return previous
    previous = _item(node, last, knob)
    node[int(last)] = copy.deepcopy(value)
    return previous


def _item(node: Any, part: str, knob: Knob) -> Any:
    if isinstance(node, list) and _INDEX.fullmatch(part) and int(part) < len(node):
        return node[int(part)]
    raise ExperimentInvalidError(
        f"The knob {knob.id!r} points to {knob.json_pointer}, which does not exist in the experiment."
    )


def _read(path: Path, model: type[T]) -> T:
    try:
        return model.model_validate(parse_json(read_regular_file(path), str(path)))
    except OSError as error:
        raise ExperimentInvalidError(f"The file {path} cannot be read: {error.strerror}.") from error
    except MalformedBodyError as error:
        raise ExperimentInvalidError(str(error)) from error
    except ValidationError as error:
        problems = tuple(
            (f"{path}: {'.'.join(map(str, problem['loc']))}", message_with_value(problem))
            for problem in error.errors(include_url=False)
        )
        raise ExperimentInvalidError(f"{problems[0][0]}: {problems[0][1]}.", problems=problems) from error
