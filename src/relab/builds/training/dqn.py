"""Train a deep Q-network on simulated builds, with Stable-Baselines3; needs the extra `[rl]`.

DQN: Mnih et al. (2015), "Human-level control through deep reinforcement learning".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from relab.builds.monitor.simulator import BuildSimulator
from relab.builds.optimizer.model_info import CurvePoint
from relab.builds.optimizer.value_network import Layer, ValueNetwork
from relab.builds.training.environment import BuildEnv
from relab.builds.training.models import TrainingRequest
from relab.builds.training.project import SimulatedProject

_POINTS: Final = 20
"""The number of points of a learning curve."""
_JUDGED_INPUTS: Final = 200
_JUDGE_SEED: Final = 7_919
"""The seed of the simulated inputs on which each point is measured; they differ from the inputs of the training."""

OnPoint = Callable[[CurvePoint], None]


def train_dqn(
    simulator: BuildSimulator, request: TrainingRequest, on_point: OnPoint
) -> tuple[ValueNetwork, tuple[CurvePoint, ...]]:
    """Train the network of the policy `dqn`, which chooses build actions; return the network and its learning curve.

    The network learns from simulated builds.

    Args:
        simulator: simulates the builds.
        request: the number of simulated builds, and the seed.
        on_point: called with each point of the learning curve.
    """
    threads = torch.get_num_threads()
    # Threads cost more than they save on a network of this size.
    torch.set_num_threads(1)
    try:
        model = DQN(
            "MlpPolicy",
            BuildEnv(simulator),
            learning_rate=1e-3,
            buffer_size=min(request.builds, 50_000),
            learning_starts=min(500, request.builds // 4),
            batch_size=64,
            # A later success of the same input counts half: it costs builds before it.
            gamma=0.5,
            target_update_interval=500,
            exploration_fraction=0.5,
            exploration_final_eps=0.1,
            policy_kwargs={"net_arch": [32, 32]},
            seed=request.seed,
            device="cpu",
        )
        # The default logger makes a folder `SB3-<date>` in the temporary directory for each training.
        model.set_logger(Logger(folder=None, output_formats=[]))
        curve = _Curve(simulator, request.builds, on_point)
        model.learn(request.builds, callback=curve)
        return network_of(model), tuple(curve.points)
    finally:
        torch.set_num_threads(threads)


def network_of(model: DQN) -> ValueNetwork:
    """Return the network of a Stable-Baselines3 model as plain arrays, which need no PyTorch."""
    linear = [layer for layer in model.q_net.q_net if isinstance(layer, torch.nn.Linear)]
    return ValueNetwork(
        tuple(Layer(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linear)
    )


def mean_reward(network: ValueNetwork, simulator: BuildSimulator) -> float:
    """Return the mean reward, 0 to 1, that a network earns on 200 simulated inputs (states of a project's files).

    For each input, one build is simulated without an action (a change of the configuration). The network then chooses
    one action, and the build with this action gives the reward.
    """
    # The faults and first builds are the same at each call, so results for different networks can be compared.
    inputs, outcomes = np.random.default_rng(_JUDGE_SEED).spawn(2)
    project = SimulatedProject(simulator, inputs, outcomes)
    rewards = []
    for _ in range(_JUDGED_INPUTS):
        features = project.next_input().features()
        values = network.values(features)
        rewards.append(project.apply(max(project.actions, key=lambda action: float(values[action]))))
    return float(np.mean(rewards))


class _Curve(BaseCallback):  # type: ignore[misc] # the checker does not read the package
    """Measures the mean reward after each 5 % of the training, and adds it to the learning curve as a point."""

    def __init__(self, simulator: BuildSimulator, builds: int, on_point: OnPoint) -> None:
        super().__init__()
        self._simulator = simulator
        self._every = max(builds // _POINTS, 1)
        self._on_point = on_point
        self.points: list[CurvePoint] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self._every == 0:
            reward = mean_reward(network_of(self.model), self._simulator)
            self.points.append(CurvePoint(builds=self.num_timesteps, reward=reward))
            self._on_point(self.points[-1])
        return True
