"""The user that runs trials: how it is chosen, and the id map of the user namespace that root creates for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.errors import SandboxUnavailableError
from relab.experiments.sandbox.trial_user import TrialUser, trial_user
from relab.experiments.sandbox.user_namespace import ROOT_INSIDE, id_map

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has another user for trials")


@pytest.mark.parametrize("wanted", ["0", "0:0", "1000:0", "0:1000"])
def test_root_is_refused(wanted: str) -> None:
    with pytest.raises(SandboxUnavailableError, match="is root"):
        trial_user(wanted)


@pytest.mark.parametrize("wanted", ["", "root", "-1", "1:2:3", "1000:"])
def test_an_invalid_user_is_refused_with_the_field(wanted: str) -> None:
    with pytest.raises(SandboxUnavailableError, match=r"sandbox\.run_as_user"):
        trial_user(wanted)


@needs_root
def test_configured_user_is_used() -> None:
    assert trial_user("12345") == TrialUser(12_345, 12_345)
    assert trial_user("12345:12346") == TrialUser(12_345, 12_346)


@needs_root
def test_trials_of_root_get_an_unused_user() -> None:
    user = trial_user(None)
    assert user.uid == user.gid >= 65_534
    assert not user.is_runner


@needs_root
def test_without_another_id_trials_of_root_are_refused(tmp_path: Path) -> None:
    for name in ("uid_map", "gid_map"):
        (tmp_path / name).write_text("         0       1000          1\n")
    with pytest.raises(SandboxUnavailableError, match="no other user id"):
        trial_user(None, proc=tmp_path)


@needs_root
def test_in_a_container_with_few_ids_trials_get_the_last_candidate(tmp_path: Path) -> None:
    for name in ("uid_map", "gid_map"):
        (tmp_path / name).write_text("0 100000 65536\n")
    assert trial_user(None, proc=tmp_path) == TrialUser(65_534, 65_534)


def test_id_map_of_all_ids_moves_only_root() -> None:
    assert id_map([(0, 4_294_967_295)]) == f"1 1 {ROOT_INSIDE - 1}\n{ROOT_INSIDE} 0 1\n"


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 100)), max_size=4))
def test_every_id_but_root_is_mapped_to_itself(ranges: list[tuple[int, int]]) -> None:
    mapped = {}
    for line in id_map(ranges).splitlines():
        inside, outside, count = map(int, line.split())
        mapped |= {inside + index: outside + index for index in range(count)}
    outside_ids = {number for first, count in ranges for number in range(first, first + count)} - {0}
    assert mapped == {number: number for number in outside_ids} | {ROOT_INSIDE: 0}
