"""The posture of the three commands: the seed's table, and rejection instead of weaker isolation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.errors import ExperimentInvalidError, PostureRefusedError
from relab.experiments.plan.resolve import Command, check_harness, describe, resolve, with_posture
from relab.experiments.sandbox.protocol import NetworkMode
from support.experiments.configs import config, write_project

RUN, DEV, EXPERIMENT = Command.RUN, Command.RUN_DEV, Command.RUN_EXPERIMENT
LOCAL: dict[str, Any] = {"mode": "local"}
IMAGE: dict[str, Any] = {"mode": "local", "image": "x"}
CONTAINER: dict[str, Any] = {"mode": "container", "image": "x"}
NO_IMAGE: dict[str, Any] = {"mode": "container"}
BWRAP: dict[str, Any] = {"mode": "bwrap"}


def posture(
    command: Command,
    sandbox: dict[str, Any],
    network: str = "none",
    *,
    container: bool = False,
    profile: str = "hermetic_functional",
) -> tuple[str, str, list[str]]:
    warnings: list[str] = []
    hosts = ["a.example"] if network == "allowlist_enforced" else []
    given = config(
        runtime__sandbox=sandbox,
        runtime__network={"mode": network, "allowed_hosts": hosts},
        design__sanitization_profile=profile,
    )
    found = with_posture(given, command, container, warnings)
    assert found.runtime.network.allowed_hosts == (hosts if found.runtime.network.mode is NetworkMode.ALLOWLIST else [])
    return found.runtime.sandbox.mode.value, found.runtime.network.mode.value, warnings


@pytest.mark.parametrize("network", ["none", "allowlist_enforced", "full"])
@pytest.mark.parametrize(
    ("sandbox", "container", "mode"),
    [
        (LOCAL, False, "local"),
        (IMAGE, False, "local"),
        (IMAGE, True, "container"),
        (CONTAINER, False, "container"),
        (CONTAINER, True, "container"),
        (BWRAP, False, "bwrap"),
    ],
)
def test_run_uses_the_configured_sandbox(sandbox: dict[str, Any], container: bool, mode: str, network: str) -> None:
    found_mode, found_network, warnings = posture(RUN, sandbox, network, container=container)

    assert found_mode == mode
    assert found_network == network
    # The only warning is for a network mode that local trials cannot enforce.
    assert len(warnings) == (mode == "local" and network != "full")


def test_without_an_image_trials_run_locally_with_a_warning() -> None:
    mode, network, warnings = posture(RUN, NO_IMAGE)

    assert mode == "local"
    assert network == "none"
    assert "so trials run locally, without isolation" in warnings[0]
    assert "cannot enforce network mode 'none'" in warnings[1]


@pytest.mark.parametrize("network", ["none", "allowlist_enforced", "full"])
@pytest.mark.parametrize(("sandbox", "mode"), [(IMAGE, "container"), (CONTAINER, "container"), (BWRAP, "bwrap")])
def test_run_dev_opens_the_network_in_a_container(sandbox: dict[str, Any], mode: str, network: str) -> None:
    assert posture(DEV, sandbox, network) == (mode, "full", [])


@pytest.mark.parametrize(("sandbox", "mode"), [(IMAGE, "container"), (CONTAINER, "container"), (BWRAP, "bwrap")])
def test_run_experiment_closes_the_network_in_a_container(sandbox: dict[str, Any], mode: str) -> None:
    assert posture(EXPERIMENT, sandbox, profile="hermetic_functional_v2") == (mode, "none", [])


@pytest.mark.parametrize("network", ["allowlist_enforced", "full"])
@pytest.mark.parametrize("sandbox", [LOCAL, CONTAINER, BWRAP])
def test_run_experiment_refuses_every_network_mode_but_none(sandbox: dict[str, Any], network: str) -> None:
    with pytest.raises(PostureRefusedError, match=f"runtime.network.mode 'none', but it is '{network}'"):
        posture(EXPERIMENT, sandbox, network)


@pytest.mark.parametrize("command", [DEV, EXPERIMENT])
@pytest.mark.parametrize("sandbox", [LOCAL, NO_IMAGE])
def test_run_dev_and_run_experiment_refuse_local_execution(command: Command, sandbox: dict[str, Any]) -> None:
    with pytest.raises(PostureRefusedError) as caught:
        posture(command, sandbox)
    assert command.value in caught.value.message
    assert "'bwrap'" in caught.value.remedy


@pytest.mark.parametrize("command", [RUN, DEV, EXPERIMENT])
@pytest.mark.parametrize("sandbox", [LOCAL, NO_IMAGE, BWRAP])
def test_container_flag_requires_an_image(command: Command, sandbox: dict[str, Any]) -> None:
    with pytest.raises(PostureRefusedError, match=f"{command.value} --container"):
        posture(command, sandbox, container=True)


def violating(network: str = "none", state: str = "isolate_per_trial", **validity: bool) -> ExperimentConfig:
    return config(
        runtime__sandbox=BWRAP,
        runtime__network={"mode": network},
        design__policies={"state": state},
        design__sanitization_profile="hermetic_functional_v2",
        validity=validity,
    )


@pytest.mark.parametrize(
    ("given", "violation"),
    [({"network": "full"}, "full network access"), ({"state": "accumulate"}, "state policy accumulate")],
)
def test_run_warns_of_a_violated_profile_and_respects_the_configuration(given: dict[str, str], violation: str) -> None:
    warnings: list[str] = []
    chosen = with_posture(violating(**given), RUN, False, warnings)

    assert chosen.runtime.network.mode.value == given.get("network", "none")
    assert chosen.design.policies.state.value == given.get("state", "isolate_per_trial")
    assert [violation in warning for warning in warnings] == [True]
    assert chosen.resolved()["validity"] == {"fail_on_state_leak": False, "fail_on_profile_invariant_violation": False}


def test_strict_run_refuses_kept_state_unless_the_experiment_permits_it() -> None:
    with pytest.raises(PostureRefusedError, match="state policy accumulate"):
        with_posture(violating(state="accumulate"), EXPERIMENT, False, [])

    permitted = violating(state="accumulate", fail_on_profile_invariant_violation=False)
    assert with_posture(permitted, EXPERIMENT, False, []).design.policies.state is StatePolicy.ACCUMULATE


@pytest.mark.parametrize(
    ("given", "violation"),
    [({"network": "full"}, "full network access"), ({"state": "accumulate"}, "state policy accumulate")],
)
def test_validity_refuses_what_the_strict_profile_does_not_allow(given: dict[str, str], violation: str) -> None:
    strict = violating(**given, fail_on_state_leak=True, fail_on_profile_invariant_violation=True)  # type: ignore[arg-type]
    with pytest.raises(PostureRefusedError, match=violation):
        with_posture(strict, RUN, False, [])
    # A development run always opens the network.
    assert with_posture(strict, DEV, False, []).runtime.network.mode.value == "full"


@pytest.mark.parametrize("field", ["fail_on_state_leak", "fail_on_profile_invariant_violation"])
def test_run_refuses_kept_state_if_one_field_of_validity_asks_for_it(field: str) -> None:
    with pytest.raises(PostureRefusedError, match="state policy accumulate"):
        with_posture(violating(state="accumulate", **{field: True}), RUN, False, [])


def test_run_that_refuses_only_kept_state_respects_an_open_network() -> None:
    chosen = with_posture(violating("full", fail_on_state_leak=True), RUN, False, [])

    assert chosen.runtime.network.mode is NetworkMode.FULL


def test_strict_run_permits_other_violations_and_refuses_kept_state() -> None:
    given = {"fail_on_state_leak": True, "fail_on_profile_invariant_violation": False}
    with pytest.raises(PostureRefusedError, match="state policy accumulate"):
        with_posture(violating(state="accumulate", **given), EXPERIMENT, False, [])


def test_a_state_leak_is_permitted_without_permitting_an_open_network() -> None:
    def permitted(network: str) -> ExperimentConfig:
        validity = {"fail_on_state_leak": False, "fail_on_profile_invariant_violation": True}
        return with_posture(violating(network, "accumulate", **validity), RUN, False, [])

    assert permitted("none").design.policies.state is StatePolicy.ACCUMULATE
    with pytest.raises(PostureRefusedError, match="full network access"):
        permitted("full")


@pytest.mark.parametrize(("limit", "resolved"), [(50, 50), (2, 2), (None, 3)])
def test_resolved_limit_is_the_configured_one_or_else_the_number_of_tasks(
    tmp_path: Path, limit: int | None, resolved: int
) -> None:
    found = resolve(write_project(tmp_path, tasks=3, dataset__limit=limit))

    assert found.config.resolved()["dataset"]["limit"] == resolved
    assert len(found.tasks) == min(limit or 3, 3)


def test_experiment_is_resolved_to_root_script_and_plan(tmp_path: Path) -> None:
    path = write_project(tmp_path, tasks=3, variant_plan=[{"variant_id": "b"}], design__replications=2)
    found = resolve(path)

    assert found.root == tmp_path
    assert found.script.path == tmp_path / "harness.py"
    assert found.script.exists is True
    assert len(found.plan) == 12
    check_harness(found)


def test_description_accepts_a_posture_that_the_command_rejects(tmp_path: Path) -> None:
    path = write_project(tmp_path, runtime__network={"mode": "full"})

    with pytest.raises(PostureRefusedError):
        resolve(path, command=EXPERIMENT)
    found = resolve(path, command=EXPERIMENT, check_posture=False)
    assert found.config.runtime.network.mode is NetworkMode.FULL


def test_description_shows_script_trials_network_and_sandbox(tmp_path: Path) -> None:
    path = write_project(
        tmp_path,
        tasks=4,
        variant_plan=[{"variant_id": "b"}],
        runtime__sandbox=BWRAP,
        runtime__harness={"command": ["node", "./src/none.js"], "integration_level": "cli_events"},
    )
    document = describe(resolve(path), {"pairs": 4})

    assert document["harness_script_resolved"] == str(tmp_path / "src" / "none.js")
    assert document["harness_script_exists"] is False
    assert document["total_trials"] == 8
    assert document["tasks"] == 4
    assert document["variants"] == ["control", "b"]
    assert document["network"] == "none"
    assert document["network_effective"] == "none"
    assert document["sandbox"] == "bwrap"
    assert document["events_path"] == "/out/harness_events.jsonl"
    assert document["power"] == {"pairs": 4}
    assert [trial["trial_id"] for trial in document["first_trials"]] == [f"trial_{n}" for n in range(1, 7)]
    assert {trial["variant_id"] for trial in document["first_trials"]} == {"control", "b"}
    json.dumps(document, allow_nan=False)


def test_local_preflight_shows_the_effective_posture(tmp_path: Path) -> None:
    document = describe(resolve(write_project(tmp_path)), {})

    assert document["network"] == "none"
    assert document["network_effective"] == "full"
    assert document["events_path"] is None
    assert len(document["warnings"]) == 1


def overrides(root: Path, values: dict[str, Any]) -> Path:
    knobs = [
        {"id": "reps", "json_pointer": "/design/replications", "type": "integer"},
        {"id": "net", "json_pointer": "/runtime/network/mode", "type": "string"},
        {"id": "typo", "json_pointer": "/desing/replications", "type": "integer"},
    ]
    (root / "manifest.json").write_text(json.dumps({"knobs": knobs}))
    path = root / "overrides.json"
    path.write_text(json.dumps({"manifest_path": "manifest.json", "values": values}))
    return path


def test_overrides_are_applied_before_checks_and_posture(tmp_path: Path) -> None:
    path = write_project(tmp_path, runtime__sandbox=BWRAP)
    found = resolve(path, command=EXPERIMENT, overrides=overrides(tmp_path, {"reps": 5}))
    assert found.config.design.replications == 5
    assert [(override.id, override.value) for override in found.overrides] == [("reps", 5)]
    assert len(found.plan) == 10

    with pytest.raises(ExperimentInvalidError) as caught:
        resolve(path, overrides=overrides(tmp_path, {"reps": 0}))
    assert caught.value.problems[0][0].endswith(": design.replications")
    assert "not 0" in caught.value.problems[0][1]
    with pytest.raises(ExperimentInvalidError) as caught:
        resolve(path, overrides=overrides(tmp_path, {"typo": 1}))
    assert caught.value.problems[0][0].endswith(": desing")
    assert "'design'" in caught.value.problems[0][1]
    with pytest.raises(PostureRefusedError, match="'full'"):
        resolve(path, command=EXPERIMENT, overrides=overrides(tmp_path, {"net": "full"}))


@pytest.mark.parametrize(
    ("harness", "message"),
    [
        (["python", "./none.py"], r"none\.py does not exist: .*resolved from the project's root"),
        (["./none"], r"none does not exist"),
        (["./harness.py"], r"harness\.py is not executable.*chmod \+x"),
        (["no-such-program"], "The program 'no-such-program' of runtime.harness.command is not on the PATH"),
        (["no-such-program", "./harness.py"], "The program 'no-such-program' of .* is not on the PATH"),
        (["no-such-program", "-m", "installed.module"], "The program 'no-such-program' of .* is not on the PATH"),
    ],
)
def test_missing_or_non_executable_harness_is_refused(tmp_path: Path, harness: list[str], message: str) -> None:
    path = write_project(tmp_path, runtime__harness={"command": harness})

    with pytest.raises(ExperimentInvalidError, match=message):
        check_harness(resolve(path))


@pytest.mark.parametrize(
    ("harness", "sandbox"),
    [
        (["sh", "-c", "./what/ever.sh > /dev/null"], LOCAL),
        (["python", "harness.py"], CONTAINER),
        (["no-such-program", "/app/run.py"], CONTAINER),
        (["/usr/local/bin/no-such-program"], CONTAINER),
        (["no-such-program"], CONTAINER),
    ],
)
def test_harness_inside_a_container_is_not_checked(tmp_path: Path, harness: list[str], sandbox: dict[str, Any]) -> None:
    check_harness(resolve(write_project(tmp_path, runtime__harness={"command": harness}, runtime__sandbox=sandbox)))


def test_missing_project_script_is_refused_for_a_container_too(tmp_path: Path) -> None:
    path = write_project(tmp_path, runtime__harness={"command": ["node", "./none.js"]}, runtime__sandbox=CONTAINER)

    with pytest.raises(ExperimentInvalidError, match=r"none\.js does not exist"):
        check_harness(resolve(path))


def test_program_is_not_checked_if_the_experiment_sets_its_own_path(tmp_path: Path) -> None:
    harness = {"command": ["no-such-program", "./harness.py"], "environment": {"set": {"PATH": "/opt/bin"}}}

    check_harness(resolve(write_project(tmp_path, runtime__harness=harness)))


def test_an_unknown_direction_of_a_primary_metric_is_reported_before_the_run(tmp_path: Path) -> None:
    path = write_project(tmp_path, analysis={"primary_metrics": ["success", "quux"]})

    assert [warning for warning in resolve(path).warnings if "'quux'" in warning]
