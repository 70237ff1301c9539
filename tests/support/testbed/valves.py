"""Valves with positions in a file, and the action that turns one, for tests of the code that runs actions."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from relab.core.errors import UnavailableError
from relab.testbed.actions.models import Action, ActionClass, ActionParameters, BlastRadius, PreconditionError


class Turn(ActionParameters):
    """Which valve, and how far."""

    component: str = Field(pattern="^[a-z]{1,20}$")
    to: int = Field(ge=0, le=10)


class Valves:
    """Valves whose positions are kept in a JSON file; clear `go_on` to block an action that has begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def read(self) -> dict[str, int]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def write(self, component: str, to: int) -> None:
        # The file is replaced in one step, because other threads read it meanwhile.
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(self.read() | {component: to}))
        written.replace(self.path)


class TurnValve:
    """The action that turns a valve."""

    action = Action(
        "turn_valve", "Turn a valve", ActionClass.SETTING, BlastRadius.SOME_REQUESTS, Turn, "it stands elsewhere",
        preconditions=("it does not stand there already",), inverse="turn_valve",
    )  # fmt: skip

    def __init__(self, valves: Valves) -> None:
        self.valves = valves

    def look(self, parameters: ActionParameters) -> dict[str, Any]:
        assert isinstance(parameters, Turn)
        stands = self.valves.read().get(parameters.component, 0)
        if stands == parameters.to:
            raise PreconditionError(f"The valve {parameters.component} stands at {stands} already.")
        return {"stands": stands}

    def act(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        assert isinstance(parameters, Turn)
        self.valves.entered.set()
        assert self.valves.go_on.wait(30)
        if parameters.to == 9:
            raise UnavailableError("The valve is stuck.")
        self.valves.write(parameters.component, parameters.to)
        return {"stands": parameters.to, "was": before["stands"]}

    def undo(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        assert isinstance(parameters, Turn)
        self.valves.write(parameters.component, before["stands"])
        return {"stands": before["stands"]}
