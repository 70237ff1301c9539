"""The common base class of all operations. An operation is the implementation of one action."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from relab.testbed.actions.models import Action, ActionParameters, NotReversibleError
from relab.testbed.actions.plant import Plant

Given = TypeVar("Given", bound=ActionParameters)


class Nothing(ActionParameters):
    """An empty set of parameters, for actions without parameters."""


class PlantOperation(ABC, Generic[Given]):
    """Base class of operations. Each subclass implements one action; `Given` is the class of the action's parameters.

    Subclasses set `ACTION` and implement these methods:

    - `_find`: check the preconditions, and read the state that the action would change.
    - `_do`: make the change.
    - `_take_back`: undo the change; only for an action that has an inverse.

    Args:
        plant: gives the action access to the testbed: its supervisor, database, cache and flags.
    """

    ACTION: ClassVar[Action]

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    @property
    def action(self) -> Action:
        """The name and description of the action, as the catalogue lists it."""
        return self.ACTION

    def look(self, parameters: ActionParameters) -> dict[str, Any]:
        """Check the preconditions of the action, and return the state that the action would change; change nothing.

        The keys of the result depend on the action.

        Raises:
            PreconditionError: the action would be useless or harmful in this state.
            PlantError: the supervisor, database, cache or target does not answer.
        """
        return self._find(cast("Given", parameters))

    def act(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Perform the action and return the changes; the keys of the result depend on the action.

        Args:
            parameters: the validated parameters of the action.
            before: the state immediately before the action, as `look` returned it.

        Raises:
            PlantError: the supervisor, database, cache or target rejects the change, or does not answer.
        """
        return self._do(cast("Given", parameters), before)

    def undo(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Undo the action: restore the state `before`, and return the changes.

        Args:
            parameters: the parameters with which the action was performed.
            before: the state before the action, as `look` returned it.

        Raises:
            NotReversibleError: the action cannot be undone.
            PlantError: the supervisor, database, cache or target rejects the change, or does not answer.
        """
        return self._take_back(cast("Given", parameters), before)

    @abstractmethod
    def _find(self, given: Given) -> dict[str, Any]:
        """Check the preconditions and return the state that the action would change; called by `look`.

        The keys of the result depend on the action. `given` has the parameters of the action.
        """

    @abstractmethod
    def _do(self, given: Given, before: Mapping[str, Any]) -> dict[str, Any]:
        """Perform the action and return the changes; called by `act`. The keys of the result depend on the action.

        Args:
            given: the parameters of the action.
            before: the state immediately before the action, as `_find` returned it.
        """

    def _take_back(self, _given: Given, _before: Mapping[str, Any]) -> dict[str, Any]:
        """Undo the action and return the changes; called by `undo`. The base class raises NotReversibleError.

        Args:
            _given: the parameters of the action.
            _before: the state before the action, as `_find` returned it.
        """
        raise NotReversibleError(f"{self.ACTION.name!r} cannot be undone.")
