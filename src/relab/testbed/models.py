"""Values shared by the supervisor, the links and their callers. The end of a field's name gives its unit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from relab.core.clock import Timestamp

Direction = Literal["up", "down", "both"]
"""`up` is the direction from the client to the server."""

Milliseconds = Annotated[float, Field(ge=0, le=600_000)]
Rlimit = Literal["nofile", "as", "cpu", "fsize", "nproc", "core", "stack"]
SignalName = Literal["STOP", "CONT", "TERM", "INT", "QUIT", "HUP", "KILL"]
TestbedPhase = Literal["starting", "ready", "resetting", "failed", "stopping"]
ComponentState = Literal["new", "starting", "running", "waiting", "stopped"]
"""`waiting`: the process ended by itself and will be started again after a pause."""


class Strict(BaseModel):
    """Base of values that are read from files or requests: unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Toxic(Strict):
    direction: Direction = "both"
    share: float = Field(1.0, gt=0, le=1, description="The share of connections that it is applied to.")
    seed: int = 0


class Latency(_Toxic):
    """A toxic (simulated network fault) that delays all bytes by `latency_ms`, varied at random by up to `jitter_ms`.

    It keeps the order of the bytes, and does not limit the throughput.
    """

    kind: Literal["latency"]
    latency_ms: Milliseconds
    jitter_ms: Milliseconds = 0


class Bandwidth(_Toxic):
    """A toxic (simulated network fault) that limits each connection, in each direction, to `bytes_per_s`."""

    kind: Literal["bandwidth"]
    bytes_per_s: float = Field(ge=1, le=1e10)


class Blackhole(_Toxic):
    """A toxic (simulated network fault) that delivers nothing: neither bytes nor the end of a stream.

    When the toxic is removed, the link delivers what was held back.
    """

    kind: Literal["blackhole"]


class Refuse(Strict):
    """A toxic (simulated network fault) that refuses new connections, and resets open ones if `drop_open` is true."""

    kind: Literal["refuse"]
    drop_open: bool = True


class Reset(_Toxic):
    """A toxic (simulated network fault) that resets connections (RST), both open and new ones.

    It resets a connection `after_ms` after the toxic first acts on the connection, or when `after_bytes` bytes have
    passed in one direction. If neither is given, it resets the connection at once.
    """

    kind: Literal["reset"]
    after_ms: Milliseconds | None = None
    after_bytes: int | None = Field(None, ge=1)


Toxic = Annotated[Latency | Bandwidth | Blackhole | Refuse | Reset, Field(discriminator="kind")]


class LinkEnds(Strict):
    """The port on which a link listens and the port to which it forwards, both on loopback."""

    name: str
    port: int
    upstream_port: int


class LinksConfig(Strict):
    """The configuration of the process that runs all links (TCP proxies).

    `socket` is the path of the process's control socket.
    """

    socket: str
    links: list[LinkEnds]


class LinkStatistics(BaseModel):
    """Counters of a link since its process started.

    Attributes:
        accepted: number of connections that clients have opened.
        open: number of connections that are open now.
        reset: number of connections that the link has reset.
        upstream_failures: number of connections that the server behind the link did not accept.
        bytes_up, bytes_down: number of bytes from clients to the server, and from the server to clients.
    """

    accepted: int = 0
    open: int = 0
    reset: int = 0
    upstream_failures: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class ActiveToxic(BaseModel):
    """A toxic (simulated network fault) that acts on a link, with the id by which it can be removed."""

    toxic_id: str
    toxic: Toxic


class LinkStatus(BaseModel):
    """The current state of a link: its ports, whether it listens, its toxics and its counters.

    Clients connect to `port`; the link forwards to `upstream_port`.
    """

    name: str
    port: int
    upstream_port: int
    listening: bool
    toxics: list[ActiveToxic]
    statistics: LinkStatistics


class ResourceLimits(Strict):
    """Resource limits of a component; a field that is absent means no limit.

    `rlimits` are the kernel's limits for each process by name, such as `nofile`, in bytes, seconds or numbers.
    `cpu_pct` (percent of one CPU) and `memory_mb` (MiB) apply to all processes of the component together and are
    enforced by control groups.
    """

    rlimits: dict[Rlimit, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    cpu_pct: float | None = Field(None, ge=1, le=100_000)
    memory_mb: float | None = Field(None, ge=1)


class GroupFigures(BaseModel):
    """The kernel's counters of a component's control groups; a counter is None if the component has no such group.

    Attributes:
        throttled_periods: number of 100 ms periods in which the component's processes were paused because their CPU
            quota was used up.
        memory_refusals: number of memory requests that the component made while its memory was at the limit.
        oom_kills: number of the component's processes that the OOM killer ended; None if the kernel does not count this
            for each group.
    """

    throttled_periods: int | None = None
    memory_refusals: int | None = None
    oom_kills: int | None = None


class ComponentStatus(BaseModel):
    """The current state of a component of a testbed.

    Attributes:
        name, group: the name of the component, and the name of the group to which it belongs.
        pid: the id of the component's main process; None if it has no process now.
        port: the port on which the component listens; None if it listens on no port.
        started_at, ready_at: when the current process was started and became ready; None without a process, or before
            it is ready.
        restarts: number of starts after an exit that was not requested.
        starts: number of all starts.
        exit_code: the exit code of the component's last process that ended, negative for a signal; None before the
            first end of a process.
        exits: the latest exit codes, oldest first.
        limits: the resource limits of the component.
        counted: the kernel's counters of the component's control groups.
        log: the path of the component's log.
    """

    name: str
    group: str
    state: ComponentState
    pid: int | None
    port: int | None
    started_at: Timestamp | None
    ready_at: Timestamp | None
    restarts: int
    starts: int
    exit_code: int | None
    exits: list[int]
    limits: ResourceLimits
    counted: GroupFigures = GroupFigures()
    log: str


class SettingsVersion(BaseModel):
    """One version in the history of the target's settings.

    `time` is the time at which the version was created. `changes` has the new values by section and name, with secrets
    masked. `note` is the reason that the author gave.
    """

    version: int
    time: Timestamp
    author: str
    note: str
    changes: dict[str, Any]


class SettingsChange(Strict):
    """A request for a new version of the target's settings.

    Attributes:
        author, note: the author of the version and the reason, for the settings history.
        changes: new values, which are merged into the current settings. Either this or `settings` must be given, not
            both.
        settings: a new document, which replaces all current settings.
        restart: whether to restart the target with the new version.
        expected_version: the number of the version that the caller has read. If it is not the current one, the request
            is rejected. None: the current version is not checked.
    """

    author: str = Field(min_length=1, max_length=100)
    note: str = Field("", max_length=1_000)
    changes: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    restart: bool = False
    expected_version: int | None = None


class SettingsRollback(Strict):
    """A request to restore an older version of the target's settings as a new version.

    Attributes:
        author, note: the author of the new version and the reason, for the settings history.
        version: the number of the older version; None for the one before the current version.
        restart: whether to restart the target with the new version.
    """

    author: str = Field(min_length=1, max_length=100)
    note: str = Field("", max_length=1_000)
    version: int | None = None
    restart: bool = False


class SignalRequest(Strict):
    """A signal to send to the main process of a component, or, if `scope` is `all`, to all of its processes."""

    signal: SignalName
    scope: Literal["process", "all"] = "process"


class Addresses(BaseModel):
    """The addresses of a testbed's public servers; an address that is None is left out of the JSON.

    `target` is the watched service, `chaos` the server that injects faults, `actions` the server that executes repairs.
    An address is None if the testbed does not run the server, or the caller does not see it.
    """

    target: str
    chaos: str | None = None
    actions: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, str]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class TestbedState(BaseModel):
    """The state of a testbed, as its supervisor writes it to `state.json`; it contains no secrets.

    Attributes:
        pid: the id of the supervisor's process.
        ports: ports by the name of the component or server.
        control_socket: the path of the supervisor's socket.
        versions: versions of the programs, by name.
        template: the digest of the template from which the initial data was copied.
    """

    name: str
    pid: int
    phase: TestbedPhase
    started_at: Timestamp
    ready_at: Timestamp | None
    ports: dict[str, int]
    addresses: Addresses
    control_socket: str
    versions: dict[str, str]
    template: str


class TestbedStatus(BaseModel):
    """The status of a testbed, as its supervisor reports it.

    `limits_available` maps each resource limit to the method by which this machine enforces it; None if it cannot.
    """

    state: TestbedState
    components: list[ComponentStatus]
    limits_available: dict[str, str | None]
