"""Start of a testbed from outside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relab.testbed import service
from relab.testbed.errors import SupervisorBusyError
from relab.testbed.layout import Layout


def test_start_beside_another_start_does_not_stop_the_other_testbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other testbed took the lock after this start had checked it."""
    stopped: list[object] = []
    report = {"phase": "failed", "kind": "busy", "message": "Another supervisor holds the folder."}
    monkeypatch.setattr(service, "_start", lambda *_: report)
    monkeypatch.setattr(service, "_wait_gone", stopped.append)

    with pytest.raises(SupervisorBusyError):
        service.up(tmp_path, "a")

    assert stopped == []


def test_checks_at_the_same_time_do_not_take_each_other_for_a_running_testbed(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path, "a")
    layout.root.mkdir(parents=True)
    # The lock file of a testbed that has ended.
    layout.lock.touch()

    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(service.is_running, [layout] * 1_000))

    assert not any(found)
