"""Simulate the builds of a project, to train policies (rules that choose build actions). Pure: no I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from relab.builds.controller import had_two_outcomes
from relab.builds.models import Build, BuildConfiguration, BuildStatus
from relab.builds.monitor.simulator import BuildSimulator
from relab.builds.optimizer.catalogue import KEEP, possible_actions, suitable_actions
from relab.builds.optimizer.situation import BuildSituation, reward_of

_DEFAULTS: Final = BuildConfiguration()
_HISTORY: Final = 200
"""The number of the newest builds in which inputs with two outcomes are searched, as in the controller."""


class SimulatedProject:
    """A simulated project on which a policy is trained.

    The project has one input (state of its files) after another. Each input has one random fault, which makes builds
    fail. An action is a change of the configuration. Each action starts from the default configuration, and not from
    the configuration of the last build.

    Args:
        simulator: simulates the builds.
        generator: the source of randomness for the fault and the first build of each input.
        outcomes: the source of randomness for the builds after an action; if None, `generator` is used. With a
            separate source, the faults and the first builds of later inputs do not depend on the chosen actions.

    Attributes:
        fault: the fault of the current input; policies do not see it.
        situation: the facts about the last build, which a policy uses to choose an action.
    """

    def __init__(
        self,
        simulator: BuildSimulator,
        generator: np.random.Generator,
        outcomes: np.random.Generator | None = None,
    ) -> None:
        self._simulator = simulator
        self._generator = generator
        self._outcomes = generator if outcomes is None else outcomes
        # The measured builds behind the simulator had one action each.
        self._configurations = possible_actions(_DEFAULTS, lambda _knob: float("inf"), ("fast",))
        self._builds: list[Build] = []
        # Whether each of the newest builds gave its input a second outcome; to compare all of them again would be slow.
        self._second_outcomes: deque[bool] = deque(maxlen=_HISTORY)
        self.fault = simulator.faults[0]
        self.situation = BuildSituation()

    @property
    def actions(self) -> list[int]:
        """The ids of the actions (configuration changes) from which a policy may choose now.

        The simulator knows these actions for the current fault. Actions that cannot help against the failure of the last
        build are left out, as for real builds.
        """
        return suitable_actions(self._simulator.actions(self.fault), self.situation.failure)

    def next_input(self) -> BuildSituation:
        """Begin a new input (state of the project's files): draw its fault, and simulate its first build.

        The first build has the default configuration. Return the situation after this build: the facts that a policy
        uses to choose an action.
        """
        self._builds.clear()
        self.fault = self._simulator.faults[int(self._generator.integers(len(self._simulator.faults)))]
        self._build(KEEP, self._generator)
        return self.situation

    def apply(self, action_id: int) -> float:
        """Simulate a build of the current input (project files) with the action `action_id`; return its reward, 0 to 1.

        Raises:
            UnknownBuildActionError: the action is not possible.
        """
        return reward_of(self._build(action_id, self._outcomes).result, self._simulator.reference_s)

    def _build(self, action_id: int, generator: np.random.Generator) -> Build:
        result = self._simulator.build(self.fault, action_id, generator)
        # Validation would take longer than the simulation.
        build = Build.model_construct(
            build_id="",
            project="simulated",
            input_digest="",
            configuration=self._configurations[action_id],
            sandbox="simulated",
            started_at=0,
            result=result,
        )
        self._builds.append(build)
        self._second_outcomes.append(had_two_outcomes(self._builds))
        self.situation = BuildSituation.after(
            result.failure,
            self._configurations[action_id],
            failed_attempts=sum(build.result.status is BuildStatus.FAILED for build in self._builds),
            was_flaky=any(self._second_outcomes),
        )
        return build
