"""Where a testbed keeps what, which ports are its public ones, and `state.json`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.core.json import canonical_json
from relab.testbed.errors import NotRunningError, WrongNameError
from relab.testbed.models import BedState

DEFAULT_NAME: Final = "default"
TARGET_PORT: Final = 8011
CHAOS_PORT: Final = 8080
ACTIONS_PORT: Final = 9000
HOST: Final = "127.0.0.1"

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
_SOCKET_PATH_BYTES: Final = 107
"""What `sun_path` holds on Linux beside its NUL (unix(7))."""


@dataclass(frozen=True, slots=True)
class PublicPorts:
    """The three ports that people and programs outside of a testbed use."""

    target: int = TARGET_PORT
    chaos: int = CHAOS_PORT
    actions: int = ACTIONS_PORT

    @classmethod
    def at(cls, base: int | None) -> PublicPorts:
        """Return the ports from `base` on, or those that the seeds name.

        Raises:
            WrongNameError: there are no such ports.
        """
        if base is None:
            return cls()
        if not 1_024 <= base <= 65_533:
            raise WrongNameError(f"--port-base is 1024 to 65533, not {base}: three ports follow from it.")
        return cls(base, base + 1, base + 2)


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one testbed.

    Args:
        home: of relab.
        name: of the testbed.
    """

    home: Path
    name: str

    @classmethod
    def of(cls, home: Path, name: str) -> Layout:
        """Return the layout of a name.

        Raises:
            WrongNameError: the name cannot be a folder's, or the folder's path is too long for a socket in it.
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
        """Held as long as any process of the testbed lives."""
        return self.root / "lock"

    @property
    def state(self) -> Path:
        """What runs where; there while the supervisor is."""
        return self.root / "state.json"

    @property
    def control_socket(self) -> Path:
        """Where the supervisor answers."""
        return self.root / "control.sock"

    @property
    def settings(self) -> Path:
        """The target's settings and their versions."""
        return self.root / "settings"

    @property
    def target_settings(self) -> Path:
        """The settings that a worker starts with."""
        return self.settings / "target.json"

    @property
    def data(self) -> Path:
        """What the target writes."""
        return self.root / "data"

    @property
    def search(self) -> Path:
        """What the target's search reads, and its engine's files."""
        return self.root / "search"

    @property
    def stats(self) -> Path:
        """Counters of the workers."""
        return self.root / "stats"

    @property
    def logs(self) -> Path:
        """One log a component, and the target's structured one."""
        return self.root / "logs"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself says."""
        return self.logs / "supervisor.log"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """Redis' folder."""
        return self.root / "redis"

    @property
    def flags(self) -> Path:
        """The target's flags; absent means the default ones."""
        return self.root / "flags.json"

    @property
    def audit(self) -> Path:
        """What was done to the testbed by actions, in all episodes."""
        return self.root / "actions.jsonl"

    @property
    def tokens(self) -> Path:
        """Digests of the tokens for actions."""
        return self.root / "tokens.json"

    @property
    def report_order(self) -> Path:
        """What the job of reports is to do."""
        return self.settings / "report-job.json"

    @property
    def private(self) -> Path:
        """What no responder may see (mode 0700)."""
        return self.root / "private"

    @property
    def plan(self) -> Path:
        """What the supervisor was started with."""
        return self.private / "plan.json"

    @property
    def credentials(self) -> Path:
        """Passwords of the database's roles, as JSON."""
        return self.private / "credentials.json"

    @property
    def links_socket(self) -> Path:
        """Where the links are told what is to be wrong."""
        return self.private / "links.sock"

    @property
    def links_config(self) -> Path:
        """What the process of the links is started with."""
        return self.private / "links.json"

    @property
    def groups(self) -> Path:
        """The control groups that were made, one path a line."""
        return self.private / "cgroups"

    @property
    def templates(self) -> Path:
        """Where templates of all testbeds are kept."""
        return self.home / "cache" / "testbed"


def read_state(layout: Layout) -> BedState:
    """Return what the running supervisor has written.

    Raises:
        NotRunningError: there is none, or it has not come so far.
    """
    try:
        return BedState.model_validate_json(layout.state.read_bytes())
    except (OSError, ValueError) as error:
        raise NotRunningError(
            f"The testbed {layout.name} is not running.", remedy=f"Start it: lab testbed up --name {layout.name}"
        ) from error


def write_json(path: Path, value: Any, *, mode: int = 0o600) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: there is no room, or no permission.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(canonical_json(value) + "\n")
    fresh.replace(path)
