"""Files that `lab builds explain` and `lab builds ingest` reject, because reading them may never end."""

from __future__ import annotations

import os

import pytest

from relab.cli.output import EXIT_FAILED, EXIT_USAGE
from support.lab.cli import Lab


@pytest.mark.parametrize("name", ["pipe", "zero"])
@pytest.mark.parametrize(("command", "code"), [("explain", EXIT_USAGE), ("ingest", EXIT_FAILED)])
def test_named_pipe_or_device_is_rejected_without_waiting(empty: Lab, command: str, code: int, name: str) -> None:
    os.mkfifo(empty.home / "pipe")
    file = {"pipe": str(empty.home / "pipe"), "zero": "/dev/zero"}[name]

    assert "Not a regular file" in empty.run("builds", command, file, code=code).err


def test_named_pipe_as_a_passing_log_is_rejected_without_waiting(empty: Lab) -> None:
    pipe, log = empty.home / "pipe", empty.home / "build.log"
    os.mkfifo(pipe)
    log.write_text("make: *** [all] Error 1\n")

    assert "Not a regular file" in empty.run("builds", "explain", str(log), "--passing", str(pipe), code=EXIT_USAGE).err


def test_pipe_of_a_shell_is_read(empty: Lab) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"main.c:5:32: error: 'offset' undeclared\n")
    os.close(writer)

    assert "'offset' undeclared" in empty.run("builds", "explain", f"/dev/fd/{reader}").out
    os.close(reader)
