"""`lab builds run`: its exit code after Ctrl-C."""

from __future__ import annotations

import signal

import pytest

from relab.cli.builds import app
from relab.cli.output import EXIT_INTERRUPTED
from support.builds.projects import write_project
from support.lab.cli import Lab


def test_ctrl_c_after_a_failed_build_starts_no_retry(empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(empty.home / "project", "exit 2\n", sandbox="local")
    monkeypatch.setattr(app, "print_monitor", lambda _build: signal.raise_signal(signal.SIGINT))

    empty.run("builds", "run", "project", "--set", "retries=1", code=EXIT_INTERRUPTED)

    assert [build["result"]["status"] for build in empty.json("builds", "list")["items"]] == ["failed"]
