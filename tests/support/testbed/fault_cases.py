"""The table of tested faults: symptoms, repairs that do not work, and repairs that work."""

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
    """Return the symptom that at least this share of requests fails."""
    return lambda field: field.users.failed_share(3.0, route=route) >= share


def is_slow(route: str, at_least_ms: float) -> Seen:
    """Return the symptom that the median latency of a route is at least this high."""
    return lambda field: field.users.median_ms(3.0, route=route) >= at_least_ms


def says(words: str) -> Seen:
    """Return the symptom that the target's health gives a reason with these words."""
    return lambda field: any(words in reason for reason in field.look().health.get("reasons", ()))


def sees(name: str) -> Seen:
    """Return the signal of a fault as its symptom, for faults that users do not notice yet."""
    return lambda field: SIGNALS[name](field.look())


@dataclass(frozen=True)
class FaultCase:
    """A fault, its symptom and its repairs.

    Attributes:
        shows: the symptom, which similar faults may share.
        wrong: plausible actions that do not repair the fault.
        rights: the repairs; each of them repairs the fault alone.
    """

    fault: str
    shows: Seen
    wrong: Steps
    rights: Sequence[Steps]
    given: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def title(self) -> str:
        """The name in the id of the test."""
        return self.name or self.fault


def signal(case: FaultCase) -> Callable[[Sight], bool]:
    """Return the signal that distinguishes the fault of a case."""
    return SIGNALS[case.fault]


def begin(field: Field, case: FaultCase) -> str:
    """Inject the fault and return the injection's id, once its signal shows and no signal of a similar fault."""
    wait_until(field.is_well, what="a service that is well before it is broken")
    # Some signals are measured, or use the last seconds of a log, so a busy machine may show one for a moment.
    wait_until(lambda: not signal(case)(field.look()), what=f"no signal of {case.title} before it is injected")
    injection_id = field.inject(case.fault, case.given)
    wait_until(lambda: case.shows(field), within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to show")
    alike = [name for name in field.catalogue()[case.fault]["look_alikes"] if name in SIGNALS]

    def is_told_apart() -> bool:
        sight = field.look()
        return signal(case)(sight) and not any(SIGNALS[name](sight) for name in alike)

    wait_until(is_told_apart, within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to be told apart from {alike}")
    return injection_id


def goes_on(field: Field, case: FaultCase) -> None:
    """Wait until the symptom and the signal of the fault show again."""
    wait_until(lambda: case.shows(field), within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to go on showing")
    wait_until(lambda: signal(case)(field.look()), within_s=SIGNAL_TIMEOUT_S, what=f"{case.title} to be told still")


def is_mended(field: Field, case: FaultCase) -> None:
    """Wait until the symptom and the signal have ended, and assert that they do not return."""

    def found() -> bool:
        return field.is_well() and not case.shows(field) and not signal(case)(field.look())

    wait_until(found, within_s=REPAIR_TIMEOUT_S, what=f"{case.title} to be mended")
    # Two more checks exclude a service that is healthy only for a moment.
    for _ in range(2):
        wait_until(found, within_s=10.0, what=f"{case.title} to stay mended")


def check_right(field: Field, case: FaultCase, right: Steps, wrong: Steps = ()) -> None:
    """Assert that wrong repairs fail and that the right one lasts while the injection stays active."""
    injection_id = begin(field, case)
    for action, given in wrong:
        # The action may succeed or be rejected; it must not repair the fault.
        field.attempt(action, given)
    if wrong:
        goes_on(field, case)
    for action, given in right:
        field.do(action, given)
    is_mended(field, case)
    assert field.injection(injection_id)["phase"] == "active"


def check_stop(field: Field, case: FaultCase) -> None:
    """Assert that stopping the injection repairs the service."""
    injection_id = begin(field, case)
    stopped = field.stop(case.fault, injection_id)
    assert stopped["phase"] == "stopped"
    assert stopped["notes"] == []
    is_mended(field, case)


Check = Callable[[Field], None]


def checks(cases: Sequence[FaultCase]) -> list[Any]:
    """Return pytest's parameters per case: each repair, the first one after wrong ones, and the stop of the injection.

    The first repair of some faults runs with the other long tests; the whole matrix takes half an hour and runs
    separately (`make test-faults`).
    """
    found: list[tuple[str, Check, list[pytest.MarkDecorator]]] = []
    for case in cases:
        for at, right in enumerate(case.rights):
            name = "+".join(dict.fromkeys(action for action, _ in right))
            # The wrong repairs need to run only once per case.
            check = functools.partial(check_right, case=case, right=right, wrong=() if at else case.wrong)
            is_sample = at == 0 and case.title in SAMPLE
            found.append((f"{case.title}-{name}", check, [] if is_sample else [pytest.mark.matrix]))
        found.append((f"{case.title}-stop", functools.partial(check_stop, case=case), [pytest.mark.matrix]))
    return [pytest.param(check, id=name, marks=[pytest.mark.full, *marks]) for name, check, marks in found]


EVERY_WORKER: Steps = tuple(("restart-worker", {"worker": number}) for number in WORKERS)
