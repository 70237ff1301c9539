"""Determine the true causes in an episode and the effect of each action, for the episode's score. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from relab.testbed.chaos.faults.base import Fault

_DONE: Final = frozenset(("started", "succeeded", "failed", "interrupted", "undone"))
_LOOKING: Final = frozenset(("verify-target-health",))


class ActionEffect(StrEnum):
    """The effect of an action on the service at the time of the action: it repairs a fault, does harm, or neither."""

    MENDS = "mends"
    HARMS = "harms"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Truth:
    """The true causes in an episode (a test of a responder), and the effects of actions, for the score.

    A measured fault is a fault that the responder must repair.

    Attributes:
        causes: names of the measured faults' causes, as in runbooks and diagnoses; empty in an episode without a fault.
        mends: names of the actions that repair an injected fault.
        harms: names of the actions that look like a repair of an injected fault, but do not repair any injected fault.
        forgives_refusals: whether the service may reject excess requests, because this is the right repair of a fault.
            Rejected requests then do not count as badly served.
        mends_of: for each measured fault, the names of the actions that repair the fault; one of them is enough.
    """

    causes: frozenset[str] = frozenset()
    mends: frozenset[str] = frozenset()
    harms: frozenset[str] = frozenset()
    forgives_refusals: bool = False
    mends_of: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, faults: Iterable[Fault[Any]], measured: Collection[str] | None = None) -> Truth:
        """Return the true causes, repairs and harmful actions of an episode (a test of a responder) with these faults.

        Args:
            faults: all faults that are injected.
            measured: names of the faults that the responder must repair; only their causes count. None for all.
        """
        faults = list(faults)
        counted = [fault for fault in faults if measured is None or fault.name in measured]
        mends = frozenset(action for fault in faults for action in fault.repairs)
        return cls(
            causes=frozenset(fault.cause for fault in counted),
            mends=mends,
            # An action that repairs one of two faults does not count as harmful for the other.
            harms=frozenset(action for fault in faults for action in fault.harms) - mends,
            forgives_refusals=any(fault.is_repaired_by_refusals for fault in faults),
            mends_of={fault.name: frozenset(fault.repairs) for fault in counted},
        )

    def effect(self, action: str, *, is_too_soon: bool) -> ActionEffect:
        """Return the effect that an action had on the service. The first case that applies decides.

        - The action only reads: no effect.
        - The action was performed before the first fault, or the episode (a test of a responder) has no fault that the
          responder must repair: harm.
        - The action repairs an injected fault (it is in `mends`): repair.
        - The action only looks like a repair of an injected fault (it is in `harms`): harm.
        - Otherwise: no effect.

        Args:
            action: name of the action in the action server's catalogue.
            is_too_soon: whether the action was performed before the first fault.
        """
        if action in _LOOKING:
            return ActionEffect.NEITHER
        if is_too_soon or not self.causes:
            # A change to a healthy service counts as harm, even if no user notices.
            return ActionEffect.HARMS
        if action in self.mends:
            return ActionEffect.MENDS
        return ActionEffect.HARMS if action in self.harms else ActionEffect.NEITHER


def was_done(status: str) -> bool:
    """Return whether an action with this status has changed the service, or may have changed it.

    Args:
        status: the status in the action server's record, such as `succeeded`.
    """
    return status in _DONE
