"""Limits that an attempt reaches just before its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.sandbox.rooms import make_rooms
from relab.experiments.sandbox.cgroups import Group, _Hierarchy
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.protocol import SandboxLimits


def test_limit_that_was_counted_is_reported_when_the_group_is_gone(tmp_path: Path) -> None:
    group = Group([(_Hierarchy(1, tmp_path, frozenset(("pids",))), tmp_path)])
    events = tmp_path / "pids.events"
    events.write_text("max 3\n")
    watch = LimitWatch(SandboxLimits(), group, list)
    watch.count()
    events.unlink()
    watch.count()
    assert watch.exceeded() == "max_pids"


def test_limits_of_a_container_are_checked_when_its_first_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = make_rooms("container", tmp_path)
    checks: list[LimitWatch] = []

    def count(watch: LimitWatch) -> None:
        checks.append(watch)

    monkeypatch.setattr(LimitWatch, "count", count)
    running, launch = rooms.start(
        rooms.make(limits=SandboxLimits(max_pids=40)),
        'touch "$out/started"; until [ -e "$out/go" ]; do sleep 0.01; done',
    )
    before = len(checks)
    (launch.folders.out / "go").touch()
    code = running.wait(60)
    during = len(checks)
    running.close()
    rooms.close()
    assert (code, before, during) == (0, 0, 1)
