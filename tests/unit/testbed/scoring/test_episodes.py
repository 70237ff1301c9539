"""Episodes: reproducible from a seed, covering every fault, with parameters that the chaos server accepts."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.testbed.chaos.faults.catalogue import FAULTS, INJECTABLES
from relab.testbed.scoring import episodes as made
from relab.testbed.scoring.episodes import EPISODE_FAULTS, Episode, WrongEpisodeError, make_episodes


def test_episodes_use_every_fault_that_users_notice() -> None:
    assert set(EPISODE_FAULTS) == {name for name, fault in FAULTS.items() if fault.is_felt}
    assert "cpu_saturation" not in EPISODE_FAULTS
    assert len(set(EPISODE_FAULTS)) == len(EPISODE_FAULTS)


def test_faults_accept_the_parameters_that_are_drawn_for_them() -> None:
    for episode in make_episodes(600, seed=5):
        for event in (*episode.faults, *episode.noise):
            fault = INJECTABLES[event.name]
            assert fault.read_parameters(event.parameters).seed == event.parameters["seed"]


@given(count=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_episodes_are_reproducible_from_their_seed(count: int, seed: int) -> None:
    found = make_episodes(count, seed)
    assert found == make_episodes(count, seed)
    assert [Episode.from_row(json.loads(json.dumps(episode.to_row()))) for episode in found] == found
    assert len({episode.task_id for episode in found}) == count


@given(seed=st.integers(0, 10_000))
def test_every_fault_occurs_before_any_fault_is_repeated(seed: int) -> None:
    found = Counter(item.subject for item in make_episodes(120, seed) if item.kind is made.EpisodeKind.FAULT)
    assert set(found) == set(EPISODE_FAULTS)
    assert max(found.values()) - min(found.values()) <= 1


@given(seed=st.integers(0, 10_000), timeout_s=st.floats(20, 600))
def test_faults_begin_at_the_onset_and_noise_precedes_it(seed: int, timeout_s: float) -> None:
    for episode in make_episodes(60, seed, timeout_s=timeout_s):
        onset_s = min((event.at_s for event in episode.faults), default=episode.healthy_s)
        assert onset_s == episode.healthy_s > 0
        assert all(event.at_s < episode.healthy_s + timeout_s for event in (*episode.faults, *episode.noise))
        if episode.faults:
            # Noise after the onset could repair the fault, or be mistaken for its repair.
            assert all(event.at_s < onset_s for event in episode.noise)
        names = [event.name for event in (*episode.faults, *episode.noise)]
        assert len(set(names)) == len(names)


def test_two_seeds_have_different_intensities() -> None:
    one, other = (
        {json.dumps(event.parameters) for episode in make_episodes(100, seed) for event in episode.faults}
        for seed in (1, 2)
    )
    assert not one & other


def test_kinds_have_the_requested_shares() -> None:
    found = make_episodes(100, 3, noisy_share=0.2, quiet_share=0.1, several_share=0.05)
    assert Counter(item.kind.value for item in found) == {"noisy": 20, "quiet": 10, "several": 5, "fault": 65}
    for item in found:
        assert len(item.faults) == {"fault": 1, "several": 2}.get(item.kind.value, 0)
        assert item.kind is not made.EpisodeKind.NOISY or len(item.noise) >= 2


def test_episodes_contain_only_the_named_faults() -> None:
    found = make_episodes(20, 1, faults=["hang", "oom", "hang"], several_share=0.2)
    assert {event.name for item in found for event in item.faults} == {"hang", "oom"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"faults": ["no_such"]}, "'no_such'"),
        ({"faults": []}, "No fault is given"),
        ({"count": 0}, "0 episodes"),
        ({"noisy_share": 0.9, "quiet_share": 0.9}, "0.9, 0.9"),
        ({"quiet_share": -0.1}, "-0.1"),
        ({"timeout_s": 0.0}, "time limit of 0 s"),
        ({"timeout_s": 1e9}, "time limit of 1e"),
        ({"rate_per_s": 0.0}, "0 requests per second"),
    ],
)
def test_invalid_parameters_are_rejected(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(WrongEpisodeError, match=says):
        make_episodes(**{"count": 5, "seed": 1, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [None, [], {}, {"task_id": "x"}, {"task_id": "x", "kind": "other"}])
def test_invalid_episode_is_rejected_with_its_field(row: object) -> None:
    with pytest.raises(WrongEpisodeError) as refused:
        Episode.from_row(row)
    assert refused.value.problems


def test_traffic_faults_take_the_machine_exclusively() -> None:
    alone = {item.subject for item in make_episodes(64, seed=3) if item.takes_the_machine}
    assert alone == {"traffic_spike", "retry_storm"}
