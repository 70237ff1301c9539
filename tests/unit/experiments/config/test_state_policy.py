"""The state policy decides which trials continue from each other."""

from __future__ import annotations

import pytest

from relab.experiments.config.state_policy import StatePolicy

TRIALS = [("control", "a", 0), ("control", "a", 1), ("control", "b", 0), ("other", "a", 0)]


@pytest.mark.parametrize(
    ("policy", "chains", "carries_state", "task_model"),
    [
        (
            StatePolicy.ISOLATE_PER_TRIAL,
            ["control/a/0", "control/a/1", "control/b/0", "other/a/0"],
            False,
            "independent",
        ),
        (StatePolicy.PERSIST_PER_TASK, ["control/a", "control/a", "control/b", "other/a"], True, "dependent"),
        (StatePolicy.ACCUMULATE, ["control", "control", "control", "other"], True, "dependent"),
    ],
)
def test_policy_groups_trials_into_chains(
    policy: StatePolicy, chains: list[str], carries_state: bool, task_model: str
) -> None:
    assert [policy.chain_id(*trial) for trial in TRIALS] == chains
    assert policy.carries_state is carries_state
    assert policy.task_model == task_model
