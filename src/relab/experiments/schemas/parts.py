"""Building blocks for the JSON Schemas of documents: texts, numbers, closed objects, references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
SOME_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}
COUNT: Final[Schema] = {"type": "integer", "minimum": 1}
NUMBER: Final[Schema] = {"type": "number"}
POSITIVE: Final[Schema] = {"type": "number", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}
OPEN: Final[Schema] = {"type": "object", "additionalProperties": True}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
DIGEST: Final[Schema] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
REF: Final[Schema] = {"type": "string", "pattern": "^artifact://sha256/[0-9a-f]{64}$"}
LEVEL: Final[Schema] = {"type": "string", "enum": ["cli_basic", "cli_events", "otel", "sdk_control", "sdk_full"]}


def closed(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these required and optional fields; other fields are invalid."""
    return _object(required, optional) | {"additionalProperties": False}


def opened(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these required and optional fields; other fields are allowed."""
    return _object(required, optional) | {"additionalProperties": True}


def document(name: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of a document whose `schema_version` is `name`.

    Args:
        name: the name of the schema.
        required: the schemas of the required fields, by name.
        optional: the schemas of the optional fields, by name. Besides the named fields, only `ext` is allowed.
    """
    return closed({"schema_version": {"const": name}, **required}, {**(optional or {}), "ext": OPEN})


def list_of(of: Schema, least: int = 0) -> Schema:
    """Return the schema of a list with at least `least` items; each item must match the schema `of`."""
    return {"type": "array", "items": of} | ({"minItems": least} if least else {})


def one_of(*values: str) -> Schema:
    """Return the schema of a text with one of these values."""
    return {"type": "string", "enum": list(values)}


def or_null(schema: Schema) -> Schema:
    """Return a schema that also allows null."""
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None) -> Schema:
    found: Schema = {"type": "object", "properties": {**required, **(optional or {})}}
    return found | ({"required": list(required)} if required else {})


TRIAL_IDS: Final = {"trial_id": SOME_TEXT, "variant_id": SOME_TEXT, "task_id": SOME_TEXT, "repl_idx": WHOLE}
IDS: Final = closed({"run_id": SOME_TEXT, **TRIAL_IDS})
PROFILE: Final = one_of("replay_strict_v2", "hermetic_functional_v2", "perf_benchmark_v2")
NETWORK: Final = one_of("none", "full", "allowlist_enforced")
STATE: Final = one_of("isolate_per_trial", "persist_per_task", "accumulate")
COMPARISON: Final = one_of("paired", "unpaired", "none")
MODEL: Final = one_of("independent", "dependent")
CONTENT: Final = one_of("store", "hash", "drop")
COMMAND: Final = list_of(SOME_TEXT, 1)
