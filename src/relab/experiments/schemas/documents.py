"""Return the JSON Schemas of all documents that users, harnesses and runs of experiments write.

Some schemas are those that AgentLab (an experiment runner whose file formats relab keeps) has published; they are in
`agentlab.py`. This module defines the others, for documents that have no published schema.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.schemas.agentlab import CONTRACT
from relab.experiments.schemas.parts import (
    DIGEST,
    POSITIVE,
    SOME_TEXT,
    TEXT,
    TIME,
    WHOLE,
    Schema,
    closed,
    list_of,
    one_of,
    or_null,
)
from relab.experiments.schemas.parts import document as named

if TYPE_CHECKING:
    from referencing import Registry

_BASE: Final = "https://agent-lab.local/schemas/"
_CEILINGS: Final = ("max_trials", "max_cost_usd", "max_seconds")
_LATER_CEILINGS: Final = ("max_first_errors",)
"""Ceilings that runs of earlier versions lack."""
_FILE: Final = {"path": TEXT, "digest": DIGEST, "size_bytes": WHOLE}


def schema_named(name: str) -> Schema:
    """Return the JSON Schema with this name, such as `trial_output_v1` or `trial_output_v1.jsonschema`.

    The schema may contain references to other schemas; `registry()` resolves them.

    Raises:
        ExperimentInvalidError: there is no schema of this name.
    """
    name = name.removesuffix(".jsonschema")
    made = _SCHEMAS.get(name)
    if made is None:
        raise ExperimentInvalidError(f"There is no schema {name!r}.", remedy=f"One of: {', '.join(schema_names())}.")
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{_BASE}{name}.jsonschema",
        "title": name,
    }
    return heading | made()


def schema_names() -> list[str]:
    """Return the names of all schemas."""
    return sorted(_SCHEMAS)


@functools.cache
def registry() -> Registry[bool | Mapping[str, Any]]:
    """Return a registry of all schemas that resolves references between them, without network access."""
    from referencing import Registry, Resource  # noqa: PLC0415 no other command needs it

    found: Registry[bool | Mapping[str, Any]] = Registry()
    for name in _SCHEMAS:
        contents: bool | Mapping[str, Any] = schema_named(name)
        found = Resource.from_contents(contents) @ found
    return found


_OWN_SCHEMAS: Final[dict[str, Schema]] = {
    "control_plane_v1": named(
        "control_plane_v1",
        {
            "seq": WHOLE,
            "action": one_of("continue", "checkpoint", "stop"),
            "label": or_null(TEXT),
            "requested_at": TIME,
            "requested_by": one_of("run_loop", "lab_pause"),
        },
    ),
    "run_control_v1": named(
        "run_control_v1",
        {
            "run_id": SOME_TEXT,
            "status": one_of("running", "completed", "interrupted", "failed", "paused", "budget_reached"),
            "active_trial_id": or_null(SOME_TEXT),
            "active_control_path": or_null(TEXT),
            "updated_at": TIME,
        },
    ),
    # A line at the start of a session, or one at its end.
    "run_session_v1": {
        "anyOf": [
            named(
                "run_session_v1",
                {
                    "began_at": TIME,
                    "seconds_before": POSITIVE,
                    "ceilings": closed(
                        dict.fromkeys(_CEILINGS, or_null(POSITIVE)), dict.fromkeys(_LATER_CEILINGS, or_null(POSITIVE))
                    ),
                },
            ),
            named("run_session_v1", {"ended_at": TIME, "seconds": POSITIVE, "status": TEXT, "ceiling": or_null(TEXT)}),
        ]
    },
    "trial_state_v1": named(
        "trial_state_v1",
        {
            "trial_id": SOME_TEXT,
            "status": TEXT,
            "pause_label": or_null(TEXT),
            "checkpoint_selected": or_null(TEXT),
            "exit_reason": or_null(TEXT),
            "updated_at": TIME,
        },
    ),
    "workspace_snapshot_v1": named(
        "workspace_snapshot_v1",
        {"captured_at": TIME, "file_count": WHOLE, "total_bytes": WHOLE, "files": list_of(closed(_FILE))},
    ),
    "workspace_diff_v1": named(
        "workspace_diff_v1",
        {
            "added": list_of(closed(_FILE)),
            "removed": list_of(closed(_FILE)),
            "modified": list_of(closed({**_FILE, "previous_digest": DIGEST})),
            "summary": closed({"added": WHOLE, "removed": WHOLE, "modified": WHOLE}),
        },
    ),
    "workspace_patch_v1": named(
        "workspace_patch_v1",
        {
            "format": {"const": "file_digest_delta"},
            "changes": list_of(
                closed(
                    {"op": one_of("add", "remove", "modify"), "path": TEXT},
                    {"digest": DIGEST, "previous_digest": DIGEST},
                )
            ),
        },
    ),
}

_SCHEMAS: Final[dict[str, Callable[[], Schema]]] = {
    # The schema of `experiment.yaml`, with all fields of relab.
    "relab_experiment_v0_3": functools.partial(ExperimentConfig.model_json_schema, by_alias=True),
    **{name: functools.partial(dict, schema) for name, schema in {**CONTRACT, **_OWN_SCHEMAS}.items()},
}
