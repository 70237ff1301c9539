"""Make the state inventory of a trial: the isolation that its sandbox enforced, and violations of its profile.

The profile (sanitization profile) names the conditions that must be equal for all trials.

The document has the schema `state_inventory_v1` of AgentLab, an experiment runner; relab writes its file formats. If
the schema does not allow the value of a field, the field has the nearest allowed value. Values for which the schema has
no field are under `ext`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.experiments.config.limits import limits_record
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.sanitization import contract_profile, violations
from relab.experiments.sandbox.protocol import NetworkMode, Posture
from relab.experiments.trial.harness_identity import identity_fields


def inventory(config: ExperimentConfig, posture: Posture | None, harness_identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state inventory of an attempt: a record of its isolation, its harness and its violations.

    A violation is a condition of the experiment's sanitization profile that the attempt does not keep. The profile
    names conditions that must be equal for all trials.

    Args:
        config: the configuration in effect.
        posture: the isolation that the sandbox enforced; None if the attempt never started.
        harness_identity: the digests that identify the harness, from the run's manifest.

    Returns:
        The JSON object `state_inventory_v1`, in the format of AgentLab (an experiment runner whose file formats relab
        keeps). Its `ext` has the values for which this format has no field: `sandbox`, `started`, `network`, `limits`
        (each limit with the mechanism that enforces it), further fields of the harness's identity, and
        `sanitization_profile` if the format does not know the profile's name.
    """
    profile = config.design.sanitization_profile
    named, is_known = contract_profile(profile)
    state_policy = config.design.policies.state
    effective = str(posture.network_effective) if posture is not None else NetworkMode.NONE.value
    notes = violations(profile, state_policy=state_policy, network_effective=effective)
    state_leak = bool(violations(profile, state_policy=state_policy, network_effective=NetworkMode.NONE.value))
    ext: dict[str, Any] = {
        "sandbox": config.runtime.sandbox.mode.value,
        "started": posture is not None,
        "network": {
            "enforcement": posture.enforcement if posture is not None else "none",
            "egress_self_test": dict(posture.egress_self_test) if posture is not None else {"performed": False},
        },
        "limits": limits_record(config, posture.limits if posture is not None else {}),
    }
    if not is_known:
        ext["sanitization_profile"] = profile.value
        notes = [*notes, f"the experiment's profile is {profile.value}, which promises less than {named}"]
    contract, more = identity_fields(config, harness_identity)
    if more:
        ext["harness_identity"] = more
    return {
        "schema_version": "state_inventory_v1",
        "sanitization_profile": named,
        "integration_level": config.runtime.harness.integration_level.value,
        "mounts": [
            {"name": path.strip("/") or "root", "path": path, "writable": mode == "rw"}
            for path, mode in (posture.mounts if posture is not None else {}).items()
        ],
        "network": _network(config, posture, effective),
        "harness_identity": contract,
        "violations": {"state_leak": state_leak, "profile_invariant_violation": bool(notes), "notes": notes},
        "ext": ext,
    }


def _network(config: ExperimentConfig, posture: Posture | None, effective: str) -> dict[str, Any]:
    asked = config.runtime.network
    enforcement = posture.enforcement if posture is not None else "none"
    test = posture.egress_self_test if posture is not None else {}
    cases = []
    if test.get("performed"):
        observed = "block" if test["passed"] else "allow"
        case = {"target": "any address but loopback", "expected": "block", "observed": observed, "ok": test["passed"]}
        cases.append(case)
    return {
        "mode_requested": asked.mode.value,
        "mode_effective": effective,
        "allowed_hosts": list(asked.allowed_hosts),
        "enforcement_effective": config.runtime.sandbox.mode.kind.contract_enforcements.get(enforcement, "unknown"),
        "egress_self_test": {"performed": bool(cases), "cases": cases},
    }
