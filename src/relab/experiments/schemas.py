"""The documents of experiments as JSON Schema: those that harnesses and people write, and those that a run leaves.

Names and fields are those of the wire contract; documents are closed but for `ext`, a task and its bindings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from relab.experiments.config import ExperimentConfig, IntegrationLevel, NetworkMode
from relab.experiments.events import KINDS
from relab.experiments.models import Outcome
from relab.experiments.sanitization import Profile

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_SOME_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_OPEN: Final[Schema] = {"type": "object"}
_ID: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 200}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_DIGEST: Final[Schema] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_REF: Final[Schema] = {"type": "string", "pattern": "^artifact://sha256/[0-9a-f]{64}$"}


def schema_of(name: str) -> Schema | None:
    """Return the schema of this name, such as `trial_output_v1`; None if there is none."""
    made = _SCHEMAS.get(name)
    if made is None:
        return None
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name, **made()}


def schema_names() -> list[str]:
    """Return the names of all schemas."""
    return sorted(_SCHEMAS)


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _document(
    name: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Callable[[], Schema]:
    return lambda: _object({"schema_version": {"const": name}, **required}, {**(optional or {}), "ext": _OPEN})


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TRIAL_IDS = {"trial_id": _ID, "variant_id": _ID, "task_id": _ID, "repl_idx": _WHOLE}
_IDS = _object({"run_id": _ID, **_TRIAL_IDS})
_LEVEL = _one_of(*(level.value for level in IntegrationLevel))
_NETWORK = _one_of(*(mode.value for mode in NetworkMode))
_PROFILE = _one_of(*(profile.value for profile in Profile))
_BUDGETS = {"max_steps": _WHOLE, "max_total_tokens": _WHOLE, "max_tool_calls": _WHOLE}
_POLICY = _one_of("isolate_per_trial", "persist_per_task", "accumulate")
_MODEL = _one_of("independent", "dependent")
_FILE = {"path": _TEXT, "digest": _DIGEST, "size_bytes": _WHOLE}
_CONTROL = _object({"mode": _one_of("file", "sdk"), "path": _TEXT}, {"format_version": _TEXT})

_RUNTIME = _object(
    {
        "paths": _object(dict.fromkeys(("workspace", "state", "dataset", "out", "tmp"), _TEXT), {"cache": _TEXT}),
        "network": _object({"mode_requested": _NETWORK}, {"allowed_hosts": _list(_TEXT)}),
        "control_plane": _CONTROL,
    },
    {"budgets": _object({}, _BUDGETS), "timeouts": _object({}, {"trial_seconds": _NUMBER, "tool_seconds": _NUMBER})},
)
_OUTPUT = {
    "answer": {},
    "metrics": _OPEN,
    "objective": _object(
        {"name": _TEXT, "value": _or_null(_NUMBER)}, {"direction": _one_of("maximize", "minimize")}
    ),
    "artifacts": _list(_object({"path": _TEXT}, {"logical_name": _TEXT, "mime_type": _TEXT})),
    "checkpoints": _list(_object({"path": _TEXT}, {"logical_name": _TEXT, "step": _WHOLE, "epoch": _NUMBER})),
    "error": _object({}, {"error_type": _TEXT, "message": _TEXT, "stack": _TEXT}),
}  # fmt: skip
_HARNESS_MANIFEST = _document(
    "harness_manifest_v1",
    {"created_at": _TIME, "integration_level": _LEVEL, "step": _object({"semantics": _TEXT})},
    {
        "harness": _object(
            {"name": _TEXT},
            {
                "version": _TEXT,
                "source_digest": _DIGEST,
                "exec_digest": _DIGEST,
                "entry_command": _list(_TEXT),
                "runtime": _OPEN,
                "lockfile_digest": _DIGEST,
            },
        ),
        "hooks": _object(
            {"schema_version": {"const": "hook_events_v1"}, "events_path": _TEXT}, {"header_event_emitted": _FLAG}
        ),
        "control_plane": _CONTROL,
        "tracing": _object(
            {"mode": _one_of("none", "otlp", "manifest")}, {"otlp_endpoint": _TEXT, "trace_manifest_path": _TEXT}
        ),
        "redaction": _object(
            {"mode": _one_of("on", "off")},
            {"applied_by_harness": _FLAG, "content_policy": _one_of("store", "hash", "drop")},
        ),
    },
)


def _needs(levels: list[str], field: str) -> Schema:
    return {
        "if": {"required": ["integration_level"], "properties": {"integration_level": {"enum": levels}}},
        "then": {"required": [field]},
    }


def _harness_manifest() -> Schema:
    hooked = [level for level in _LEVEL["enum"] if level not in {"cli_basic", "otel"}]
    return {**_HARNESS_MANIFEST(), "allOf": [_needs(hooked, "hooks"), _needs(["otel"], "tracing")]}


def _hook_event() -> Schema:
    """Return the schema of one line of events; kinds that the contract does not know may have any fields."""
    base: dict[str, Schema] = {
        "hooks_schema_version": {"const": "hook_events_v1"},
        "event_type": {"type": "string", "minLength": 1, "maxLength": 200},
        "ts": _TIME,
        "seq": _WHOLE,
        "ids": _IDS,
        "step_index": _or_null(_WHOLE),
        "payload_ref": _REF,
        "redaction": _object({}, {"applied": _FLAG, "mode": _one_of("store", "hash", "drop")}),
        "ext": _OPEN,
    }
    timing = _object({}, {"queue_wait_ms": _NUMBER, "duration_ms": _NUMBER})
    outcome: Schema = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}
    call: dict[str, Schema] = {"call_id": _TEXT, "outcome": outcome}
    counted = _object({}, {"steps": _WHOLE, "tokens_in": _WHOLE, "tokens_out": _WHOLE, "tool_calls": _WHOLE})
    fields: dict[str, tuple[dict[str, Schema], dict[str, Schema]]] = {
        "agent_step_start": ({"step_index": _WHOLE}, {}),
        "agent_step_end": ({"step_index": _WHOLE}, {"budgets": counted}),
        "control_ack": (
            {"control_version": _DIGEST, "action_observed": _one_of("continue", "checkpoint", "stop")},
            {"control_seq": _WHOLE, "action_taken": _TEXT, "reason": _or_null(_TEXT)},
        ),
        "model_call_end": (
            call,
            {
                "turn_index": _WHOLE,
                "model": _object({}, {"identity": _TEXT, "params_digest": _TEXT}),
                "usage": _object({}, {"tokens_in": _WHOLE, "tokens_out": _WHOLE}),
                "timing": timing,
                "attempt_index": _WHOLE,
            },
        ),
        "tool_call_end": (
            {**call, "tool": _object({"name": _TEXT}, {"version": _TEXT})},
            {"timing": timing, "attempt_index": _WHOLE},
        ),
        "error": ({"message": _TEXT}, {"error_type": _TEXT, "stack": _TEXT}),
    }
    required = ["event_type", "ts", "seq", "ids"]
    known = [
        {
            "if": {"required": ["event_type"], "properties": {"event_type": {"const": kind}}},
            "then": {**_object({}, {**base, **needed, **more}), "required": list(needed)},
        }
        for kind, (needed, more) in fields.items()
    ]
    assert fields.keys() == KINDS
    return {"type": "object", "required": required, "properties": base, "allOf": known}


_EVIDENCE_REFS = ("trial_input_ref", "trial_output_ref", "workspace_pre_ref", "workspace_post_ref")
_CHANGE_REFS = ("diff_incremental_ref", "diff_cumulative_ref", "patch_incremental_ref", "patch_cumulative_ref")
_LATER_REFS = ("stdout_ref", "stderr_ref", "hook_events_ref")
_CHAIN_REFS = ("incremental_ref", "cumulative_ref", "patch_incremental_ref", "patch_cumulative_ref")

_SCHEMAS: Final[dict[str, Callable[[], Schema]]] = {
    "resolved_experiment_v0_3": functools.partial(ExperimentConfig.model_json_schema, by_alias=True),
    "trial_input_v1": _document(
        "trial_input_v1",
        {
            "ids": _IDS,
            "task": {},
            "bindings": _OPEN,
            "design": _object({"sanitization_profile": _PROFILE, "integration_level": _LEVEL}),
            "runtime": _RUNTIME,
        },
        {"task_schema": {}, "workload": _object({"type": _one_of("agent_harness", "trainer")})},
    ),
    "trial_output_v1": _document(
        "trial_output_v1", {"ids": _IDS, "outcome": _one_of(*(outcome.value for outcome in Outcome))}, _OUTPUT
    ),
    "hook_events_v1": _hook_event,
    "harness_manifest_v1": _harness_manifest,
    "control_plane_v1": _document(
        "control_plane_v1",
        {
            "seq": _WHOLE,
            "action": _one_of("continue", "checkpoint", "stop"),
            "label": _or_null(_TEXT),
            "requested_at": _TIME,
            "requested_by": _one_of("run_loop", "lab_pause"),
        },
    ),
    "knob_manifest_v1": lambda: {
        **_document(
            "knob_manifest_v1", {"knobs": _list({"type": "object", "required": ["id", "json_pointer", "type"]})}
        )(),
        "required": ["knobs"],
    },
    "experiment_overrides_v1": lambda: {
        **_document("experiment_overrides_v1", {"values": _OPEN}, {"manifest_path": _TEXT})(),
        "required": ["values"],
    },
    "manifest_v1": _document(
        "manifest_v1",
        {
            "run_id": _ID,
            "created_at": _TIME,
            "runner_version": _TEXT,
            "resolved_experiment": _object({"digest": _DIGEST}),
        },
        {"image_digest": _DIGEST, "git": _object({}, {"sha": _TEXT, "dirty": _FLAG, "diff_digest": _DIGEST})},
    ),
    "attestation_v1": _document(
        "attestation_v1",
        {
            "resolved_experiment_digest": _DIGEST,
            "events_hashchain": _list(_object({"trial_id": _ID, "head": _DIGEST})),
            "grades_summary": {"type": "object", "additionalProperties": _WHOLE},
        },
        {"image_digest": _DIGEST, "harness_identity": _OPEN, "hooks_schema_version": _TEXT},
    ),
    "state_inventory_v1": _document(
        "state_inventory_v1",
        {
            "sanitization_profile": _one_of("replay_strict_v2", "hermetic_functional_v2", "perf_benchmark_v2"),
            "integration_level": _LEVEL,
            "mounts": _list(_object({"name": _TEXT, "path": _TEXT, "writable": _FLAG})),
            "network": _object(
                {
                    "mode_requested": _NETWORK,
                    "mode_effective": _NETWORK,
                    "enforcement_effective": _one_of("docker_none", "netns_iptables", "sidecar_proxy", "unknown"),
                    "egress_self_test": _object(
                        {
                            "performed": _FLAG,
                            "cases": _list(
                                _object(
                                    {
                                        "target": _SOME_TEXT,
                                        "expected": _one_of("allow", "block"),
                                        "observed": _one_of("allow", "block", "error", "unknown"),
                                        "ok": _FLAG,
                                    },
                                    {"artifact_ref": _REF},
                                )
                            ),
                        }
                    ),
                },
                {"allowed_hosts": _list(_SOME_TEXT)},
            ),
            "harness_identity": _object(
                {"exec_digest": _DIGEST},
                {"name": _TEXT, "source_digest": _DIGEST, "entry_command": {**_list(_SOME_TEXT), "minItems": 1}},
            ),
            "violations": _object({"state_leak": _FLAG, "profile_invariant_violation": _FLAG}, {"notes": _list(_TEXT)}),
        },
    ),
    "evidence_record_v1": _document(
        "evidence_record_v1",
        {
            "ts": _or_null(_TIME),
            "ids": _IDS,
            "policy": _object({"state_policy": _POLICY, "task_model": _MODEL, "chain_id": _TEXT}),
            "runtime": _object(
                {
                    "executor": _one_of("local_docker", "local_process", "remote"),
                    "container_mode": _FLAG,
                    "exit_status": _TEXT,
                    "duration_ms": _NUMBER,
                }
            ),
            "evidence": _object(
                dict.fromkeys((*_EVIDENCE_REFS, *_CHANGE_REFS), _REF), dict.fromkeys(_LATER_REFS, _REF)
            ),
            "paths": {"type": "object", "additionalProperties": _TEXT},
        },
    ),
    "task_chain_state_v1": _document(
        "task_chain_state_v1",
        {
            "ts": _or_null(_TIME),
            "run_id": _ID,
            "chain_id": _TEXT,
            "task_model": _MODEL,
            "step_index": _WHOLE,
            "ids": _object(_TRIAL_IDS),
            "snapshots": _object(dict.fromkeys(("chain_root_ref", "prev_ref", "post_ref"), _REF)),
            "diffs": _object(dict.fromkeys(_CHAIN_REFS, _REF)),
        },
    ),
    "workspace_snapshot_v1": _document(
        "workspace_snapshot_v1",
        {"captured_at": _TIME, "file_count": _WHOLE, "total_bytes": _WHOLE, "files": _list(_object(_FILE))},
    ),
    "workspace_diff_v1": _document(
        "workspace_diff_v1",
        {
            "added": _list(_object(_FILE)),
            "removed": _list(_object(_FILE)),
            "modified": _list(_object({**_FILE, "previous_digest": _DIGEST})),
            "summary": _object({"added": _WHOLE, "removed": _WHOLE, "modified": _WHOLE}),
        },
    ),
    "workspace_patch_v1": _document(
        "workspace_patch_v1",
        {
            "format": {"const": "file_digest_delta"},
            "changes": _list(
                _object(
                    {"op": _one_of("add", "remove", "modify"), "path": _TEXT},
                    {"digest": _DIGEST, "previous_digest": _DIGEST},
                )
            ),
        },
    ),
    "run_control_v1": _document(
        "run_control_v1",
        {
            "run_id": _ID,
            "status": _one_of("running", "completed", "interrupted", "failed", "paused"),
            "active_trial_id": _or_null(_ID),
            "active_control_path": _or_null(_TEXT),
            "updated_at": _TIME,
        },
    ),
    "trial_state_v1": _document(
        "trial_state_v1",
        {
            "trial_id": _ID,
            "status": _TEXT,
            "pause_label": _or_null(_TEXT),
            "checkpoint_selected": _or_null(_TEXT),
            "exit_reason": _or_null(_TEXT),
            "updated_at": _TIME,
        },
    ),
}
