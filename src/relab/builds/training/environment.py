"""The Gymnasium environment in which the policy `dqn` learns from simulated builds; needs the extra `[rl]`."""

from __future__ import annotations

from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from relab.builds.monitor.simulator import BuildSimulator
from relab.builds.optimizer.catalogue import CATALOGUE, KEEP
from relab.builds.optimizer.situation import FEATURES
from relab.builds.training.project import SimulatedProject

BUDGET: Final = 3
"""The number of builds after the first one of an input."""

Observation = NDArray[np.float32]


class BuildEnv(gymnasium.Env):  # type: ignore[misc] # the checker does not read the package
    """A Gymnasium environment in which an agent learns to choose actions (configuration changes) for builds.

    An episode simulates the builds of one input (state of the project's files): a first build, then at most `BUDGET`
    builds, each after an action. An episode ends early if a build after an action succeeds. The observation consists of
    the values of `FEATURES` after the last build. An action is an id in the catalogue of actions. An action that is not
    possible changes nothing. The reward of a step is the reward of the build after the action.

    Args:
        simulator: simulates the builds.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 the base class declares it so

    def __init__(self, simulator: BuildSimulator) -> None:
        self._simulator = simulator
        self._project: SimulatedProject | None = None
        self._steps = 0
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(CATALOGUE))

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 the base class's
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode: draw the fault of a new input (state of the project's files), and simulate its first build.

        The first build is simulated without an action.

        Args:
            seed: if given, start a new simulated project, whose faults and builds depend on the seed. If None, continue
                with the current project.
            options: has no effect.

        Returns:
            `(observation, info)`: the values of `FEATURES` after the first build, and an empty dictionary.
        """
        super().reset(seed=seed)
        if self._project is None or seed is not None:
            self._project = SimulatedProject(self._simulator, self.np_random)
        self._steps = 0
        self._project.next_input()
        return self._observe(self._project), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Simulate a build of the current input (project files) with the action whose id is `action`.

        Returns:
            `(observation, reward, terminated, truncated, info)`, as Gymnasium defines it: the values of `FEATURES`
            after the build, the reward (0 to 1), whether the episode has ended, always False, and always an empty
            dictionary.

        Raises:
            gymnasium.error.ResetNeeded: `reset` was not called before.
        """
        project = self._project
        if project is None:
            raise gymnasium.error.ResetNeeded("reset() must be called before step().")
        chosen = int(action)
        reward = project.apply(chosen if chosen in project.actions else KEEP)
        self._steps += 1
        ended = project.situation.failure is None or self._steps >= BUDGET
        return self._observe(project), reward, ended, False, {}

    @staticmethod
    def _observe(project: SimulatedProject) -> Observation:
        return np.array(project.situation.features(), dtype=np.float32)
