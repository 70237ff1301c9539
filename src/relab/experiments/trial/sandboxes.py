"""Make the sandbox that a configuration selects."""

from __future__ import annotations

from relab.experiments.config.limits import limits_of
from relab.experiments.config.models import ExperimentConfig, SandboxMode
from relab.experiments.sandbox.local import LocalSandbox
from relab.experiments.sandbox.protocol import NetworkMode, Sandbox


def make_sandbox(config: ExperimentConfig, run_id: str, network: NetworkMode | None = None) -> Sandbox:
    """Return the sandbox of a run, without starting or checking anything.

    Args:
        config: the configuration with the sandbox and network mode in effect.
        run_id: part of the names of the sandbox's resources, so that a later runner can remove leftovers.
        network: replaces the configured network mode, for a setup command.
    """
    sandbox = config.runtime.sandbox
    network = network or config.runtime.network.mode
    limits = limits_of(config)
    if sandbox.mode is SandboxMode.LOCAL:
        return LocalSandbox(network, limits, run_id)
    if sandbox.mode is SandboxMode.BWRAP:
        from relab.experiments.sandbox.bwrap import BwrapSandbox

        return BwrapSandbox(
            run_id=run_id,
            network=network,
            limits=limits,
            read_only_paths=tuple(sandbox.read_only_paths),
            user=sandbox.run_as_user,
        )
    from relab.experiments.sandbox.docker import DockerSandbox

    assert sandbox.image is not None
    return DockerSandbox(
        run_id=run_id,
        image=sandbox.image,
        network=network,
        limits=limits,
        read_only_root=sandbox.root_read_only,
        user=sandbox.run_as_user,
        no_new_privileges=sandbox.hardening.no_new_privileges,
        drop_all_caps=sandbox.hardening.drop_all_caps,
    )
