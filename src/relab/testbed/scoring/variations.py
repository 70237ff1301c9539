"""Vary each fault between episodes: draw parameters at random, within ranges in which users notice the fault. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

Draw = Callable[[Random], dict[str, Any]]

_GROWS: Final = frozenset(
    (
        "db_pool", "database_latency", "database_bandwidth", "cache_latency", "cache_bandwidth", "cpu_throttle",
        "memory_leak",
    )
)  # fmt: skip
"""Faults whose symptoms increase gradually if the fault ramps up."""
_GROWING_SHARE: Final = 0.25


def _between(low: float, high: float, name: str = "intensity") -> Draw:
    return lambda rng: {name: round(rng.uniform(low, high), 3)}


def _one_of(name: str, *values: str) -> Draw:
    return lambda rng: {name: rng.choice(values)}


def _always(_rng: Random) -> dict[str, Any]:
    return {}


def _path(dependency: str, latency_ms: tuple[float, float]) -> dict[str, Draw]:
    return {
        f"{dependency}_latency": _between(*latency_ms, name="latency_ms"),
        f"{dependency}_bandwidth": _between(0.6, 1.0),
        f"{dependency}_blackhole": _between(0.7, 1.0),
        f"{dependency}_refuse": _always,
        f"{dependency}_reset": lambda rng: {
            "intensity": round(rng.uniform(0.7, 1.0), 3),
            "after_ms": round(rng.uniform(5, 80), 1),
        },
    }


FAULTS: Final[Mapping[str, Draw]] = {
    "db_pool": _always,
    "db_connections": _between(0.96, 1.0),
    "db_lock": _one_of("table", "orders", "stock"),
    "db_slow_query": _between(0.5, 1.0),
    "db_down": _always,
    **_path("database", (60, 400)),
    **_path("cache", (80, 400)),
    "cache_down": _always,
    "cache_full": _always,
    "cache_auth": _always,
    # With two workers, an intensity of 0.5 stops one.
    "hang": lambda rng: {"intensity": rng.choice((0.5, 1.0))},
    "memory_leak": lambda rng: {"mb_per_s": round(rng.uniform(20, 60), 1), "limit_mb": rng.randrange(500, 900)},
    "descriptors": lambda rng: {"intensity": rng.choice((0.5, 1.0))},
    "cpu_throttle": _between(3, 9, name="cpu_pct"),
    "oom": _between(32, 60, name="memory_mb"),
    "crash_loop": _always,
    "disk_full": _always,
    "bad_setting": _one_of("setting", "pool", "port"),
    "bad_credential": _always,
    # The fault's other flag costs users only a few milliseconds.
    "bad_flags": lambda _: {"flag": "concurrency"},
    "search_index": lambda rng: {"intensity": rng.choice((0.5, 1.0))},
    "traffic_spike": _between(2.0, 4.0, name="multiple"),
    "retry_storm": lambda rng: {"trigger_s": round(rng.uniform(2, 4), 2), "clients": rng.randrange(250, 350)},
}
TAKES_THE_MACHINE: Final = frozenset(("traffic_spike", "retry_storm"))
"""Faults that leave no processor time to other testbeds, whose episodes are about other faults."""
NOT_FELT: Final = frozenset(("cpu_saturation",))
"""Faults of the catalogue that no episode uses: at the episodes' request rate users would be served nearly as well as
without them, because Linux favours processes that sleep most of the time (measured in docs/design/testbed.md)."""
NOISE: Final[Mapping[str, Draw]] = {
    "deploy_restart": _always,
    "batch_job": _between(5, 25, name="seconds"),
    "slow_client": _between(0.1, 1.0, name="byte_s"),
}
TOGETHER: Final = (
    ("cache_down", "cache_auth", "cache_full"),
    ("db_pool", "db_lock", "db_slow_query", "search_index", "hang"),
)
"""Pairs for episodes with two faults: one from each group; the repair of one does not repair the other."""

APART: Final = (
    ("cache_down", "cache_auth", "cache_full"),
    ("db_lock", "db_slow_query"),
    ("database_latency", "cache_latency"),
    ("hang", "db_pool", "search_index"),
    ("disk_full", "bad_flags"),
)
"""Groups of faults for episodes in which two begin at once: no action repairs faults of two groups."""
GIVEN_TO_A_PERSON: Final = ("search_index", "disk_full", "cache_full")
"""Faults that harm only some requests, so that users notice another fault beside them. They come first in episodes with
a fault after an escalation; the responder has no runbook for them there."""
AFTER_ESCALATION: Final = (
    "db_lock", "hang", "database_blackhole", "database_latency", "db_pool", "db_slow_query", "bad_credential", "crash_loop",
)  # fmt: skip
"""Faults that come after an escalation: users notice each of them beside any fault of `GIVEN_TO_A_PERSON`."""


def draw_fault(name: str, rng: Random) -> dict[str, Any]:
    """Return random parameters of a fault."""
    found = {**FAULTS[name](rng), "seed": rng.randrange(1 << 31)}
    if name in _GROWS and rng.random() < _GROWING_SHARE:
        found["ramp_s"] = round(rng.uniform(3, 12), 2)
    return found


def draw_noise(name: str, rng: Random) -> dict[str, Any]:
    """Return random parameters of a noise event, which only looks like a fault."""
    return {**NOISE[name](rng), "seed": rng.randrange(1 << 31)}
