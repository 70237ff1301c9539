"""What operations have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from relab.testbed.actions.models import Action, NotReversibleError, Parameters
from relab.testbed.actions.plant import Plant

Given = TypeVar("Given", bound=Parameters)


class Nothing(Parameters):
    """No parameters."""


class PlantOperation(ABC, Generic[Given]):
    """An operation on a plant; `Given` are its parameters.

    Subclasses say `ACTION` and do `_find`, `_do` and, where there is an inverse, `_take_back`.
    """

    ACTION: ClassVar[Action]

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    @property
    def action(self) -> Action:
        """What it does, as the catalogue says."""
        return self.ACTION

    def look(self, parameters: Parameters) -> dict[str, Any]:
        """Return the state that it concerns.

        Raises:
            PreconditionError: it would make no sense.
            PlantError: a part of the service does not answer.
        """
        return self._find(cast("Given", parameters))

    def act(self, parameters: Parameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Do it; return what is different now.

        Raises:
            PlantError: a part of the service refuses or does not answer.
        """
        return self._do(cast("Given", parameters), before)

    def undo(self, parameters: Parameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Bring back what was before.

        Raises:
            NotReversibleError: it cannot be.
            PlantError: a part of the service refuses or does not answer.
        """
        return self._take_back(cast("Given", parameters), before)

    @abstractmethod
    def _find(self, given: Given) -> dict[str, Any]:
        """As `look`."""

    @abstractmethod
    def _do(self, given: Given, before: Mapping[str, Any]) -> dict[str, Any]:
        """As `act`."""

    def _take_back(self, _given: Given, _before: Mapping[str, Any]) -> dict[str, Any]:
        """As `undo`."""
        raise NotReversibleError(f"{self.ACTION.name!r} cannot be taken back.")
