"""Create a user namespace in which bubblewrap can create sandboxes for an unprivileged user, if the runner is root.

bubblewrap needs capabilities to mount folders. The owner of a user namespace has all capabilities in it. So this module
makes the trial's user the owner of a new user namespace. bubblewrap runs as that user, enters the namespace
(`--userns`), mounts the folders, and drops the capabilities. No process inside a sandbox has any.

A capability only applies to files whose owner has an id in the namespace. So root has an id as well, `ROOT_INSIDE`: the
folders to mount may be inside folders that only root may enter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource  # noqa: F401 a thread in `acting_as` may not be able to load it: its files are root's
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from relab.experiments.errors import SandboxUnavailableError
from relab.experiments.sandbox.trial_user import Range, TrialUser, id_ranges

ROOT_INSIDE: Final = 4_294_967_294
"""The id of root inside the namespace: the largest user id."""
REMEDY: Final = (
    "Sandboxes need user namespaces: see the sysctls kernel.unprivileged_userns_clone, user.max_user_namespaces and "
    "kernel.apparmor_restrict_unprivileged_userns; in a container it takes CAP_SYS_ADMIN and CAP_SETFCAP."
)
_CLONE_NEWUSER: Final = 0x10000000
_READY: Final = b"1"
_SETRESUID: Final = {"x86_64": 117, "aarch64": 147}


def id_map(ranges: Iterable[Range]) -> str:
    """Return the text of a new namespace's `uid_map` or `gid_map`: a line `<id inside> <id outside> <count>` per range.

    Every id has the same number inside and outside, except root: its id is 0 outside and `ROOT_INSIDE` inside.

    Args:
        ranges: the ids that exist outside, as `(first id, number of ids)`.
    """
    lines = []
    for start, count in ranges:
        first, last = max(start, 1), min(start + count - 1, ROOT_INSIDE - 1)
        if first <= last:
            lines.append(f"{first} {first} {last - first + 1}\n")
    return "".join([*lines, f"{ROOT_INSIDE} 0 1\n"])


def make_user_namespace(user: TrialUser) -> int:
    """Create a user namespace that `user` owns; return its file descriptor.

    The caller closes the descriptor. Until then the namespace exists, even without processes.

    Raises:
        SandboxUnavailableError: the kernel refuses.
    """
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-s", "-m", __name__, str(user.uid), str(user.gid)]
    try:
        # A helper process is needed, because a process with threads cannot enter a user namespace.
        with subprocess.Popen(  # noqa: S603 it is this module
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as helper:
            try:
                return _map_and_open(helper)
            finally:
                helper.kill()
    except OSError as error:
        reason = f"{error.filename or 'unshare'}: {error.strerror or error}"
        raise SandboxUnavailableError(
            f"root cannot make a user namespace here, so trials cannot be unprivileged: {reason}.", remedy=REMEDY
        ) from error


@contextlib.contextmanager
def acting_as(user: TrialUser | None) -> Iterator[None]:
    """Set the effective user id of this thread, but not of other threads, to `user` in the `with` block.

    The block may then set the resource limits of that user's processes. Nothing is changed if `user` is None, or on a
    processor architecture for which this module does not know the number of setresuid(2).

    Raises:
        OSError: the kernel refuses.
    """
    number = _SETRESUID.get(os.uname().machine)
    if user is None or number is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def change(uid: int) -> None:
        # The function of libc would change all threads, so this is the raw system call.
        if libc.syscall(number, -1, uid, -1) != 0:
            raise OSError(ctypes.get_errno(), "This thread cannot change its user id")

    # A user namespace's owner has every capability over its processes; root in a container may lack them.
    change(user.uid)
    try:
        yield
    finally:
        change(0)


def _map_and_open(helper: subprocess.Popen[bytes]) -> int:
    assert helper.stdout is not None
    assert helper.stderr is not None
    if helper.stdout.read(1) != _READY:
        raise OSError(helper.stderr.read().decode(errors="replace").strip()[-300:])
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{helper.pid}/{name}").write_text(id_map(id_ranges(Path(f"/proc/self/{name}"))))
    return os.open(f"/proc/{helper.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def main(uid: int, gid: int) -> None:
    """Switch to a user, enter a new user namespace, write `1` to stdout, and keep the namespace until stdin ends."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    sys.stdout.buffer.write(_READY)
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
