"""Read an experiment for the command that runs it: apply overrides, and check and set the isolation of its trials."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relab.experiments.config.file import EXPERIMENT_YAML, check_config
from relab.experiments.config.knobs import Override, apply_overrides, load_overrides
from relab.experiments.config.metric_directions import direction_warnings
from relab.experiments.config.model_gateways import cache_warnings
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import Script, dataset_path, find_script, project_root
from relab.experiments.config.policies import Validity
from relab.experiments.config.result_cache import with_result_cache
from relab.experiments.config.sanitization import EFFECTS, Profile, violations
from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.errors import ExperimentInvalidError, PostureRefusedError
from relab.experiments.models import Command
from relab.experiments.plan.dataset import TaskIndex, index_tasks
from relab.experiments.plan.trials import TrialPlan, make_plan
from relab.experiments.sandbox.kinds import SandboxMode
from relab.experiments.sandbox.protocol import NetworkMode

_SHOWN_TRIALS: Final = 6


@dataclass(frozen=True)
class Resolved:
    """An experiment, ready to be described or run.

    Attributes:
        config: the configuration after overrides, with the sandbox and network mode that `lab` sets for its command.
        path: the experiment file.
        root: the project's folder.
        script: the script or program that the harness's command runs.
        tasks: the index of the data set.
        plan: the order of all trials.
        requested_network: the network mode in the file, before the command changed it.
        overrides: the values that overrides have set.
        warnings: sentences to show to the user before the run.
    """

    config: ExperimentConfig
    path: Path
    root: Path
    script: Script
    tasks: TaskIndex
    plan: TrialPlan
    requested_network: str
    overrides: Sequence[Override] = ()
    warnings: Sequence[str] = field(default_factory=list)


def resolve(
    path: Path,
    *,
    command: Command = Command.RUN,
    container: bool = False,
    overrides: Path | None = None,
    result_cache: bool | None = None,
    check_posture: bool = True,
) -> Resolved:
    """Read an experiment with its overrides, data set, harness and plan.

    Args:
        path: the experiment file, `.lab/experiment.yaml`.
        command: the command that runs the trials. It decides about their sandbox and network mode, and about the
            checks of the configuration.
        container: whether `--container` was given: all trials run in a container.
        overrides: a file of values for knobs (fields that overrides may change); None for no overrides.
        result_cache: whether to use the result cache; None to use it if the file turns it on.
        check_posture: whether to check the isolation. If False, there is no `PostureRefusedError` and no warning about
            the isolation. A configuration that the command would reject keeps the isolation of the file.

    Raises:
        ExperimentInvalidError: the file, the overrides or the data set is invalid.
        PostureRefusedError: the configuration does not provide the isolation that the command requires.
    """
    source = EXPERIMENT_YAML.read(path)
    root = project_root(path)
    value, applied = source.value, list[Override]()
    if overrides is not None:
        value, applied = apply_overrides(value, load_overrides(overrides, root))
    given = check_config(with_result_cache(value, result_cache), source)
    warnings: list[str] = []
    config = with_posture(given, command, container, warnings) if check_posture else _lenient(given, command, container)
    warnings += direction_warnings(config)
    warnings += cache_warnings(config.runtime.model_gateways, config.design.replications)
    dataset = config.dataset
    tasks = index_tasks(dataset_path(path, dataset.path), dataset.limit, dataset.task_id_field)
    warnings += tasks.warnings
    if config.dataset.limit is None:
        # AgentLab's schema requires a number.
        config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"limit": len(tasks)})})
    return Resolved(
        config=config,
        path=path,
        root=root,
        script=find_script(config.runtime.harness.command, root),
        tasks=tasks,
        plan=plan_of(config, len(tasks)),
        requested_network=given.runtime.network.mode.value,
        overrides=applied,
        warnings=warnings,
    )


def plan_of(config: ExperimentConfig, tasks: int) -> TrialPlan:
    """Return the plan of an experiment with this number of tasks."""
    return make_plan(
        variants=len(config.variants),
        tasks=tasks,
        replications=config.design.replications,
        scheduling=config.design.policies.scheduling,
        seed=config.design.random_seed,
        shuffle_tasks=config.design.shuffle_tasks,
    )


def check_harness(resolved: Resolved) -> None:
    """Check that the harness of an experiment exists and can be executed.

    A harness that is only in a container image is not checked.

    Raises:
        ExperimentInvalidError: the harness is missing or not executable, so every trial would fail.
    """
    script, command = resolved.script, resolved.config.runtime.harness.command
    # This process cannot see the files of an image; it can check only the project's files.
    in_image = resolved.config.runtime.sandbox.mode.kind.runs_image
    if in_image and (script.path is None or not script.path.is_relative_to(resolved.root)):
        return
    if script.path is not None and not script.exists:
        raise ExperimentInvalidError(
            f"The harness {script.path} does not exist: runtime.harness.command is {command}.",
            remedy="The command is resolved from the project's root: the folder that contains the .lab/ with the experiment file, "
            "else the folder of that file.",
        )
    # The experiment may set another PATH than that of this process.
    is_elsewhere = in_image or "/" in command[0] or "PATH" in resolved.config.runtime.harness.environment.set
    if not is_elsewhere and shutil.which(command[0]) is None:
        raise ExperimentInvalidError(f"The program {command[0]!r} of runtime.harness.command is not on the PATH.")
    if not script.executable:
        raise ExperimentInvalidError(
            f"The harness {script.path} is not executable.",
            remedy=f"Run chmod +x {script.path}, or start runtime.harness.command with an interpreter.",
        )


def with_posture(config: ExperimentConfig, command: Command, container: bool, warnings: list[str]) -> ExperimentConfig:
    """Return a copy of the configuration with the sandbox and network mode in which the command runs the trials.

    Args:
        config: the configuration.
        command: the command that runs the trials.
        container: whether `--container` was given: all trials run in a container.
        warnings: a list; sentences for the user are appended to it.

    Raises:
        PostureRefusedError: the configuration does not provide the isolation that the command requires.
    """
    network, sandbox = config.runtime.network, config.runtime.sandbox
    mode = sandbox.mode
    if command is Command.RUN_EXPERIMENT and network.mode is not NetworkMode.NONE:
        raise PostureRefusedError(
            f"run-experiment requires runtime.network.mode 'none', but it is {network.mode.value!r}.",
            remedy="Set the mode to 'none', or use `lab run`.",
        )
    # The commands for development and for results demand a sandbox that isolates; a container is the default one.
    if container or (command is not Command.RUN and (mode.kind.runs_image or not mode.kind.isolates)):
        if sandbox.image is None:
            flag = f"{command.value} --container" if container else command.value
            raise PostureRefusedError(
                f"{flag} runs trials in a container, but runtime.sandbox.image is not set.",
                remedy="Set runtime.sandbox.image, or set runtime.sandbox.mode to 'bwrap', which needs no image.",
            )
        mode = SandboxMode.CONTAINER
    elif mode.kind.runs_image and sandbox.image is None:
        warnings.append("runtime.sandbox.image is not set, so trials run locally, without isolation")
        mode = SandboxMode.LOCAL
    network_mode = NetworkMode.FULL if command is Command.RUN_DEV else network.mode
    if not mode.kind.isolates and network_mode is not NetworkMode.FULL:
        as_root = ", as root" if os.geteuid() == 0 else ""
        warnings.append(
            f"a plain local run cannot enforce network mode {network_mode.value!r}: trials reach everything that this "
            f"machine reaches{as_root} (set runtime.sandbox.mode to 'bwrap' to isolate them)"
        )
    return _check_profile(_with(config, mode, network_mode), command, warnings)


def _lenient(config: ExperimentConfig, command: Command, container: bool) -> ExperimentConfig:
    try:
        return with_posture(config, command, container, [])
    except PostureRefusedError:
        return config


def _with(config: ExperimentConfig, mode: SandboxMode, network_mode: NetworkMode) -> ExperimentConfig:
    runtime = config.runtime
    hosts = runtime.network.allowed_hosts if network_mode is NetworkMode.ALLOWLIST else []
    changed = runtime.model_copy(
        update={
            "sandbox": runtime.sandbox.model_copy(update={"mode": mode}),
            "network": runtime.network.model_copy(update={"mode": network_mode, "allowed_hosts": hosts}),
        }
    )
    return config.model_copy(update={"runtime": changed})


def _check_profile(config: ExperimentConfig, command: Command, warnings: list[str]) -> ExperimentConfig:
    """Check the sanitization profile (conditions that must be equal for all trials).

    The section `validity` of the configuration says whether a violation is rejected. By default, only `run-experiment`
    rejects it. A violation that is not rejected gives a warning. `run-dev` neither rejects nor warns.

    Args:
        config: the configuration.
        command: the command that runs the trials.
        warnings: a list; the warnings are appended to it.

    Returns:
        The configuration, with the defaults of `validity` filled in.

    Raises:
        PostureRefusedError: a violation is rejected.
    """
    profile, policy = config.design.sanitization_profile, config.design.policies.state
    given, network = config.validity, config.runtime.network.mode
    # `run` respects the configuration, and only a strict run rejects by default what the profile does not allow.
    fails = given.fail_on_profile_invariant_violation
    fails = command is Command.RUN_EXPERIMENT if fails is None else fails
    fails_on_leak = fails if given.fail_on_state_leak is None else given.fail_on_state_leak
    rejected = violations(
        profile,
        state_policy=policy if fails_on_leak else StatePolicy.ISOLATE_PER_TRIAL,
        network_effective=(network if fails else NetworkMode.NONE).value,
    )
    # `run-dev` always opens the network; the rows of its trials record the violation.
    if rejected and command is not Command.RUN_DEV:
        raise PostureRefusedError(
            f"The sanitization profile {profile.value!r} would be violated: {rejected[0]}. {EFFECTS[profile].summary}",
            remedy=f"Set design.sanitization_profile to {Profile.HERMETIC_FUNCTIONAL.value}, or "
            "validity.fail_on_profile_invariant_violation (and fail_on_state_leak, if it is true) to false to record the "
            "violation in the rows of all trials.",
        )
    if command is not Command.RUN_DEV:
        warnings += [
            f"the sanitization profile {profile.value!r} does not hold: {violation} (the rows of all trials record it)"
            for violation in violations(profile, state_policy=policy, network_effective=network.value)
        ]
    validity = Validity(fail_on_state_leak=fails_on_leak, fail_on_profile_invariant_violation=fails)
    return config.model_copy(update={"validity": validity})


def describe(resolved: Resolved, power: Mapping[str, Any], *, harness_problem: str | None = None) -> dict[str, Any]:
    """Return the description of an experiment that `lab describe` prints, as JSON.

    Args:
        resolved: the experiment.
        power: the result of `plan_power`: which differences the planned number of trials can detect.
        harness_problem: why the harness cannot be started; None if it can.
    """
    config, plan = resolved.config, resolved.plan
    harness, sandbox = config.runtime.harness, config.runtime.sandbox
    return {
        "experiment": config.experiment.id,
        "name": config.experiment.name,
        "workload_type": config.experiment.workload_type,
        "dataset": str(resolved.tasks.path),
        "tasks": len(resolved.tasks),
        "replications": config.design.replications,
        "variants": [variant.variant_id for variant in config.variants],
        "variant_plan_entries": len(config.variant_plan),
        "total_trials": len(plan),
        "harness": harness.command,
        "integration_level": harness.integration_level.value,
        "harness_script_resolved": str(resolved.script.path) if resolved.script.path is not None else None,
        "harness_script_exists": resolved.script.exists,
        "harness_problem": harness_problem,
        "project_root": str(resolved.root),
        "container_mode": sandbox.mode.kind.runs_image,
        "sandbox": sandbox.mode.value,
        "image": sandbox.image,
        "network": resolved.requested_network,
        "network_effective": config.runtime.network.mode.value if sandbox.mode.kind.isolates else "full",
        "allowed_hosts": config.runtime.network.allowed_hosts,
        "events_path": harness.events.path if harness.integration_level.value != "cli_basic" else None,
        "control_path": harness.control_plane.path,
        "scheduling": config.design.policies.scheduling.value,
        "state_policy": config.design.policies.state.value,
        "comparison": config.design.comparison,
        "retry_max_attempts": config.design.policies.retry.max_attempts,
        "max_concurrency": config.design.max_concurrency,
        "sanitization_profile": config.design.sanitization_profile.value,
        "primary_metrics": config.analysis.primary_metrics,
        "first_trials": _first_trials(resolved),
        "overrides": [override.model_dump() for override in resolved.overrides],
        "power": dict(power),
        "warnings": list(resolved.warnings),
    }


def _first_trials(resolved: Resolved) -> list[dict[str, Any]]:
    variants = resolved.config.variants
    slots = [resolved.plan.slot(index) for index in range(min(_SHOWN_TRIALS, len(resolved.plan)))]
    return [
        {
            "trial_id": slot.trial_id,
            "variant_id": variants[slot.variant].variant_id,
            "task_id": resolved.tasks.read(slot.task).task_id,
            "repl_idx": slot.replication,
        }
        for slot in slots
    ]
