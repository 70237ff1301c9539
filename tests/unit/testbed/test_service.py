"""Start of a testbed from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.testbed import service
from relab.testbed.errors import SupervisorBusyError


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
