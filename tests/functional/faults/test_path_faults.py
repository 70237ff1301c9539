"""Faults of the network paths to the database and the cache, and of the cache itself."""

from __future__ import annotations

import pytest

from support.testbed.fault_cases import Check, FaultCase, Seen, checks, fails, is_slow, says
from support.testbed.fault_field import Field


def paths(dependency: str, shows: dict[str, Seen]) -> tuple[FaultCase, ...]:
    return tuple(
        FaultCase(
            f"{dependency}_{kind}", seen, ((f"restart-{dependency}", {}), ("restart-target", {})),
            ((("restart-links", {}),), (("use-path", {"dependency": dependency}),)),
        )
        for kind, seen in shows.items()
    )  # fmt: skip


def loses_reads(field: Field) -> bool:
    """Return whether at least 5 reads of the cache have failed; a fast probe itself may succeed."""
    return bool(field.look().metrics.get("cache", {}).get("errors", 0) >= 5)


DATABASE = paths(
    "database",
    {
        "latency": is_slow("order", 100.0),
        "bandwidth": is_slow("order", 50.0),
        "blackhole": fails(),
        "refuse": fails(),
        "reset": fails(),
    },
)
CACHE = paths(
    "cache",
    {
        "latency": is_slow("product", 100.0),
        "bandwidth": is_slow("product", 50.0),
        "blackhole": says("cache does not answer"),
        "refuse": says("cache does not answer"),
        "reset": loses_reads,
    },
)
SERVER = (
    FaultCase(
        "cache_down", says("cache does not answer"), (("restart-target", {}), ("restart-database", {})),
        ((("restart-cache", {}),),),
    ),
    FaultCase(
        "cache_full", says("cache refused"), (("restart-target", {}), ("restart-database", {})),
        ((("set-cache-memory", {}),), (("restart-cache", {}),)),
    ),
    FaultCase(
        "cache_auth", says("cache does not answer"), (("restart-target", {}), ("restart-database", {})),
        ((("rotate-credential", {"dependency": "cache"}),), (("restart-cache", {}),)),
    ),
)  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(DATABASE))
def test_database_path_fault_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(CACHE))
def test_cache_path_fault_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(SERVER))
def test_cache_fault_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)
