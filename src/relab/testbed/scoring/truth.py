"""What is true of an episode: what operators call its causes, which actions mend them, and which do harm. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_PATHS: Final = {
    "latency": "latency",
    "bandwidth": "bandwidth",
    "blackhole": "blackhole",
    "refuse": "refused",
    "reset": "reset",
}
CAUSES: Final[Mapping[str, str]] = {
    "db_pool": "connection_pool_leak",
    "db_connections": "database_connections_exhausted",
    "db_lock": "database_lock",
    "db_slow_query": "missing_index",
    "db_down": "database_down",
    **{f"{name}_{kind}": f"{name}_path_{word}" for name in ("database", "cache") for kind, word in _PATHS.items()},
    "cache_down": "cache_down",
    "cache_full": "cache_full",
    "cache_auth": "cache_credential",
    "hang": "process_stopped",
    "memory_leak": "memory_leak",
    "descriptors": "descriptor_leak",
    "cpu_throttle": "cpu_limit",
    "oom": "memory_limit",
    "crash_loop": "crash_loop",
    "disk_full": "disk_full",
    "bad_setting": "bad_setting",
    "bad_credential": "database_credential",
    "bad_flags": "bad_flags",
    "search_index": "search_index_broken",
    "cpu_saturation": "cpu_saturation",
    "traffic_spike": "traffic_spike",
    "retry_storm": "retry_storm",
}
"""The closed list of what a diagnosis may name, by fault: the testbed's word, and that of operators."""

REFUSING: Final = frozenset(("traffic_spike",))
"""Faults whose repair is to refuse what is too much: there a quick refusal is no sign that users are not well."""
_DONE: Final = frozenset(("started", "succeeded", "failed", "interrupted", "undone"))
_LOOKING: Final = frozenset(("verify-target-health",))


class Effect(StrEnum):
    """What an action is to the cause that is there."""

    MENDS = "mends"
    HARMS = "harms"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Truth:
    """What a responder is measured against.

    Attributes:
        causes: as the closed list has them; empty if nothing is wrong in the episode.
        mends: actions, each of which mends one of them.
        harms: actions that are plausible, and wrong.
        forgives_refusals: whether refused requests say nothing of a repair.
        mends_of: for each fault, by the testbed's word, the actions each of which mends it.
    """

    causes: frozenset[str] = frozenset()
    mends: frozenset[str] = frozenset()
    harms: frozenset[str] = frozenset()
    forgives_refusals: bool = False
    mends_of: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, faults: Iterable[tuple[str, Iterable[str], Iterable[str]]], measured: Collection[str] | None = None
    ) -> Truth:
        """Return the truth about faults, each given as its name, what mends it and what does harm.

        Args:
            faults: all that are brought about.
            measured: names of those that are to be found and mended; all of them if None.

        Raises:
            KeyError: a fault has no word in the closed list.
        """
        rows = [(name, frozenset(mends), frozenset(harms)) for name, mends, harms in faults]
        mends = frozenset[str]().union(*(row[1] for row in rows))
        harms = frozenset[str]().union(*(row[2] for row in rows))
        return cls(
            causes=frozenset(CAUSES[name] for name, _, _ in rows if measured is None or name in measured),
            mends=mends,
            # What mends one of two is not held against anybody for the sake of the other.
            harms=harms - mends,
            forgives_refusals=any(name in REFUSING for name, _, _ in rows),
            mends_of={name: own for name, own, _ in rows if measured is None or name in measured},
        )

    def effect(self, action: str, *, is_too_soon: bool) -> Effect:
        """Return what an action is to the service, as it was when it was done.

        Args:
            action: of the action server's catalogue.
            is_too_soon: whether nothing was wrong yet.
        """
        if action in _LOOKING:
            return Effect.NEITHER
        if is_too_soon or not self.causes:
            # Whoever changes what is well does harm, even where nobody notices.
            return Effect.HARMS
        if action in self.mends:
            return Effect.MENDS
        return Effect.HARMS if action in self.harms else Effect.NEITHER


def was_done(status: str) -> bool:
    """Return whether an action with this status in its record has touched the service, or is about to."""
    return status in _DONE
