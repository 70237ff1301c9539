"""A hostile trial: no attack on the host succeeds, and no privileged or foreign file is left."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from contract.sandbox.attacks import attack
from contract.sandbox.rooms import make_rooms

NOBODY = 65_534
FILTERED = {
    "add_key", "bpf", "chroot", "clone user namespace", "io_uring_setup", "keyctl", "mount", "open_by_handle_at",
    "perf_event_open", "setns", "unshare user namespace", "userfaultfd", "TIOCSTI",
}  # fmt: skip
"""The attacks that the seccomp filter of a bubblewrap sandbox rejects with EPERM."""


@functools.cache
def report_of(kind: str, runner: str) -> dict[str, Any]:
    """Return the results of the attacks from a sandbox of this kind, made by root or by another user."""
    if runner == "user" and os.getuid() == 0:
        return _report_of_user(kind)
    with tempfile.TemporaryDirectory() as name:
        rooms = make_rooms(kind, Path(name))
        try:
            return attack(rooms)
        finally:
            rooms.close()


def _report_of_user(kind: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # Other users cannot read pytest's own folder, which belongs to root.
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "contract.sandbox.attacks", kind, str(NOBODY), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(params=[(kind, runner) for kind in ("bwrap", "container") for runner in ("root", "user")], ids="-".join)
def report(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The results of the attacks, for each kind of sandbox and each user of the runner."""
    kind, runner = request.param
    make_rooms(kind, tmp_path)
    if runner == "root" and os.getuid() != 0:
        pytest.skip("only root can run a runner as root")
    return report_of(kind, runner) | {"kind": kind, "runner": runner}


def test_no_attack_on_the_machine_succeeds(report: dict[str, Any]) -> None:
    assert report["code"] == 0, report["stderr"]
    succeeded = {name for name, result in report["results"].items() if not result.startswith("refused")}
    # A runner without root shares its user with its trials, so they can read the file that it mounts for them.
    allowed = {"read /workspace/secret"} if report["runner"] == "user" else set()
    if report["kind"] == "container":
        # The default seccomp profile of older engines allows this call.
        allowed |= {"io_uring_setup"}
    assert succeeded <= allowed
    assert len(report["results"]) == 34


@pytest.mark.parametrize("report", [("bwrap", "root"), ("bwrap", "user")], indirect=True)
def test_dangerous_system_calls_are_filtered(report: dict[str, Any]) -> None:
    answers = {
        name: int(report["results"][name].removeprefix("refused ")) for name in (*FILTERED, "clone3 user namespace")
    }
    assert answers == dict.fromkeys(FILTERED, errno.EPERM) | {"clone3 user namespace": errno.ENOSYS}


def test_no_privileged_or_foreign_file_is_left(report: dict[str, Any]) -> None:
    assert report["left"] == []
    # Links are kept. A set-user-ID file loses this bit, or is deleted if it has several names.
    assert {"link", "linked", "group", "locked"} <= set(report["kept"])
    assert not {"pipe", "socket", "device"} & set(report["kept"])
