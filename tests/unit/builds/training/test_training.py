"""The Gymnasium environment, and training with Stable-Baselines3; both need the extra `[rl]`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from relab.builds.monitor.simulator import shipped_simulator
from relab.builds.optimizer.catalogue import CATALOGUE
from relab.builds.optimizer.model_info import CurvePoint
from relab.builds.optimizer.situation import FEATURES
from relab.builds.training.models import TrainingRequest
from support.components.rl import require_rl

pytestmark = pytest.mark.rl


@pytest.fixture(autouse=True)
def _extra() -> None:
    require_rl()


def test_environment_passes_the_checkers_of_gymnasium_and_stable_baselines3() -> None:
    from gymnasium.utils.env_checker import check_env
    from stable_baselines3.common.env_checker import check_env as check_for_stable_baselines3

    from relab.builds.training.environment import BuildEnv

    check_env(BuildEnv(shipped_simulator()), skip_render_check=True)
    check_for_stable_baselines3(BuildEnv(shipped_simulator()))


def test_episode_ends_with_a_success_or_with_the_budget() -> None:
    from relab.builds.training.environment import BUDGET, BuildEnv

    environment = BuildEnv(shipped_simulator())
    environment.reset(seed=3)
    lengths = []
    for _ in range(60):
        ended, rewards = False, []
        while not ended:
            _, reward, ended, _, _ = environment.step(0)
            rewards.append(reward)
        environment.reset()
        lengths.append(len(rewards))
        assert len(rewards) == BUDGET or rewards[-1] > 0
        assert not any(rewards[:-1])

    assert {1, BUDGET} <= set(lengths) <= set(range(1, BUDGET + 1))


def test_impossible_action_keeps_the_configuration() -> None:
    from relab.builds.training.environment import BuildEnv

    played = []
    for action in (0, 5):
        environment = BuildEnv(shipped_simulator())
        environment.reset(seed=4)
        played.append(environment.step(action)[1])

    assert played[0] == played[1]


def test_trained_network_chooses_better_than_at_first_and_equals_that_of_stable_baselines3() -> None:
    import torch
    from stable_baselines3 import DQN

    from relab.builds.training.dqn import network_of, train_dqn
    from relab.builds.training.environment import BuildEnv

    points: list[CurvePoint] = []
    network, curve = train_dqn(shipped_simulator(), TrainingRequest(builds=2_000, seed=1), points.append)

    assert curve == tuple(points)
    assert [point.builds for point in curve] == list(range(100, 2_001, 100))
    # Keeping the configuration always has a mean reward of about 0.11.
    assert curve[-1].reward > 0.25
    assert network.values([1.0] * len(FEATURES)).shape == (len(CATALOGUE),)

    untrained = DQN("MlpPolicy", BuildEnv(shipped_simulator()), seed=2, device="cpu")
    seen = np.random.default_rng(0).random((5, len(FEATURES)), dtype=np.float32)
    with torch.no_grad():
        expected = untrained.q_net(torch.from_numpy(seen)).numpy()
    found = [network_of(untrained).values(features) for features in seen]
    assert np.allclose(found, expected, atol=1e-5)


def test_same_seed_trains_the_same_network() -> None:
    from relab.builds.training.dqn import train_dqn

    curves = [train_dqn(shipped_simulator(), TrainingRequest(builds=1_000, seed=3), lambda _: None)[1] for _ in "ab"]

    assert curves[0] == curves[1]


def test_training_leaves_nothing_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relab.builds.training.dqn import train_dqn

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    train_dqn(shipped_simulator(), TrainingRequest(builds=1_000, seed=1), lambda _point: None)

    assert list(tmp_path.iterdir()) == []
