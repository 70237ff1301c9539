"""Define the paths and the public ports of a testbed; read the testbed's state file and write JSON files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replace_file
from relab.core.json import canonical_json
from relab.testbed.errors import NotRunningError, WrongNameError
from relab.testbed.models import TestbedState

TARGET_PORT: Final = 8011
CHAOS_PORT: Final = 8080
ACTIONS_PORT: Final = 9000
HOST: Final = "127.0.0.1"

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
_SOCKET_PATH_BYTES: Final = 107
"""Size of `sun_path` on Linux without its NUL (unix(7))."""


@dataclass(frozen=True, slots=True)
class PublicPorts:
    """The three ports on which people and outside programs reach a testbed.

    Attributes:
        target: the port of the watched service.
        chaos: the port of the server that injects faults.
        actions: the port of the server that executes repair actions.
    """

    target: int = TARGET_PORT
    chaos: int = CHAOS_PORT
    actions: int = ACTIONS_PORT

    @classmethod
    def at(cls, base: int | None) -> PublicPorts:
        """Return the ports of a testbed's public servers: `base` and the next two; None gives the default ports.

        Raises:
            WrongNameError: `base` is below 1024 or above 65533.
        """
        if base is None:
            return cls()
        if not 1_024 <= base <= 65_533:
            raise WrongNameError(f"--port-base is 1024 to 65533, not {base}: three ports follow from it.")
        return cls(base, base + 1, base + 2)


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the files and folders of one testbed.

    Args:
        home: relab's home folder.
        name: the name of the testbed.
    """

    home: Path
    name: str

    @classmethod
    def of(cls, home: Path, name: str) -> Layout:
        """Return the layout of the testbed with this name in relab's home folder.

        Raises:
            WrongNameError: the name is invalid, or the folder's path is too long for a socket in it.
        """
        if not _NAME.fullmatch(name):
            raise WrongNameError(
                f"{name[:60]!r} cannot be the name of a testbed.",
                remedy="Use 1 to 32 lower-case letters, digits, - and _, with a letter or digit at both ends.",
            )
        layout = cls(home.absolute(), name)
        longest = len(os.fsencode(layout.private / "worker-99.sock"))
        if longest > _SOCKET_PATH_BYTES:
            raise WrongNameError(
                f"The folder {layout.root} has a path that is too long for sockets in it "
                f"({longest} bytes of at most {_SOCKET_PATH_BYTES}).",
                remedy="Set RELAB_HOME to a shorter path, or use a shorter name.",
            )
        return layout

    @property
    def root(self) -> Path:
        """The testbed's folder."""
        return self.home / "testbeds" / self.name

    @property
    def lock(self) -> Path:
        """The lock file of the testbed; it stays locked as long as any process of the testbed lives."""
        return self.root / "lock"

    @property
    def state(self) -> Path:
        """The testbed's state as JSON; the file exists while the supervisor runs."""
        return self.root / "state.json"

    @property
    def control_socket(self) -> Path:
        """The Unix socket on which the supervisor accepts requests, such as to start or stop components."""
        return self.root / "control.sock"

    @property
    def settings(self) -> Path:
        """Folder with the versions of the target's settings."""
        return self.root / "settings"

    @property
    def target_settings(self) -> Path:
        """The file with the settings that a worker of the target reads when it starts."""
        return self.settings / "target.json"

    @property
    def data(self) -> Path:
        """Folder into which the target, the watched service, writes."""
        return self.root / "data"

    @property
    def search(self) -> Path:
        """Folder of the target's search: the products to be searched, and the files of the search engine."""
        return self.root / "search"

    @property
    def stats(self) -> Path:
        """Folder with the statistics of the target's workers."""
        return self.root / "stats"

    @property
    def logs(self) -> Path:
        """Folder with one log per component, and the target's structured log."""
        return self.root / "logs"

    @property
    def supervisor_log(self) -> Path:
        """The supervisor's own log."""
        return self.logs / "supervisor.log"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """Folder with Redis' configuration and data."""
        return self.root / "redis"

    @property
    def flags(self) -> Path:
        """The file with the target's flags; if it is absent, the defaults apply."""
        return self.root / "flags.json"

    @property
    def audit(self) -> Path:
        """The audit log: all actions on the testbed. It is not cleared for a new episode (a test of a responder)."""
        return self.root / "actions.jsonl"

    @property
    def tokens(self) -> Path:
        """The file with the digests of the tokens for the action server, which executes repairs."""
        return self.root / "tokens.json"

    @property
    def report_order(self) -> Path:
        """The parameter file of the report job (a batch job): number of processes, priority, duration."""
        return self.settings / "report-job.json"

    @property
    def private(self) -> Path:
        """Folder that responders must not see (mode 0700)."""
        return self.root / "private"

    @property
    def plan(self) -> Path:
        """The file with the supervisor's configuration (`SupervisorPlan`)."""
        return self.private / "plan.json"

    @property
    def credentials(self) -> Path:
        """The file with the passwords of the database's roles, as JSON."""
        return self.private / "credentials.json"

    @property
    def links_socket(self) -> Path:
        """The Unix socket of the process that runs the links (TCP proxies); requests there add simulated faults."""
        return self.private / "links.sock"

    @property
    def links_config(self) -> Path:
        """The configuration file of the process that runs the links (TCP proxies in front of the dependencies)."""
        return self.private / "links.json"

    @property
    def groups(self) -> Path:
        """The file with the paths of the kernel's control groups that the testbed created, one per line."""
        return self.private / "cgroups"

    @property
    def templates(self) -> Path:
        """Folder with the templates (prepared data folders). All testbeds share it; each new testbed copies a template."""
        return self.home / "cache" / "testbed"


def read_state(layout: Layout) -> TestbedState:
    """Return the content of the testbed's `state.json`, which the supervisor writes while it runs.

    Raises:
        NotRunningError: the file is absent or cannot be read.
    """
    try:
        return TestbedState.model_validate_json(layout.state.read_bytes())
    except (OSError, ValueError) as error:
        raise NotRunningError(
            f"The testbed {layout.name} is not running.", remedy=f"Start it: lab testbed up --name {layout.name}"
        ) from error


def write_json(path: Path, value: Any, *, mode: int = 0o600) -> None:
    """Write a JSON value to a file atomically: a reader sees the old content or the new one, never a part.

    Args:
        path: the path of the file.
        value: a JSON value.
        mode: the permissions of the file.

    Raises:
        OSError: the disk is full, or permission is denied.
    """
    replace_file(path, (canonical_json(value) + "\n").encode(), mode=mode)
