"""`lab` commands as separate processes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from support.lab.preloaded import run_command
from support.lab.process import lab_environment
from support.storage.migrated import prepare_home

TIMEOUT_S = 100


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that the command printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass(frozen=True)
class Lab:
    """A home of relab in which commands are run.

    Attributes:
        settings: environment variables in addition to RELAB_HOME.
        prepared: whether its database exists before the first command; otherwise that command creates it.
    """

    home: Path
    settings: Mapping[str, str]
    prepared: bool = True

    def run(self, *arguments: str, stdin: str | bytes = b"", code: int | None = 0) -> Outcome:
        """Run a command and assert its exit code (None: any)."""
        if self.prepared:
            prepare_home(self.home, self.settings)
        done = self._run(
            arguments,
            lab_environment(self.home, {"COLUMNS": "200", **self.settings}),
            stdin.encode() if isinstance(stdin, str) else stdin,
        )
        outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert code is None or outcome.code == code, f"lab {arguments} ended with {outcome}"
        return outcome

    def json(self, *arguments: str, stdin: str | bytes = b"") -> dict[str, Any]:
        """Run a command with --json and return its output, without `ok` and `command`."""
        printed = self.run(*arguments, "--json", stdin=stdin).json
        assert printed.pop("ok") is True
        # The first words of the command line are the command's name.
        assert " ".join(arguments).startswith(printed.pop("command"))
        return printed

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes) -> CompletedProcess[bytes]:
        return run_command(arguments, environment=environment, stdin=stdin, cwd=self.home, within_s=TIMEOUT_S)
