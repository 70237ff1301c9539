"""The kinds of sandboxes: one descriptor for each, with all the differences that matter to the rest of the program.

To add a kind, write a module that implements `protocol.Sandbox`, add a member and a descriptor here, and add the kind
to the conformance suite in `tests/contract/sandbox/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.experiments.sandbox.protocol import NetworkMode, Sandbox, SandboxLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """The settings of a run's sandbox; a kind of sandbox ignores settings that do not apply to it.

    Attributes:
        run_id: the id of the run. It marks the sandbox's containers, folders and control groups, so that a later
            process of the run finds leftovers.
        network: the network mode of the trials.
        limits: the limits of each attempt.
        image: the container image; None for a kind of sandbox that runs no image.
        user: `uid` or `uid:gid` of the trials; None for the default of the kind.
        read_only_root: whether only the trial's folders and `/tmp` are writable in a container.
        read_only_paths: further folders and files of this machine that trials can read.
        no_new_privileges, drop_all_caps: restrictions of a container.
    """

    run_id: str
    network: NetworkMode
    limits: SandboxLimits
    image: str | None = None
    user: str | None = None
    read_only_root: bool = True
    read_only_paths: tuple[str, ...] = ()
    no_new_privileges: bool = True
    drop_all_caps: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxKind:
    """The descriptor of one kind of sandbox.

    Attributes:
        make: creates a sandbox of this kind. The call imports the kind's module, but starts and checks nothing.
        isolates: whether the sandbox enforces the network mode and prevents changes of the project's snapshot.
        runs_image: whether trials run in a container image, which has its own files and PATH.
        contract_executor: AgentLab's name of this kind. (AgentLab is an experiment runner whose file formats relab
            keeps.)
        contract_enforcements: AgentLab's names of the mechanisms that enforce the network mode:
            `{relab's name: AgentLab's name}`. AgentLab has no name for a mechanism that is missing here.
    """

    make: Callable[[SandboxOptions], Sandbox]
    isolates: bool
    runs_image: bool = False
    contract_executor: str = "local_process"
    contract_enforcements: Mapping[str, str] = field(default_factory=dict)


class SandboxMode(StrEnum):
    """The names of the kinds of sandboxes. An experiment file may write `docker` instead of `container`."""

    LOCAL = "local"
    BWRAP = "bwrap"
    CONTAINER = "container"

    @property
    def kind(self) -> SandboxKind:
        """The `SandboxKind` with this name, which makes sandboxes and describes what they can do."""
        return KINDS[self]


def _local(options: SandboxOptions) -> Sandbox:
    from relab.experiments.sandbox.local import LocalSandbox

    return LocalSandbox(options.limits, options.run_id)


def _bwrap(options: SandboxOptions) -> Sandbox:
    from relab.experiments.sandbox.bwrap import BwrapSandbox

    return BwrapSandbox(
        run_id=options.run_id,
        network=options.network,
        limits=options.limits,
        read_only_paths=options.read_only_paths,
        user=options.user,
    )


def _container(options: SandboxOptions) -> Sandbox:
    from relab.experiments.sandbox.docker import DockerSandbox

    assert options.image is not None
    return DockerSandbox(
        run_id=options.run_id,
        image=options.image,
        network=options.network,
        limits=options.limits,
        read_only_root=options.read_only_root,
        user=options.user,
        no_new_privileges=options.no_new_privileges,
        drop_all_caps=options.drop_all_caps,
    )


KINDS: Final[Mapping[SandboxMode, SandboxKind]] = {
    SandboxMode.LOCAL: SandboxKind(make=_local, isolates=False),
    SandboxMode.BWRAP: SandboxKind(
        make=_bwrap, isolates=True, contract_enforcements={"network_namespace_and_proxy": "sidecar_proxy"}
    ),
    SandboxMode.CONTAINER: SandboxKind(
        make=_container,
        isolates=True,
        runs_image=True,
        contract_executor="local_docker",
        contract_enforcements={
            "network_namespace": "docker_none",
            "network_namespace_and_proxy": "sidecar_proxy",
        },
    ),
}
