"""Faults of the network path to the database or cache: slow or lost data, and refused or reset connections."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal

from pydantic import Field

from relab.testbed.chaos.faults.base import Fault, Given, draw_between
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence
from relab.testbed.models import Bandwidth, Blackhole, Latency, Refuse, Reset, Toxic

Dependency = Literal["database", "cache"]
_KINDS: Final = ("latency", "blackhole", "refuse", "reset", "bandwidth")
_SLOWEST_BYTES_PER_S: Final = 2_000.0
_MIN_LATENCY_MS: Final = {"database": 60.0, "cache": 80.0}
"""The lowest latency that is drawn, by dependency; users notice it."""
_MAX_LATENCY_MS: Final = 400.0


class Late(FaultParameters):
    """Parameters of a slow network path.

    Attributes:
        latency_ms: delay of all bytes at full strength (level 1), in milliseconds.
        jitter_ms: maximum random variation of the delay at full strength, in milliseconds.
    """

    latency_ms: float = Field(100.0, gt=0, le=60_000)
    jitter_ms: float = Field(0.0, ge=0, le=60_000)


class Cut(FaultParameters):
    """Parameters of a network path that resets connections.

    Attributes:
        after_ms: time from the opening of a connection to its reset, in milliseconds. If a connection was opened before
            the injection, the time counts from the injection.
    """

    after_ms: float = Field(50.0, ge=0, le=60_000)


class ToxicInjector:
    """Injector that adds a toxic (a simulated network fault) to the primary link of a dependency.

    The primary link is the TCP proxy on the network path that the target normally uses to reach the dependency.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        dependency: the server behind the link, `database` or `cache`.
        make: a function that returns the toxic for a level (strength, above 0 to 1).
    """

    def __init__(self, ground: Ground, dependency: Dependency, make: Callable[[float], Toxic]) -> None:
        self._ground = ground
        self._link = f"{dependency}-primary"
        self._make = make
        self._toxic_id: str | None = None
        self._standing = ground.standing("links")

    def set_level(self, level: float) -> None:
        """Replace this injector's toxic (simulated network fault) by the toxic for `level`; at level 0, remove it.

        Do nothing if the links (TCP proxies) were restarted since this object was created.
        """
        # A restart of the links removes all toxics, so it repairs the fault.
        if not self._standing.is_whole():
            return
        before = self._toxic_id
        # Add the new toxic before the old one is removed, so that the path is never healthy in between.
        self._toxic_id = self._ground.add_toxic(self._link, self._make(level)) if level > 0 else None
        if before is not None:
            self._ground.remove_toxic(self._link, before)

    def end(self) -> None:
        """Remove this injector's toxic (simulated network fault) from the link, if the link still has it."""
        if self._toxic_id is not None:
            self._ground.remove_toxic(self._link, self._toxic_id)
            self._toxic_id = None


class PathFault(Fault[Given]):
    """Base of faults of the network path from the target to one dependency (the database or the cache).

    Args:
        dependency: the server at the end of the path, `database` or `cache`.

    Attributes:
        path_kind: the second part of the fault's name, such as `refuse` in `cache_refuse`.
        predicate: the end of the fault's title, such as `is slow` in `The path to the cache is slow`.
        word: the last part of the cause's name, such as `refused` in `cache_path_refused`.
        shows: the symptoms that the fault has in common with other faults of the path.
        tells_apart: the findings that distinguish this fault from the other faults of the path.
    """

    path_kind: str
    predicate: str
    word: str
    shows: str
    tells_apart: str
    repairs = ("restart-links", "use-path")
    can_vary = True

    def __init__(self, dependency: Dependency) -> None:
        self.dependency: Dependency = dependency
        self.name = f"{dependency}_{self.path_kind}"
        self.title = f"The path to the {dependency} {self.predicate}"
        self.cause = f"{dependency}_path_{self.word}"
        others = tuple(f"{dependency}_{other}" for other in _KINDS if other != self.path_kind)
        self.symptom = Symptom(f"{dependency}: {self.shows}", self.tells_apart, others)
        self.harms = ("restart-target", f"restart-{dependency}")

    @abstractmethod
    def toxic(self, given: Given, level: float) -> Toxic:
        """Return this fault's toxic (a simulated network fault) at the strength `level`.

        Args:
            given: the parameters of the fault.
            level: the strength of the fault, above 0 to 1.
        """

    def injector(self, ground: Ground, given: Given) -> ToxicInjector:
        """Return an injector that adds this fault's toxic to the primary link of the dependency.

        A toxic is a simulated network fault. The primary link is the proxy on the path that the target normally uses.
        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        return ToxicInjector(ground, self.dependency, lambda level: self.toxic(given, level))

    def presence(self, ground: Ground, _given: Given) -> Presence:
        """Return an object that tests whether the target's current network path to the dependency is disturbed.

        The path is disturbed if its link (a TCP proxy) has a toxic (a simulated network fault), or if no link
        listens on the port in the target's settings. `ground` gives access to the testbed's components.
        """
        return Presence(lambda: _is_path_bad(ground, self.dependency))


class PathLatency(PathFault[Late]):
    """The faults `database_latency` and `cache_latency`: the network path to the server delays all bytes."""

    path_kind = "latency"
    predicate = "is slow"
    word = "latency"
    parameters = Late
    shows = "every call is slow"
    tells_apart = "the server's own durations are as usual, the client's are not"
    grows = True

    def toxic(self, given: Late, level: float) -> Toxic:
        """Return a toxic (a simulated network fault) that delays bytes by `level` times `given.latency_ms`.

        The delay varies at random by up to `level` times `given.jitter_ms`.
        """
        late_ms, jitter_ms = given.latency_ms * level, given.jitter_ms * level
        return Latency(kind="latency", latency_ms=late_ms, jitter_ms=jitter_ms, seed=given.seed)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `latency_ms`, a delay in milliseconds that is long enough for users to notice."""
        return {"latency_ms": draw_between(rng, _MIN_LATENCY_MS[self.dependency], _MAX_LATENCY_MS)}


class PathBlackhole(PathFault[FaultParameters]):
    """The faults `database_blackhole` and `cache_blackhole`: the network path delivers no bytes."""

    path_kind = "blackhole"
    predicate = "drops everything"
    word = "blackhole"
    parameters = FaultParameters
    shows = "every call times out"
    tells_apart = "time-outs without a refusal or a reset, and a server that is idle"

    def toxic(self, given: FaultParameters, level: float) -> Toxic:
        """Return a toxic (a simulated network fault) that blocks the share `level` (0 to 1) of the connections."""
        return Blackhole(kind="blackhole", share=level, seed=given.seed)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity` from 0.7 to 1: the share of the connections on which nothing arrives."""
        return {"intensity": draw_between(rng, 0.7, 1.0)}


class PathRefuse(PathFault[FaultParameters]):
    """The faults `database_refuse` and `cache_refuse`: the network path to the server refuses all new connections."""

    path_kind = "refuse"
    predicate = "refuses connections"
    word = "refused"
    parameters = FaultParameters
    shows = "calls fail at once"
    tells_apart = "connections are refused, and the server behind the path answers its operators"
    can_vary = False

    def toxic(self, _given: FaultParameters, _level: float) -> Toxic:
        """Return a toxic (a simulated network fault) that refuses all connections, whatever the level."""
        return Refuse(kind="refuse")


class PathReset(PathFault[Cut]):
    """The faults `database_reset` and `cache_reset`: the network path resets connections soon after they are opened."""

    path_kind = "reset"
    predicate = "resets connections"
    word = "reset"
    parameters = Cut
    shows = "calls fail at once"
    tells_apart = "resets soon after a connection is opened; the server sees connections that vanish"

    def toxic(self, given: Cut, level: float) -> Toxic:
        """Return a toxic (a simulated network fault) that resets the share `level` (0 to 1) of the connections."""
        return Reset(kind="reset", after_ms=given.after_ms, share=level, seed=given.seed)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return random `intensity` and `after_ms`.

        `intensity` is the share of connections to reset. `after_ms` is the age of a connection at its reset, in
        milliseconds.
        """
        return {"intensity": draw_between(rng, 0.7, 1.0), "after_ms": round(rng.uniform(5, 80), 1)}


class PathBandwidth(PathFault[FaultParameters]):
    """The faults `database_bandwidth` and `cache_bandwidth`: the network path transfers only few bytes per second."""

    path_kind = "bandwidth"
    predicate = "has little bandwidth"
    word = "bandwidth"
    parameters = FaultParameters
    shows = "large answers are slow"
    tells_apart = "the delay grows with the number of bytes: small calls are as fast as usual"
    grows = True

    def toxic(self, _given: FaultParameters, level: float) -> Toxic:
        """Return a toxic (a simulated network fault) that limits the throughput to 2,000 bytes/s divided by `level`."""
        return Bandwidth(kind="bandwidth", bytes_per_s=_SLOWEST_BYTES_PER_S / level)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity` from 0.6 to 1; a higher intensity means a lower throughput."""
        return {"intensity": draw_between(rng, 0.6, 1.0)}


def _is_path_bad(ground: Ground, dependency: Dependency) -> bool:
    port = ground.plant.settings()[dependency]["port"]
    links = asyncio.run(ground.links.links())
    used = [link for link in links if link.port == port]
    return not used or any(link.toxics for link in used)
