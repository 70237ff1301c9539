"""Define the data that the processes of a testbed exchange with each other and with their callers.

Examples are toxics, the status of components, and changes of settings. The end of a field's name gives its unit, such as
`_ms` for milliseconds.
"""

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
    """Base class of data from files and requests: unknown fields are rejected."""

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

    When the toxic is removed, the link (a TCP proxy) delivers everything that the toxic held back.
    """

    kind: Literal["blackhole"]


class Refuse(Strict):
    """A toxic (simulated network fault) that refuses new connections, and resets open ones if `drop_open` is true."""

    kind: Literal["refuse"]
    drop_open: bool = True


class Reset(_Toxic):
    """A toxic (simulated network fault) that resets new and open connections.

    A connection is reset `after_ms` milliseconds after the toxic begins to act on it, or after `after_bytes` bytes in
    one direction, whichever comes first. If neither is given, the connection is reset at once.
    """

    kind: Literal["reset"]
    after_ms: Milliseconds | None = None
    after_bytes: int | None = Field(None, ge=1)


Toxic = Annotated[Latency | Bandwidth | Blackhole | Refuse | Reset, Field(discriminator="kind")]


class LinkEnds(Strict):
    """The two loopback ports of a link (a TCP proxy): the one for clients and the one of the server behind it."""

    name: str
    port: int
    upstream_port: int


class LinksConfig(Strict):
    """The configuration of the process that runs all links (TCP proxies).

    Attributes:
        socket: the path of the process's control socket.
    """

    socket: str
    links: list[LinkEnds]


class LinkStatistics(BaseModel):
    """Counters of a link (a TCP proxy) since the start of its process.

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
    """A toxic (simulated network fault) that acts on a link (a TCP proxy), with the id for its removal."""

    toxic_id: str
    toxic: Toxic


class LinkStatus(BaseModel):
    """The current state of a link (a TCP proxy): its ports, its toxics (simulated network faults) and its counters.

    Attributes:
        port: the port for clients.
        upstream_port: the port of the server behind the link.
        listening: whether the link accepts connections.
    """

    name: str
    port: int
    upstream_port: int
    listening: bool
    toxics: list[ActiveToxic]
    statistics: LinkStatistics


class ResourceLimits(Strict):
    """Resource limits of a component; an absent field means no limit.

    Attributes:
        rlimits: the kernel's limits for each process by name, such as `nofile`, in the kernel's units (setrlimit(2)).
        cpu_pct: limit of all processes of the component together, in percent of one CPU.
        memory_mb: limit of all processes of the component together, in MiB.
    """

    rlimits: dict[Rlimit, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    cpu_pct: float | None = Field(None, ge=1, le=100_000)
    memory_mb: float | None = Field(None, ge=1)


class GroupFigures(BaseModel):
    """The kernel's counters of a component's control groups.

    A counter is None if the component has no control group with this counter.

    Attributes:
        throttled_periods: number of 100 ms periods in which a used-up CPU quota paused the component's processes.
        memory_refusals: how often the component needed more memory while it was at its memory limit.
        oom_kills: number of the component's processes that the OOM killer ended; also None if the kernel does not count
            them for each group.
    """

    throttled_periods: int | None = None
    memory_refusals: int | None = None
    oom_kills: int | None = None


class ComponentStatus(BaseModel):
    """The current state of a component of a testbed.

    Attributes:
        name, group: the name of the component, and the name of its group.
        pid: the id of the component's main process; None without a process.
        port: the port on which the component listens; None for no port.
        started_at, ready_at: when the current process was started, and when it became ready; None before that.
        restarts: how often the supervisor started the program again because it had ended by itself.
        starts: number of all starts.
        exit_code: the exit code of the last process that ended, negative for a signal; None if no process has ended
            yet.
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

    Attributes:
        time: when the version was created.
        changes: the new values by section and name, with secrets masked.
        note: the author's reason for the version.
    """

    version: int
    time: Timestamp
    author: str
    note: str
    changes: dict[str, Any]


class SettingsChange(Strict):
    """A request for a new version of the target's settings: either `changes` or `settings`, not both.

    Attributes:
        author, note: the author of the version and the reason, for the settings history.
        changes: new values to merge into the current settings.
        settings: a new document to replace all current settings.
        restart: whether to restart the target with the new version.
        expected_version: the required number of the current version; None to skip this check.
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
    """A signal for a component.

    The signal is sent to the component's main process or, if `scope` is `all`, to all processes of the component.
    """

    signal: SignalName
    scope: Literal["process", "all"] = "process"


class Addresses(BaseModel):
    """The addresses of a testbed's public servers; an absent address is left out of the JSON.

    Attributes:
        target: the watched service.
        chaos: the server that injects faults; None if it does not run, or the caller is not allowed to see it.
        actions: the server that executes repairs; None if it does not run, or the caller is not allowed to see it.
    """

    target: str
    chaos: str | None = None
    actions: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, str]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class TestbedState(BaseModel):
    """The state of a testbed, as its supervisor writes it to `state.json`, without secrets.

    Attributes:
        pid: the id of the supervisor's process.
        ports: the ports, by the name of the component or server that listens on them.
        control_socket: the path of the supervisor's socket.
        versions: the versions of the installed programs, such as PostgreSQL, by name.
        template: the name (a digest) of the testbed's template. A template is prepared data of the database and the
            search engine, which is copied to a new testbed.
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

    Attributes:
        limits_available: how this machine enforces each resource limit, as `{resource limit: method}`; the method is
            `prlimit`, `cgroup1` or `cgroup2`, or None if the machine cannot enforce the limit.
    """

    state: TestbedState
    components: list[ComponentStatus]
    limits_available: dict[str, str | None]
