"""The program that starts every component: it prepares its own process and replaces itself by the component's program.

It runs as a file with `python -I -S`, gets a JSON object as its only argument, and imports no module of relab. It is a
program of its own, because the supervisor has threads, and a process with threads must not do this work between fork
and exec.

The order of the steps matters. The process joins control groups and opens files first, because this needs the
permissions of the original user. Then it changes the user. It requests the parent-death signal last, because the kernel
clears this request when the user changes (prctl(2)).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
EXIT_CANNOT_START = 127


def die_with_parent(parent: int) -> None:
    """Request that the kernel kills this process at the end of the thread that has started it.

    If the parent process has already ended, exit at once.

    Args:
        parent: the pid of the parent process, the one that has started this process.

    Raises:
        OSError: the kernel rejects the request.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os._exit(EXIT_CANNOT_START)


def become(order: dict[str, object]) -> None:
    """Replace this process by a program, with the requested user, limits and open files; never return.

    Args:
        order: how to start the program, as JSON:
            - `parent`: the pid of the process that created this one.
            - `command`, `environment`: the program with its arguments, and all environment variables.
            - `groups`: the control-group files to which the pid is written.
            - `opened`: `{number of a descriptor: path to open}`; the paths are opened before the user changes.
            - `rlimits`: soft limits, by name.
            - `uid`, `gid`: the user and the group, or null.

    Raises:
        OSError: a step fails.
    """
    groups, rlimits, command, opened = order["groups"], order["rlimits"], order["command"], order["opened"]
    environment = order["environment"]
    assert isinstance(environment, dict)
    assert isinstance(groups, list)
    assert isinstance(opened, dict)
    assert isinstance(rlimits, dict)
    assert isinstance(command, list)
    for path in groups:
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 pathlib would double the time to start
            file.write(str(os.getpid()))
    for number, path in opened.items():
        os.dup2(os.open(path, os.O_RDONLY), int(number))
    for name, value in rlimits.items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        _, hard = resource.getrlimit(kind)
        # Keep the hard limit, so that the limit of a running process can be raised again.
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, hard))
    uid, gid = order["uid"], order["gid"]
    if isinstance(uid, int) and isinstance(gid, int):
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    parent = order["parent"]
    assert isinstance(parent, int)
    die_with_parent(parent)
    # Do not use `os.environ`: Python adds LC_CTYPE to it.
    os.execve(command[0], command, environment)  # noqa: S606 to become the program is the purpose


def main() -> None:
    """Replace this process by the program that the only command-line argument describes.

    The argument is a JSON object (see the parameter `order` of `become`). If the program cannot be started, print the
    reason to standard error and exit with 127.
    """
    try:
        become(json.loads(sys.argv[1]))
    except OSError as error:
        print(f"cannot be started: {error}", file=sys.stderr)  # noqa: T201 the component's log
        sys.exit(EXIT_CANNOT_START)


if __name__ == "__main__":
    main()
