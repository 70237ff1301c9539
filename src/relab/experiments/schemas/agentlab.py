"""The JSON Schemas of AgentLab's documents, with the same fields as in the schemas that AgentLab's prototype publishes.

AgentLab is an experiment runner whose file formats relab keeps.
Harnesses and tools written for AgentLab validate documents against these schemas, so no field is added or removed;
relab's additional values go under `ext`. Annotations (titles, descriptions, defaults) are left out.
"""

from __future__ import annotations

from typing import Final

from relab.experiments.schemas.agentlab_records import RECORDS
from relab.experiments.schemas.parts import (
    COMMAND,
    COMPARISON,
    CONTENT,
    COUNT,
    DIGEST,
    FLAG,
    IDS,
    LEVEL,
    MODEL,
    NETWORK,
    NUMBER,
    OPEN,
    POSITIVE,
    PROFILE,
    REF,
    SOME_TEXT,
    STATE,
    TEXT,
    TIME,
    WHOLE,
    Schema,
    closed,
    document,
    list_of,
    one_of,
    opened,
)

_TRIAL_INPUT: Final = document(
    "trial_input_v1",
    {
        "ids": IDS,
        "task": OPEN,
        "bindings": OPEN,
        "runtime": closed(
            {
                "paths": closed(dict.fromkeys(("workspace", "state", "dataset", "out", "tmp"), TEXT), {"cache": TEXT}),
                "network": closed({"mode_requested": NETWORK}, {"allowed_hosts": list_of(SOME_TEXT)}),
                "control_plane": closed({"mode": one_of("file", "sdk"), "path": SOME_TEXT}),
            },
            {
                "budgets": closed({}, dict.fromkeys(("max_steps", "max_total_tokens", "max_tool_calls"), WHOLE)),
                "timeouts": closed({}, {"trial_seconds": COUNT, "tool_seconds": COUNT}),
            },
        ),
        "design": closed({"sanitization_profile": PROFILE, "integration_level": LEVEL}),
    },
    {"task_schema": TEXT, "workload": closed({"type": one_of("agent_harness", "trainer", "custom")})},
)

_TRIAL_OUTPUT: Final = document(
    "trial_output_v1",
    {"ids": IDS, "outcome": one_of("success", "failure", "missing", "error")},
    {
        "answer": {"oneOf": [TEXT, OPEN, {"type": "array"}]},
        "metrics": {"type": "object", "additionalProperties": {"anyOf": [NUMBER, TEXT, FLAG, {"type": "null"}]}},
        "objective": closed(
            {"name": SOME_TEXT, "value": NUMBER}, {"direction": one_of("maximize", "minimize")}
        ),
        "artifacts": list_of(closed({"path": SOME_TEXT}, {"logical_name": TEXT, "mime_type": TEXT})),
        "checkpoints": list_of(closed({"path": SOME_TEXT}, {"logical_name": TEXT, "step": WHOLE, "epoch": POSITIVE})),
        "error": closed({}, {"error_type": TEXT, "message": TEXT, "stack": TEXT}),
    },
)  # fmt: skip


def _event(kind: str, required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    base = opened(
        {"event_type": SOME_TEXT, "ts": TIME, "seq": WHOLE, "ids": IDS},
        {
            "hooks_schema_version": {"const": "hook_events_v1"},
            "step_index": {"type": ["integer", "null"], "minimum": 0},
            "payload_ref": REF,
            "redaction": closed({}, {"applied": FLAG, "mode": CONTENT}),
            "ext": OPEN,
        },
    )
    fields = {"event_type": {"const": kind}, **required}
    own = {"type": "object", "required": list(fields), "properties": {**fields, **(optional or {})}}
    return {"allOf": [base, own], "unevaluatedProperties": False}


_ACTION: Final = one_of("continue", "stop", "checkpoint")
_CALL: Final = {
    "call_id": SOME_TEXT,
    "outcome": closed({"status": one_of("ok", "error")}, {"error_type": TEXT, "message": TEXT}),
}
_CALL_TIMES: Final = {"timing": closed({}, {"queue_wait_ms": WHOLE, "duration_ms": WHOLE}), "attempt_index": WHOLE}
_SPENT: Final = closed({}, dict.fromkeys(("steps", "tokens_in", "tokens_out", "tool_calls"), WHOLE))
_HOOK_EVENTS: Final[Schema] = {
    "type": "object",
    "oneOf": [
        _event("agent_step_start", {"step_index": WHOLE}),
        _event("agent_step_end", {"step_index": WHOLE}, {"budgets": _SPENT}),
        _event(
            "control_ack",
            {"step_index": WHOLE, "control_version": DIGEST, "action_observed": _ACTION},
            {"control_seq": WHOLE, "action_taken": _ACTION, "reason": TEXT},
        ),
        _event(
            "model_call_end",
            _CALL,
            {
                "turn_index": WHOLE,
                "model": closed({}, {"identity": SOME_TEXT, "params_digest": DIGEST}),
                "usage": closed({}, {"tokens_in": WHOLE, "tokens_out": WHOLE}),
                **_CALL_TIMES,
            },
        ),
        _event("tool_call_end", {**_CALL, "tool": closed({"name": SOME_TEXT}, {"version": TEXT})}, _CALL_TIMES),
        _event("error", {"message": SOME_TEXT}, {"error_type": TEXT, "stack": TEXT}),
    ],
}

_HARNESS_MANIFEST: Final = document(
    "harness_manifest_v1",
    {"created_at": TIME, "integration_level": LEVEL, "step": closed({"semantics": SOME_TEXT})},
    {
        "harness": closed(
            {"name": SOME_TEXT},
            {
                "version": SOME_TEXT,
                "source_digest": DIGEST,
                "exec_digest": DIGEST,
                "entry_command": COMMAND,
                "runtime": opened({}, {"node": TEXT}),
                "lockfile_digest": DIGEST,
            },
        ),
        "hooks": closed(
            {"schema_version": {"const": "hook_events_v1"}, "events_path": SOME_TEXT}, {"header_event_emitted": FLAG}
        ),
        "control_plane": closed({"mode": one_of("file", "sdk"), "path": SOME_TEXT}, {"format_version": TEXT}),
        "tracing": closed(
            {"mode": one_of("none", "otlp", "manifest")}, {"otlp_endpoint": SOME_TEXT, "trace_manifest_path": SOME_TEXT}
        ),
        "redaction": closed({"mode": one_of("on", "off")}, {"applied_by_harness": FLAG, "content_policy": CONTENT}),
    },
) | {
    "allOf": [
        {
            "if": {
                "properties": {"integration_level": {"enum": ["cli_events", "sdk_control", "sdk_full"]}},
                "required": ["integration_level"],
            },
            "then": {"required": ["hooks"]},
        },
        {
            "if": {"properties": {"integration_level": {"const": "otel"}}, "required": ["integration_level"]},
            "then": {"required": ["tracing"]},
        },
    ]
}

_TRACE_MANIFEST: Final = document(
    "trace_manifest_v1",
    {"format": SOME_TEXT, "paths": list_of(SOME_TEXT, 1)},
    {"version": TEXT, "redaction": closed({}, {"applied": FLAG, "mode": CONTENT})},
)

_KNOB_MANIFEST: Final = document(
    "knob_manifest_v1",
    {
        "knobs": list_of(
            closed(
                {
                    "id": SOME_TEXT,
                    "json_pointer": {"type": "string", "pattern": "^/.*"},
                    "type": one_of("string", "integer", "number", "boolean", "array", "object"),
                },
                {
                    "label": TEXT,
                    "description": TEXT,
                    "role": one_of("core", "harness", "benchmark", "safety", "analysis", "infra"),
                    "options": list_of({"oneOf": [TEXT, NUMBER, {"type": "integer"}, FLAG, {"type": "null"}]}),
                    "minimum": NUMBER,
                    "maximum": NUMBER,
                    "step": NUMBER,
                    "unit": TEXT,
                    "scientific_role": one_of("treatment", "control", "confound", "derived", "invariant"),
                    "autotune": closed({}, {"enabled": FLAG, "requires_human_approval": FLAG}),
                },
            )
        )
    },
    {"created_at": TIME},
)

_OVERRIDES: Final = document(
    "experiment_overrides_v1",
    {
        "values": {
            "type": "object",
            "additionalProperties": {"anyOf": [TEXT, NUMBER, FLAG, {"type": "array"}, OPEN, {"type": "null"}]},
        }
    },
    {"manifest_path": SOME_TEXT},
)

_TEXTS: Final = ("path", "provider", "suite_id", "schema_version", "split_id")
_HARNESS_TEXTS: Final = dict.fromkeys(("integration_level", "input_path", "output_path"), SOME_TEXT)
_RESOLVED_EXPERIMENT: Final = opened(
    {
        "version": {"const": "0.3"},
        "experiment": opened(
            dict.fromkeys(("id", "name", "workload_type"), SOME_TEXT), {"description": TEXT, "owner": TEXT}
        ),
        "dataset": opened({**dict.fromkeys(_TEXTS, SOME_TEXT), "limit": COUNT}),
        "design": opened(
            {
                "sanitization_profile": SOME_TEXT,
                "comparison": COMPARISON,
                "replications": COUNT,
                "random_seed": {"type": "integer"},
                "shuffle_tasks": FLAG,
                "max_concurrency": COUNT,
            },
            {
                "policies": closed(
                    {
                        "scheduling": one_of("paired_interleaved", "variant_sequential", "randomized"),
                        "state": STATE,
                        "comparison": COMPARISON,
                        "retry": closed(
                            {"max_attempts": COUNT}, {"retry_on": list_of(one_of("error", "timeout", "failure"))}
                        ),
                    },
                    {"pruning": closed({}, {"max_consecutive_failures": COUNT})},
                )
            },
        ),
        "baseline": opened({"variant_id": SOME_TEXT, "bindings": {"type": "object"}}),
        "runtime": opened(
            {
                "harness": opened(
                    {
                        "mode": TEXT,
                        "command": list_of(TEXT, 1),
                        **_HARNESS_TEXTS,
                        "control_plane": opened({}, {"mode": TEXT, "path": SOME_TEXT}),
                    }
                ),
                "sandbox": opened({"mode": TEXT}),
                "network": opened({"mode": TEXT, "allowed_hosts": list_of(TEXT)}),
            }
        ),
    },
    {
        "benchmark": opened(
            {},
            {
                "policy": opened(
                    {},
                    {
                        "task_model": MODEL,
                        "reset_strategy": one_of("per_trial", "per_chain", "never"),
                        "evaluator_mode": one_of("official", "custom"),
                        "scoring_lifecycle": one_of("predict_then_score", "integrated_score"),
                        "required_evidence_classes": list_of(SOME_TEXT),
                        "chain_failure_policy": one_of("stop_on_error", "continue_with_flag"),
                    },
                ),
                "adapter": opened({}, {"command": COMMAND, "manifest": {"type": "object"}}),
            },
        )
    },
)

CONTRACT: Final[dict[str, Schema]] = {
    "experiment_overrides_v1": _OVERRIDES,
    "harness_manifest_v1": _HARNESS_MANIFEST,
    "hook_events_v1": _HOOK_EVENTS,
    "knob_manifest_v1": _KNOB_MANIFEST,
    "resolved_experiment_v0_3": _RESOLVED_EXPERIMENT,
    "trace_manifest_v1": _TRACE_MANIFEST,
    "trial_input_v1": _TRIAL_INPUT,
    "trial_output_v1": _TRIAL_OUTPUT,
    **RECORDS,
}
