"""Sandboxes of each kind for tests, and locks that show whether a process in a sandbox still runs."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

# Imported here because some tests drop their privileges before they make a sandbox, and cannot import it then.
from relab.experiments.sandbox import bwrap, docker, local  # noqa: F401
from relab.experiments.sandbox.docker_engine import DockerEngine, EngineError
from relab.experiments.sandbox.kinds import SandboxMode, SandboxOptions
from relab.experiments.sandbox.protocol import (
    Folders,
    Launch,
    Listener,
    NetworkMode,
    Places,
    RunningAttempt,
    Sandbox,
    SandboxLimits,
)
from support.components.required import leave_out, require_program

IMAGE = "relab-test:latest"
INSTALL = ".ci/system-packages"
PATH = "/usr/bin:/bin"
NO_LIMITS = SandboxLimits()
_numbers = itertools.count(1)


def require_docker() -> None:
    """Skip the test, or fail it where no test may be skipped, if there is no engine with the tests' image."""
    try:
        DockerEngine().call("GET", f"/images/{IMAGE}/json")
    except EngineError as error:
        leave_out(f"Docker Engine with the image {IMAGE.partition(':')[0]}", INSTALL, str(error))


@dataclass
class Ended:
    """The exit code, the output and the handle of an attempt that has ended."""

    code: int
    stdout: str
    stderr: str
    out_of_memory: bool
    running: RunningAttempt


class Rooms:
    """Makes sandboxes of one kind, and descriptions of attempts for them."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.run_id = f"test-{os.getpid()}-{next(_numbers)}"
        self._sandboxes: list[Sandbox] = []

    @property
    def is_closed(self) -> bool:
        """Whether sandboxes of this kind isolate their trials."""
        return SandboxMode(self.kind).kind.isolates

    def make(
        self, network: NetworkMode = NetworkMode.NONE, limits: SandboxLimits = NO_LIMITS, **options: Any
    ) -> Sandbox:
        """Return a prepared sandbox, which `close` closes."""
        options |= {"run_id": self.run_id, "image": IMAGE, "network": network, "limits": limits}
        sandbox = SandboxMode(self.kind).kind.make(SandboxOptions(**options))
        self._sandboxes.append(sandbox)
        sandbox.prepare()
        return sandbox

    def launch(
        self,
        command: str | Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        mounts: Mapping[str, Path] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> Launch:
        """Return the description of an attempt that runs a program, or a bash script, in new folders."""
        root = self.folder / f"attempt-{next(_numbers)}"
        folders = Folders(**{field.name: root / field.name for field in fields(Folders)})
        for field in fields(Folders):
            getattr(folders, field.name).mkdir(parents=True)
        (root / "input").write_bytes(stdin)
        return Launch(
            command=["/bin/bash", "-c", command] if isinstance(command, str) else command,
            environment={"PATH": PATH} if environment is None else environment,
            folders=folders,
            stdin=root / "input",
            stdout=root / "stdout",
            stderr=root / "stderr",
            mounts=mounts or {},
            listeners=listeners,
        )

    def run(self, sandbox: Sandbox, launch: Launch) -> Ended:
        """Run an attempt to its end."""
        running = sandbox.start(launch)
        try:
            code = running.wait(60)
            assert code is not None, "the attempt does not end"
        finally:
            running.close()
        return Ended(
            code,
            launch.stdout.read_text(errors="replace"),
            launch.stderr.read_text(errors="replace"),
            running.exceeded() == "memory_mb",
            running,
        )

    def shell(self, script: str, places: Places) -> str:
        """Return a script in which variables such as `$workspace` are set to the attempt's paths in the sandbox."""
        known = "".join(f"{field.name}='{getattr(places, field.name)}'; " for field in fields(Places))
        return known + script

    def start(self, sandbox: Sandbox, script: str, **options: Any) -> tuple[RunningAttempt, Launch]:
        """Start a script with the attempt's paths as variables, and return once the script has made `$out/started`."""
        launch = self.launch("", **options)
        script = self.shell(script, sandbox.places(launch.folders))
        started = Launch(
            **{field.name: getattr(launch, field.name) for field in fields(Launch) if field.name != "command"},
            command=["/bin/bash", "-c", script],
        )
        running = sandbox.start(started)
        while not (started.folders.out / "started").exists():
            code = running.wait(0.02)
            assert code is None, f"it has ended by {code}: {started.stderr.read_text()}"
        return running, started

    def close(self) -> None:
        """Close the sandboxes that `make` returned."""
        for sandbox in self._sandboxes:
            sandbox.close()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock of a file."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until_free(path: Path) -> None:
    """Wait up to 60 s until no process holds the lock of a file."""
    deadline = time.monotonic() + 60
    while is_held(path):
        assert time.monotonic() < deadline, f"{path} is still held"
        time.sleep(0.02)


HOLD = 'exec 9>"$out/lock"; flock 9; touch "$out/started"; '
"""A script that takes a lock; the lock is free again once the last process that inherited it has ended."""


def make_rooms(kind: str, folder: Path) -> Rooms:
    """Return sandboxes of a kind, or skip the test if this machine cannot make them."""
    if kind == "bwrap":
        require_program("bwrap", INSTALL)
    if SandboxMode(kind).kind.runs_image:
        require_docker()
    return Rooms(kind, folder)
