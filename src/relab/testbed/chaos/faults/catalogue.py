"""The catalogue of all faults and noise events (harmless events) that can be injected, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.testbed.chaos.faults import cache, connections, database, host, limits, noise, processes, settings, traffic
from relab.testbed.chaos.faults import network as net
from relab.testbed.chaos.faults.base import Fault, Injectable, Noise, find_in

# Random episodes depend on the order of the faults: add a new one at the end.
_FAULTS: Final[tuple[Fault[Any], ...]] = (
    connections.PoolLeakFault(),
    connections.ConnectionsFault(),
    connections.LockFault(),
    database.MissingIndexFault(),
    database.DatabaseDownFault(),
    net.PathLatency("database"),
    net.PathBandwidth("database"),
    net.PathBlackhole("database"),
    net.PathRefuse("database"),
    net.PathReset("database"),
    net.PathLatency("cache"),
    net.PathBandwidth("cache"),
    net.PathBlackhole("cache"),
    net.PathRefuse("cache"),
    net.PathReset("cache"),
    cache.CacheDownFault(),
    cache.CacheFullFault(),
    cache.CacheAuthFault(),
    processes.HangFault(),
    processes.MemoryLeakFault(),
    limits.DescriptorsFault(),
    limits.ThrottleFault(),
    limits.OutOfMemoryFault(),
    settings.CrashLoopFault(),
    host.DiskFullFault(),
    settings.BadSettingFault(),
    settings.BadCredentialFault(),
    settings.BadFlagsFault(),
    processes.SearchIndexFault(),
    traffic.TrafficSpikeFault(),
    traffic.RetryStormFault(),
    host.SaturationFault(),
)
_NOISE: Final[tuple[Noise[Any], ...]] = (
    noise.DeploymentNoise(),
    noise.BatchNoise(),
    noise.SlowClientNoise(),
)
FAULTS: Final[Mapping[str, Fault[Any]]] = {fault.name: fault for fault in _FAULTS}
"""All faults, by name."""
NOISE: Final[Mapping[str, Noise[Any]]] = {event.name: event for event in _NOISE}
"""All noise events, by name."""
INJECTABLES: Final[Mapping[str, Injectable[Any]]] = {**FAULTS, **NOISE}
"""All faults and noise events, by name."""


def find_fault(name: str) -> Fault[Any]:
    """Return the fault with this name from the catalogue.

    Raises:
        UnknownFaultError: no fault has this name; noise events (harmless events) are not faults.
    """
    return find_in(FAULTS, name)
