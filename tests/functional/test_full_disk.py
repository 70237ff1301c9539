"""A file system without free space: readiness, ingestion and commands report it, and recover afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.waiting import wait_until
from support.lab.cli import Lab
from support.lab.installation import Installation
from support.lab.process import lab_environment
from support.telemetry.runs import minimal_run

SIZE_MB = 48


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system for one test."""
    if os.geteuid() != 0:
        message = "mounting a small file system needs root"
        if os.environ.get("RELAB_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "relab-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Fill all the space that is left; return the file."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        block = b"\0" * 65_536
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]
    return filler


def test_full_disk_is_reported_and_reads_still_work(small_disk: Path) -> None:
    installation = Installation.on_sqlite(small_disk / "home")
    with installation.serve("--workers", "0") as server, server.client() as client:
        assert client.post("/agent-runs", json=minimal_run("before")).status_code == 201
        filler = fill(small_disk)

        wait_until(lambda: client.get("/readyz").status_code == 503, what="the server being not ready")
        assert client.get("/readyz").json()["checks"]["disk"] == "disk_full"
        assert client.get("/healthz").status_code == 200

        def refused() -> dict[str, str] | None:
            # The database can accept runs as long as its own files have room.
            answer = client.post("/agent-runs", json=minimal_run("full", error_message="x" * 1_000_000))
            return answer.json() if answer.status_code == 503 else None

        problem = wait_until(refused, what="a post that is refused")
        assert problem is not None
        assert problem["type"] == "urn:relab:problem:disk_full"
        database = f"{small_disk}/home/relab.db"
        assert database in problem["detail"]
        assert "bytes are free" in problem["detail"]
        assert "lab agent-runs prune" in problem["detail"]
        assert client.get("/agent-runs/before").status_code == 200
        # The full disk also has the installation's log, which cannot grow.
        filler.unlink()

        wait_until(lambda: client.get("/readyz").status_code == 200, what="the server being ready again")
        assert client.post("/agent-runs", json=minimal_run("after")).status_code == 201
        assert {run["run_id"] for run in client.get("/agent-runs").json()["items"]} >= {"before", "after"}


def test_commands_name_a_full_disk_that_keeps_the_database_from_being_opened(small_disk: Path) -> None:
    lab = Lab(small_disk / "home", {}, prepared=False)
    lab.home.mkdir()
    lab.run("agent-runs", "ingest", "-", stdin=json.dumps(minimal_run("before")))
    filler = fill(small_disk)
    commands = (
        ["agent-runs", "list"],
        ["agent-runs", "ingest", "-"],
        ["builds", "list"],
        ["rollout", "list"],
        ["--home", str(small_disk / "other"), "agent-runs", "list"],
    )
    for arguments in commands:
        refused = lab.run(*arguments, stdin=json.dumps(minimal_run("full")), code=69)
        assert "is full" in refused.err
        assert "Free space on that disk" in refused.err
    plan = small_disk / "plan.yaml"
    lab.run("rollout", "init", str(plan), code=69)
    assert not plan.exists()
    filler.unlink()

    lab.run("agent-runs", "ingest", "-", stdin=json.dumps(minimal_run("after")))
    assert {run["run_id"] for run in lab.json("agent-runs", "list")["items"]} == {"before", "after"}
    lab.run("rollout", "init", str(plan))


@pytest.mark.parametrize("arguments", [["agent-runs", "list"], ["agent-runs", "list", "--json"], ["--version"]])
def test_failed_write_of_the_output_is_reported_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "relab", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env=lab_environment(tmp_path / "home", {}),
            text=True,
            check=False,
        )

    assert done.returncode == 69
    assert done.stderr == (
        "lab: A file or the output cannot be written: No space left on device. Free space on its disk, then try again.\n"
    )


INTERRUPTED = """
from relab.cli import main

def interrupt(names):
    raise KeyboardInterrupt

main.build_app = interrupt
main.main()
"""


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["-m", "relab", "agent-runs", "list", "--xyzzy"], 64, "No such option: --xyzzy"),
        (["-c", INTERRUPTED], 130, "The command was interrupted."),
    ],
)
def test_error_that_cannot_be_printed_as_json_is_reported_in_one_line(
    tmp_path: Path, command: list[str], code: int, message: str
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, *command, "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=lab_environment(tmp_path / "home", {}),
            text=True,
            check=False,
        )

    assert done.returncode == code
    assert done.stderr == f"lab: {message}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["agent-runs", "list"], ["agent-runs", "list", "--json"]])
def test_output_without_standard_output_is_an_error(tmp_path: Path, arguments: list[str]) -> None:
    done = without_streams(">&-", tmp_path, *arguments)

    assert done.returncode == 69
    assert done.stderr == (
        "lab: The standard output cannot be written: Bad file descriptor. Give the command one, such as /dev/null.\n"
    )


def test_command_that_prints_nothing_keeps_its_exit_code_without_standard_output(tmp_path: Path) -> None:
    done = without_streams(">&-", tmp_path, "agent-runs", "list", "--xyzzy")

    assert done.returncode == 64
    assert "No such option" in done.stderr


def test_closed_standard_input_is_empty(tmp_path: Path) -> None:
    done = without_streams("<&-", tmp_path, "agent-runs", "ingest", "-")

    assert done.returncode == 1
    assert "EOF while parsing" in done.stderr


def without_streams(redirection: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lab` with a standard stream closed by a redirection of the shell, such as `>&-`."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "relab", *arguments],
        stderr=subprocess.PIPE,
        env=lab_environment(tmp_path / "home", {}),
        text=True,
        check=False,
    )


def test_disk_that_is_nearly_full_makes_the_server_unready(small_disk: Path) -> None:
    installation = Installation.on_sqlite(
        small_disk / "home", RELAB_STORAGE__MIN_FREE_DISK_MB=str(SIZE_MB), LOG_LEVEL="WARNING"
    )
    server = installation.serve("--workers", "0")
    try:
        server.start(wait=False)
        wait_until(lambda: server.answers("/healthz"), what="the server being alive")
        assert not server.answers("/readyz")
        assert "RELAB_STORAGE__MIN_FREE_DISK_MB" in server.log()
    finally:
        server.destroy()
