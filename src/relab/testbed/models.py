"""Values shared by the supervisor, the links and their callers. A field's name gives its unit of time."""

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
    """Base of values read from outside: unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Toxic(Strict):
    direction: Direction = "both"
    share: float = Field(1.0, gt=0, le=1, description="The share of connections that it is applied to.")
    seed: int = 0


class Latency(_Toxic):
    """Bytes arrive later, in order; throughput is not limited."""

    kind: Literal["latency"]
    latency_ms: Milliseconds
    jitter_ms: Milliseconds = 0


class Bandwidth(_Toxic):
    """Limits the throughput of each connection, in each direction, to `bytes_per_s`."""

    kind: Literal["bandwidth"]
    bytes_per_s: float = Field(ge=1, le=1e10)


class Blackhole(_Toxic):
    """Nothing arrives, neither bytes nor the end of a connection; all of it is delivered when the toxic is removed."""

    kind: Literal["blackhole"]


class Refuse(Strict):
    """New connections are refused; open connections are reset if `drop_open`."""

    kind: Literal["refuse"]
    drop_open: bool = True


class Reset(_Toxic):
    """Connections are reset (RST): open ones, and each new one `after_ms` after it opens or after `after_bytes`."""

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
    """The configuration with which the process of the links is started."""

    socket: str
    links: list[LinkEnds]


class LinkStatistics(BaseModel):
    """Counters of a link since its process started."""

    accepted: int = 0
    open: int = 0
    reset: int = 0
    upstream_failures: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class ActiveToxic(BaseModel):
    """A toxic with the id by which it is removed."""

    toxic_id: str
    toxic: Toxic


class LinkStatus(BaseModel):
    """The current state of a link."""

    name: str
    port: int
    upstream_port: int
    listening: bool
    toxics: list[ActiveToxic]
    statistics: LinkStatistics


class ResourceLimits(Strict):
    """Resource limits of a component; absent means no limit.

    `rlimits` are the kernel's limits per process (bytes, seconds or numbers). `cpu_pct` (percent of one CPU) and
    `memory_mb` (MiB) apply to all processes of the component together and are enforced by control groups.
    """

    rlimits: dict[Rlimit, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    cpu_pct: float | None = Field(None, ge=1, le=100_000)
    memory_mb: float | None = Field(None, ge=1)


class GroupFigures(BaseModel):
    """The kernel's counters of a component's control groups; None where the component has no such group.

    Attributes:
        throttled_periods: number of 100 ms periods in which its processes were stopped because their quota was used up.
        memory_refusals: number of memory requests made while its memory was at the limit.
        oom_kills: number of its processes that the OOM killer ended; None if the kernel does not count them per group.
    """

    throttled_periods: int | None = None
    memory_refusals: int | None = None
    oom_kills: int | None = None


class ComponentStatus(BaseModel):
    """The current state of a component.

    `restarts` counts the starts after an unrequested exit; `exit_code` is the last one, negative for a signal.
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
    """One version of the settings history: its author and its changes, with secrets masked."""

    version: int
    time: Timestamp
    author: str
    note: str
    changes: dict[str, Any]


class SettingsChange(Strict):
    """A request for a new version of the target's settings.

    `changes` is merged into the current document, `settings` replaces it; exactly one of them must be given.
    """

    author: str = Field(min_length=1, max_length=100)
    note: str = Field("", max_length=1_000)
    changes: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    restart: bool = False
    expected_version: int | None = None


class SettingsRollback(Strict):
    """A request to restore an older version as a new one; the version before the current one by default."""

    author: str = Field(min_length=1, max_length=100)
    note: str = Field("", max_length=1_000)
    version: int | None = None
    restart: bool = False


class SignalRequest(Strict):
    """A signal to send to the first process of a component, or to all of its processes."""

    signal: SignalName
    scope: Literal["process", "all"] = "process"


class Addresses(BaseModel):
    """The addresses of a testbed's public servers; hidden or absent ones are left out of the serialized value."""

    target: str
    chaos: str | None = None
    actions: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, str]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class TestbedState(BaseModel):
    """The content of `state.json`; it contains no secrets."""

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
    """The status of a testbed, as its supervisor reports it."""

    state: TestbedState
    components: list[ComponentStatus]
    limits_available: dict[str, str | None]
