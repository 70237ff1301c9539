"""A tool server on loopback, with a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from demo.recorder import RunJson
from demo.scenarios import SCENARIOS, Scenario, perform
from demo.shop import Shop
from demo.tool_server import ToolServer

DEADLINES_S = {"stock": 0.3}
PATIENT_S = 60.0
"""Deadline for scenarios in which every call is answered; a slow machine does not reach it."""


class ManualClock:
    """A clock that advances only in `wait`."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.waited_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        """Record the wait and advance the clock at once."""
        self.waited_s.append(seconds)
        self.now_s += seconds


@dataclass(frozen=True)
class Stage:
    """A tool server and its clock, to play scenarios on."""

    server: ToolServer
    clock: ManualClock

    def play(self, key: str) -> list[RunJson]:
        """Play the scenario of this key and return its runs, the analysed one last."""
        deadline_s = DEADLINES_S.get(key, PATIENT_S)
        return perform(scenario_of(key), self.server.url, wait=self.clock.wait, deadline_s=deadline_s)


def scenario_of(key: str) -> Scenario:
    """Return the scenario of this key."""
    return next(scenario for scenario in SCENARIOS if scenario.key == key)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Serve the shop on a free loopback port."""
    clock = ManualClock()
    with ToolServer(Shop(clock)) as server:
        yield Stage(server, clock)
