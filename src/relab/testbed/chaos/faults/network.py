"""Faults of a network path: traffic on a dependency's primary link is delayed, lost, refused, reset or slowed down."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault, Kind, Parameters, Symptom
from relab.testbed.models import Bandwidth, Blackhole, Latency, Refuse, Reset, Toxic

Dependency = Literal["database", "cache"]
_DEPENDENCIES: Final[tuple[Dependency, ...]] = ("database", "cache")
_SLOWEST_BYTES_PER_S: Final = 2_000.0


class Late(Parameters):
    """How late, at full intensity."""

    latency_ms: float = Field(100.0, gt=0, le=60_000)
    jitter_ms: float = Field(0.0, ge=0, le=60_000)


class Cut(Parameters):
    """After how long connections are reset."""

    after_ms: float = Field(50.0, ge=0, le=60_000)


class ToxicCause:
    """A toxic on the primary link of a dependency, whose strength is the level.

    Args:
        made: returns the toxic for a level above 0.
    """

    def __init__(self, ground: Ground, dependency: Dependency, made: Callable[[float], Toxic]) -> None:
        self._ground = ground
        self._link = f"{dependency}-primary"
        self._made = made
        self._lock = threading.Lock()
        self._toxic_id: str | None = None
        self._standing = ground.standing("links")

    def set_level(self, level: float) -> None:
        """Replace the toxic by one of this strength; do nothing if the links have been restarted since."""
        with self._lock:
            if not self._standing.is_whole():
                return
            before = self._toxic_id
            # Add the new toxic before the old one is removed, so that the path is never healthy in between.
            self._toxic_id = self._ground.add_toxic(self._link, self._made(level)) if level > 0 else None
            if before is not None:
                self._ground.remove_toxic(self._link, before)

    def end(self) -> None:
        """Remove the toxic."""
        with self._lock:
            if self._toxic_id is not None:
                self._ground.remove_toxic(self._link, self._toxic_id)
                self._toxic_id = None


def _latency(given: Parameters, level: float) -> Toxic:
    assert isinstance(given, Late)
    late_ms, jitter_ms = given.latency_ms * level, given.jitter_ms * level
    return Latency(kind="latency", latency_ms=late_ms, jitter_ms=jitter_ms, seed=given.seed)


def _blackhole(given: Parameters, level: float) -> Toxic:
    return Blackhole(kind="blackhole", share=level, seed=given.seed)


def _reset(given: Parameters, level: float) -> Toxic:
    assert isinstance(given, Cut)
    return Reset(kind="reset", after_ms=given.after_ms, share=level, seed=given.seed)


def _refuse(_given: Parameters, _level: float) -> Toxic:
    return Refuse(kind="refuse")


def _bandwidth(_given: Parameters, level: float) -> Toxic:
    return Bandwidth(kind="bandwidth", bytes_per_s=_SLOWEST_BYTES_PER_S / level)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A kind of fault of a path, for both dependencies."""

    name: str
    title: str
    shows: str
    tells_apart: str
    made: Callable[[Parameters, float], Toxic]
    parameters: type[Parameters] = Parameters
    can_vary: bool = True


_TROUBLES: Final = (
    _Trouble(
        "latency",
        "is slow",
        "every call is slow",
        "the server's own durations are as ever, the client's are not",
        _latency,
        Late,
    ),
    _Trouble(
        "blackhole",
        "swallows everything",
        "every call runs into its time-out",
        "time-outs without a refusal or a reset, and a server that has nothing to do",
        _blackhole,
    ),
    _Trouble(
        "refuse",
        "refuses connections",
        "calls fail at once",
        "connections are refused, and the server behind the path answers its operators",
        _refuse,
        can_vary=False,
    ),
    _Trouble(
        "reset",
        "cuts connections",
        "calls fail at once",
        "resets soon after a connection is made; the server sees connections that vanish",
        _reset,
        Cut,
    ),
    _Trouble(
        "bandwidth",
        "is narrow",
        "large answers are slow",
        "the delay goes with the bytes: small calls are as fast as ever",
        _bandwidth,
    ),
)


def faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return the faults of network paths."""
    return {
        f"{dependency}_{trouble.name}": (_fault(dependency, trouble), _make(ground, dependency, trouble))
        for dependency in _DEPENDENCIES
        for trouble in _TROUBLES
    }


def _fault(dependency: Dependency, trouble: _Trouble) -> Fault:
    others = tuple(f"{dependency}_{other.name}" for other in _TROUBLES if other is not trouble)
    return Fault(
        f"{dependency}_{trouble.name}",
        f"The path to the {dependency} {trouble.title}",
        Kind.FAULT,
        trouble.parameters,
        Symptom(f"{dependency}: {trouble.shows}", trouble.tells_apart, others),
        repairs=("restart-links", "use-path"),
        harms=("restart-target", f"restart-{dependency}"),
        can_vary=trouble.can_vary,
    )


def _make(ground: Ground, dependency: Dependency, trouble: _Trouble) -> Make:
    return lambda given: ToxicCause(ground, dependency, functools.partial(trouble.made, given))
