"""The files of the machine that a sandbox shows to trials."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from relab.experiments.sandbox.host_system import make_etc
from relab.experiments.sandbox.trial_user import TrialUser


def test_trials_of_another_user_can_read_etc_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_etc(tmp_path / "etc", is_networked=True, user=TrialUser(uid=65_534, gid=65_534))
    finally:
        os.umask(before)

    entries = [tmp_path / "etc", *(tmp_path / "etc").rglob("*")]
    folders = {stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_dir()}
    files = {stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_file()}
    assert folders == {0o755}
    assert files == {0o644}
