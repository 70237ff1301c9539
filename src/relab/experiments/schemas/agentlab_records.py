"""The JSON Schemas of a run's own records, as AgentLab publishes them; see `agentlab.py`."""

from __future__ import annotations

from typing import Final

from relab.experiments.schemas.parts import (
    COMMAND,
    DIGEST,
    FLAG,
    IDS,
    LEVEL,
    MODEL,
    NETWORK,
    OPEN,
    POSITIVE,
    PROFILE,
    REF,
    SOME_TEXT,
    STATE,
    TEXT,
    TIME,
    TRIAL_IDS,
    WHOLE,
    Schema,
    closed,
    document,
    list_of,
    one_of,
)

_MANIFEST: Final = document(
    "manifest_v1",
    {"run_id": SOME_TEXT, "created_at": TIME, "runner_version": SOME_TEXT, "resolved_experiment": closed({"digest": DIGEST})},
    {
        "image_digest": DIGEST,
        "git": closed({}, {"sha": TEXT, "dirty": FLAG, "diff_digest": DIGEST}),
        "tool_registry": list_of(closed({"name": SOME_TEXT, "version": SOME_TEXT}, {"digest": DIGEST})),
    },
)  # fmt: skip

_GRADES: Final = closed(
    {
        "schema_version": {"const": "grades_v1"},
        "integration_level": LEVEL,
        "replay_grade": one_of("strict", "checkpointed", "best_effort", "none"),
        "isolation_grade": one_of("hermetic", "bounded", "leaky"),
        "comparability_grade": one_of("valid_paired", "valid_unpaired", "invalid", "unknown"),
        "provenance_grade": one_of("attested", "recorded", "partial"),
        "privacy_grade": one_of("redacted", "raw", "unknown"),
    },
    {"evidence": closed({}, {"hooks": FLAG, "traces": FLAG, "sdk": FLAG}), "notes": list_of(TEXT)},
)

_ATTESTATION: Final = document(
    "attestation_v1",
    {
        "resolved_experiment_digest": DIGEST,
        "events_hashchain": list_of(closed({"trial_id": SOME_TEXT, "head": DIGEST})),
        "grades_summary": {"$ref": "grades_v1.jsonschema"},
    },
    {
        "image_digest": DIGEST,
        "sbom": closed({}, {"format": TEXT, "artifact_ref": REF}),
        "artifact_store_root": DIGEST,
        "harness_identity": closed(
            {},
            {
                "source_digest": DIGEST,
                "exec_digest": DIGEST,
                "entry_command": COMMAND,
                "runtime_fingerprint": OPEN,
                "lockfile_digest": DIGEST,
            },
        ),
        "hooks_schema_version": TEXT,
        "trace_ingestion": closed({}, {"mode": one_of("none", "hooks", "otlp", "manifest"), "artifact_ref": REF}),
        "redaction": closed({}, {"rules_digest": DIGEST, "summary_digest": DIGEST}),
    },
)

_EGRESS_CASE: Final = closed(
    {
        "target": SOME_TEXT,
        "expected": one_of("allow", "block"),
        "observed": one_of("allow", "block", "error", "unknown"),
        "ok": FLAG,
    },
    {"artifact_ref": REF},
)
_STATE_INVENTORY: Final = document(
    "state_inventory_v1",
    {
        "sanitization_profile": PROFILE,
        "integration_level": LEVEL,
        "mounts": list_of(closed({"name": TEXT, "path": TEXT, "writable": FLAG})),
        "network": closed(
            {
                "mode_requested": NETWORK,
                "mode_effective": NETWORK,
                "enforcement_effective": one_of("docker_none", "netns_iptables", "sidecar_proxy", "unknown"),
                "egress_self_test": closed({"performed": FLAG, "cases": list_of(_EGRESS_CASE)}),
            },
            {"allowed_hosts": list_of(SOME_TEXT)},
        ),
        "harness_identity": closed(
            {"exec_digest": DIGEST}, {"name": TEXT, "source_digest": DIGEST, "entry_command": COMMAND}
        ),
        "violations": closed({"state_leak": FLAG, "profile_invariant_violation": FLAG}, {"notes": list_of(TEXT)}),
    },
)

_CHANGE_REFS: Final = ("diff_incremental_ref", "diff_cumulative_ref", "patch_incremental_ref", "patch_cumulative_ref")
_TRIAL_REFS: Final = ("trial_input_ref", "trial_output_ref", "workspace_pre_ref", "workspace_post_ref")
_LATER_REFS: Final = ("stdout_ref", "stderr_ref", "hook_events_ref", "harness_request_ref", "harness_response_ref")
_PATHS: Final = ("trial_dir", "trial_input", "trial_output", "stdout", "stderr", "hook_events", "workspace_pre_snapshot",
                 "workspace_post_snapshot", "diff_incremental", "diff_cumulative", "patch_incremental", "patch_cumulative")  # fmt: skip
_EVIDENCE_RECORD: Final = document(
    "evidence_record_v1",
    {
        "ids": IDS,
        "runtime": closed(
            {
                "executor": one_of("local_docker", "local_process", "remote"),
                "container_mode": FLAG,
                "exit_status": TEXT,
            },
            {"duration_ms": POSITIVE},
        ),
        "evidence": closed(
            dict.fromkeys((*_TRIAL_REFS, *_CHANGE_REFS), REF),
            {**dict.fromkeys(_LATER_REFS, REF), "supplemental_refs": list_of(REF)},
        ),
    },
    {
        "ts": TIME,
        "policy": closed(
            {}, {"state_policy": STATE, "task_model": MODEL, "chain_id": SOME_TEXT, "chain_step_index": WHOLE}
        ),
        "paths": closed({}, dict.fromkeys(_PATHS, SOME_TEXT)),
    },
)

_TASK_CHAIN_STATE: Final = document(
    "task_chain_state_v1",
    {
        "run_id": SOME_TEXT,
        "chain_id": SOME_TEXT,
        "task_model": MODEL,
        "step_index": WHOLE,
        "ids": closed(TRIAL_IDS),
        "snapshots": closed(dict.fromkeys(("chain_root_ref", "prev_ref", "post_ref"), REF)),
        "diffs": closed(
            dict.fromkeys(("incremental_ref", "cumulative_ref", "patch_incremental_ref", "patch_cumulative_ref"), REF)
        ),
    },
    {"ts": TIME},
)

RECORDS: Final[dict[str, Schema]] = {
    "attestation_v1": _ATTESTATION,
    "evidence_record_v1": _EVIDENCE_RECORD,
    "grades_v1": _GRADES,
    "manifest_v1": _MANIFEST,
    "state_inventory_v1": _STATE_INVENTORY,
    "task_chain_state_v1": _TASK_CHAIN_STATE,
}
