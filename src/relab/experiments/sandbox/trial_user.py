"""Choose the unprivileged user that trials run as.

A runner that is not root runs trials as its own user. If the runner is root, trials get a user id without an account, so
that they own no files of root or of another service. If there is no such id, they run as the user `nobody`.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.experiments.errors import SandboxUnavailableError

_USER: Final = re.compile(r"(\d+)(?::(\d+))?")
_CANDIDATES: Final = (*range(71_000, 71_100), 65_534)
"""User ids that Debian's policy, systemd and subordinate ids leave unused; last `nobody`, for containers with few ids."""

Range = tuple[int, int]
"""A range of user or group ids: the first id and the number of ids."""


@dataclass(frozen=True, slots=True)
class TrialUser:
    """The user and group that trials run as, by their numeric ids."""

    uid: int
    gid: int

    @property
    def is_runner(self) -> bool:
        """Whether trials run as the user of this process."""
        return self.uid == os.getuid()


def trial_user(wanted: str | None, *, proc: Path = Path("/proc/self")) -> TrialUser:
    """Return the user that trials run as.

    Args:
        wanted: the setting `sandbox.run_as_user`, as `uid` or `uid:gid`. None: the user of this process. If that user is
            root: an unused id, or the user `nobody` if there is no unused id.
        proc: the folder with this process's id maps; another folder in tests.

    Raises:
        SandboxUnavailableError: `wanted` is invalid or root, or only root may run trials as `wanted`. Without `wanted`:
            this process is root, and its user namespace has no other id that can be used.
    """
    if wanted is not None:
        return _checked(wanted)
    if os.getuid() != 0:
        return TrialUser(os.getuid(), os.getgid())
    uids, gids = id_ranges(proc / "uid_map"), id_ranges(proc / "gid_map")
    for number in _CANDIDATES:
        if _contains(uids, number) and _contains(gids, number) and (number == _CANDIDATES[-1] or not _is_taken(number)):
            return TrialUser(number, number)
    raise SandboxUnavailableError(
        "lab runs as root in a user namespace that has no other user id, so trials cannot be unprivileged.",
        remedy="Run lab as an unprivileged user, or give the namespace more ids (see subuid(5)).",
    )


def id_ranges(path: Path) -> list[Range]:
    """Return the ids that exist in this process's user namespace, as `(first id, number of ids)`.

    `path` is the namespace's `uid_map` or `gid_map`; without this file, all ids exist.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return [(0, 4_294_967_295)]
    return [(int(first), int(count)) for first, _, count in (line.split() for line in lines)]


def _checked(wanted: str) -> TrialUser:
    match = _USER.fullmatch(wanted)
    if match is None:
        raise SandboxUnavailableError(
            f"sandbox.run_as_user: {wanted!r} is not a number.", remedy="Give it as uid or uid:gid."
        )
    user = TrialUser(int(match[1]), int(match[2] or match[1]))
    if user.uid == 0 or user.gid == 0:
        raise SandboxUnavailableError(
            f"sandbox.run_as_user: {wanted!r} is root. Trials run hostile code and are never privileged.",
            remedy="Give another uid:gid, or leave it out.",
        )
    if os.getuid() not in {0, user.uid}:
        raise SandboxUnavailableError(
            f"sandbox.run_as_user: only root can run trials as user {wanted}; lab runs as user {os.getuid()}."
        )
    return user


def _contains(ranges: Iterable[Range], number: int) -> bool:
    return any(first <= number < first + count for first, count in ranges)


def _is_taken(number: int) -> bool:
    with contextlib.suppress(KeyError):
        pwd.getpwuid(number)
        return True
    with contextlib.suppress(KeyError):
        grp.getgrgid(number)
        return True
    return False
