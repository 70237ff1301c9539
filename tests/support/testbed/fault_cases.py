"""The table of tested faults: visible symptoms, repairs that do not work, and repairs that do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rig.waiting import wait_until
from support.testbed.fault_field import Field
from support.testbed.signals import SIGNALS, Sight

Seen = Callable[[Field], bool]
Steps = Sequence[tuple[str, Mapping[str, Any]]]
"""Actions with their parameters, one after another."""

SIGNAL_TIMEOUT_S = 45.0
REPAIR_TIMEOUT_S = 60.0
WORKERS = (1, 2)
SAMPLE = frozenset(
    ("db_pool", "db_lock", "db_connections", "db_down", "database_reset", "cache_auth", "hang", "crash_loop", "bad_credential", "disk_full")
)  # fmt: skip


def fails(share: float = 0.1, route: str | None = None) -> Seen:
    """Users are refused, or not answered at all."""
    return lambda field: field.users.failed_share(3.0, route=route) >= share


def is_slow(route: str, at_least_ms: float) -> Seen:
    """Users wait."""
    return lambda field: field.users.median_ms(3.0, route=route) >= at_least_ms


def says(words: str) -> Seen:
    """The target's health says so."""
    return lambda field: any(words in reason for reason in field.look().health.get("reasons", ()))


def sees(name: str) -> Seen:
    """The signal is the symptom: users notice nothing, yet."""
    return lambda field: SIGNALS[name](field.look())


@dataclass(frozen=True)
class FaultCase:
    """One fault.

    Attributes:
        shows: its symptom, which its look-alikes may share.
        wrong: what is plausible and does not mend it.
        rights: each of them mends it.
    """

    fault: str
    shows: Seen
    wrong: Steps
    rights: Sequence[Steps]
    given: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def title(self) -> str:
        """The id of the test."""
        return self.name or self.fault


def signal(case: FaultCase) -> Callable[[Sight], bool]:
    """Return the signal that distinguishes the fault of a case."""
    return SIGNALS[case.fault]


def begin(field: Field, case: FaultCase) -> str:
    """Inject the fault, check its symptom, its own signal and no signal of its look-alikes; return the injection's id."""
    wait_until(field.is_well, what="a service that is well before it is broken")
    assert not signal(case)(field.look())
    injection_id = field.inject(case.fault, case.given)
    wait_until(lambda: case.shows(field), within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to show")
    alike = [name for name in field.catalogue()[case.fault]["look_alikes"] if name in SIGNALS]

    def is_told_apart() -> bool:
        sight = field.look()
        return signal(case)(sight) and not any(SIGNALS[name](sight) for name in alike)

    wait_until(is_told_apart, within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to be told apart from {alike}")
    return injection_id


def goes_on(field: Field, case: FaultCase) -> None:
    """See that it is still there."""
    wait_until(lambda: case.shows(field), within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to go on showing")
    wait_until(lambda: signal(case)(field.look()), within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to be told still")


def is_mended(field: Field, case: FaultCase) -> None:
    """See that it is gone, and stays so."""

    def found() -> bool:
        return field.is_well() and not case.shows(field) and not signal(case)(field.look())

    wait_until(found, within_s=REPAIR_TIMEOUT_S, what=f"{case.title} to be mended")
    # For good: what looks well for a moment would not be so again and again.
    for _ in range(2):
        wait_until(found, within_s=10.0, what=f"{case.title} to stay mended")


def check_right(field: Field, case: FaultCase, right: Steps, wrong: Steps = ()) -> None:
    """Check that wrong repairs fail and right ones last, although the injector was not informed."""
    injection_id = begin(field, case)
    for action, given in wrong:
        # Done or refused: neither mends anything.
        field.attempt(action, given)
    if wrong:
        goes_on(field, case)
    for action, given in right:
        field.do(action, given)
    is_mended(field, case)
    assert field.injection(injection_id)["phase"] == "active"


def check_stop(field: Field, case: FaultCase) -> None:
    """People can take it back."""
    injection_id = begin(field, case)
    stopped = field.stop(case.fault, injection_id)
    assert stopped["phase"] == "stopped"
    assert stopped["notes"] == []
    is_mended(field, case)


Check = Callable[[Field], None]


def checks(cases: Sequence[FaultCase]) -> list[Any]:
    """Return pytest's parameters: for each case every right repair, the first one after wrong ones, and the stop.

    The first one of a sample of faults is a test like any other long one; the whole matrix takes half an hour, and is
    run apart (`make test-faults`).
    """
    found: list[tuple[str, Check, list[pytest.MarkDecorator]]] = []
    for case in cases:
        for at, right in enumerate(case.rights):
            name = "+".join(dict.fromkeys(action for action, _ in right))
            # What is wrong need be tried only once.
            check = functools.partial(check_right, case=case, right=right, wrong=() if at else case.wrong)
            is_sample = at == 0 and case.title in SAMPLE
            found.append((f"{case.title}-{name}", check, [] if is_sample else [pytest.mark.matrix]))
        found.append((f"{case.title}-stop", functools.partial(check_stop, case=case), [pytest.mark.matrix]))
    return [pytest.param(check, id=name, marks=[pytest.mark.full, *marks]) for name, check, marks in found]


EVERY_WORKER: Steps = tuple(("restart-worker", {"worker": number}) for number in WORKERS)
