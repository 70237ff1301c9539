"""The truth about an episode: operators' names of the causes, actions that repair them, and actions that harm. Pure."""

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
"""The closed list of causes for diagnoses: from the testbed's name of a fault to the operators' name of the cause."""

REFUSING: Final = frozenset(("traffic_spike",))
"""Faults whose repair is to reject excess requests: quick rejections do not show that users are served badly."""
_DONE: Final = frozenset(("started", "succeeded", "failed", "interrupted", "undone"))
_LOOKING: Final = frozenset(("verify-target-health",))


class Effect(StrEnum):
    """The effect of an action on the present causes."""

    MENDS = "mends"
    HARMS = "harms"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Truth:
    """The reference against which a responder is measured.

    Attributes:
        causes: operators' names of the causes; empty in an episode without a fault.
        mends: actions, each of which repairs one of the faults.
        harms: actions that are plausible but wrong.
        forgives_refusals: whether rejected requests are ignored when a repair is judged.
        mends_of: by the testbed's name of a fault, the actions each of which repairs it.
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
        """Return the truth about faults, each given as its name, the actions that repair it and those that harm.

        Args:
            faults: all faults that are injected.
            measured: names of those that must be detected and repaired; all of them if None.

        Raises:
            KeyError: a fault is not in `CAUSES`.
        """
        rows = [(name, frozenset(mends), frozenset(harms)) for name, mends, harms in faults]
        mends = frozenset[str]().union(*(row[1] for row in rows))
        harms = frozenset[str]().union(*(row[2] for row in rows))
        return cls(
            causes=frozenset(CAUSES[name] for name, _, _ in rows if measured is None or name in measured),
            mends=mends,
            # An action that repairs one of two faults does not count as harmful for the other.
            harms=harms - mends,
            forgives_refusals=any(name in REFUSING for name, _, _ in rows),
            mends_of={name: own for name, own, _ in rows if measured is None or name in measured},
        )

    def effect(self, action: str, *, is_too_soon: bool) -> Effect:
        """Return the effect of an action at the time when it was done.

        Args:
            action: in the action server's catalogue.
            is_too_soon: whether no fault was present yet.
        """
        if action in _LOOKING:
            return Effect.NEITHER
        if is_too_soon or not self.causes:
            # A change to a healthy service counts as harm, even if no user notices.
            return Effect.HARMS
        if action in self.mends:
            return Effect.MENDS
        return Effect.HARMS if action in self.harms else Effect.NEITHER


def was_done(status: str) -> bool:
    """Return whether a record with this status means that the action has touched the service, or is about to."""
    return status in _DONE
