"""The common base of all operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from relab.testbed.actions.models import Action, ActionParameters, NotReversibleError
from relab.testbed.actions.plant import Plant

Given = TypeVar("Given", bound=ActionParameters)


class Nothing(ActionParameters):
    """No parameters."""


class PlantOperation(ABC, Generic[Given]):
    """An operation on a plant; `Given` is the type of its parameters.

    Subclasses set `ACTION` and implement `_find`, `_do` and, if there is an inverse, `_take_back`.
    """

    ACTION: ClassVar[Action]

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    @property
    def action(self) -> Action:
        """The entry of the action in the catalogue."""
        return self.ACTION

    def look(self, parameters: ActionParameters) -> dict[str, Any]:
        """Return the state that the action concerns.

        Raises:
            PreconditionError: a precondition does not hold.
            PlantError: a part of the service does not answer.
        """
        return self._find(cast("Given", parameters))

    def act(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Perform the action; return the changes.

        Raises:
            PlantError: a part of the service rejects the change or does not answer.
        """
        return self._do(cast("Given", parameters), before)

    def undo(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Restore the state before the action.

        Raises:
            NotReversibleError: the action cannot be undone.
            PlantError: a part of the service rejects the change or does not answer.
        """
        return self._take_back(cast("Given", parameters), before)

    @abstractmethod
    def _find(self, given: Given) -> dict[str, Any]:
        """Implement `look`."""

    @abstractmethod
    def _do(self, given: Given, before: Mapping[str, Any]) -> dict[str, Any]:
        """Implement `act`."""

    def _take_back(self, _given: Given, _before: Mapping[str, Any]) -> dict[str, Any]:
        """Implement `undo`; raises NotReversibleError unless overridden."""
        raise NotReversibleError(f"{self.ACTION.name!r} cannot be undone.")
