"""Faults of the network paths, and of the cache at the end of one of them."""

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
    """Reads of the cache fail, again and again; a probe that is quick enough is none of them."""
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
def test_a_fault_of_the_path_to_the_database(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(CACHE))
def test_a_fault_of_the_path_to_the_cache(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(SERVER))
def test_a_fault_of_the_cache(field: Field, check: Check) -> None:
    check(field)
