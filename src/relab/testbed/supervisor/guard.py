"""The guard, the parent process of a supervisor: it holds the testbed's lock, and ends orphaned processes.

The guard runs as a file with `python -I -S` and imports no other module of relab. It inherits the lock as a descriptor.
It turns itself into a daemon and a reaper of orphans, starts the supervisor and waits. When the supervisor dies, the
kernel kills its components, because they have a parent-death signal. Their own children (for example PostgreSQL
sessions that are computing) do not end at once. They become children of the guard, and the guard kills them.

    guard.py LOCK_FD PIPE_FD CGROUPS POSTMASTER_PID VOLUME COMMAND…

LOCK_FD: the descriptor of the lock file.
PIPE_FD: the descriptor of the pipe to which the supervisor writes the result of its start.
CGROUPS: the file that lists the control groups to remove.
POSTMASTER_PID: PostgreSQL's file `postmaster.pid`.
VOLUME: the folder to unmount.
COMMAND: the supervisor's program with its arguments. The guard appends PIPE_FD and its own pid to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_IPC_RMID = 0
_MNT_DETACH = 2
_POLL_INTERVAL_S = 0.05


def become_reaper() -> None:
    """Make orphaned descendants of this process children of this process, not of init.

    Raises:
        OSError: the kernel rejects the request.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def children() -> list[int]:
    """Return the pids of all children of this process, no matter which of its threads has started them."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 without pathlib a start takes half of the time
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
            found += map(int, file.read().split())
    return found


def remove_shared_memory(postmaster_pid: str) -> None:
    """Remove the System V shared memory that a killed PostgreSQL has left.

    Args:
        postmaster_pid: the path of PostgreSQL's file `postmaster.pid`; line 7 has the key and id of the memory.
    """
    try:
        with open(postmaster_pid, encoding="utf-8") as file:  # noqa: PTH123
            wanted = [int(word) for word in file.read().splitlines()[6].split()]
        with open("/proc/sysvipc/shm", encoding="ascii") as file:  # noqa: PTH123
            rows = [line.split() for line in file.read().splitlines()[1:]]
    except (OSError, ValueError, IndexError):
        return
    # The file may be older than a reboot. Remove a segment only if key and id match and no process is attached.
    for key, shmid, _, _, _, _, attached, *_ in rows:
        # The kernel shows the key as a signed 32-bit number, PostgreSQL may not.
        if [int(key) & 0xFFFFFFFF, int(shmid)] == [wanted[0] & 0xFFFFFFFF, wanted[1]] and attached == "0":
            ctypes.CDLL(None).shmctl(int(shmid), _IPC_RMID, None)


def remove_groups(listing: str) -> None:
    """Remove all control groups in the file `listing` (one path per line), and then the file.

    A group that still contains processes cannot be removed. Retry its removal for up to one second (for all groups
    together), then leave it.
    """
    try:
        with open(listing, encoding="utf-8") as file:  # noqa: PTH123
            paths = file.read().splitlines()
    except OSError:
        return
    deadline = time.monotonic() + 1.0
    for path in paths:
        while os.path.isdir(path):  # noqa: PTH112
            try:
                os.rmdir(path)  # noqa: PTH106
            except OSError:
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL_INTERVAL_S)
    with contextlib.suppress(OSError):
        os.unlink(listing)  # noqa: PTH108


def unmount(volume: str) -> None:
    """Unmount the file system at the path `volume`, even if files on it are open; do nothing if there is none."""
    if os.path.ismount(volume):
        ctypes.CDLL(None).umount2(os.fsencode(volume), _MNT_DETACH)


def end_children() -> None:
    """Kill and reap all children of this process, orphaned descendants included, until no child is left."""
    while True:
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _keep_lock(descriptor: int) -> None:
    """Write this process's pid into the lock file, open at `descriptor`, and let no other program inherit the lock."""
    os.set_inheritable(descriptor, False)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def _be_daemon() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def main() -> None:
    """Start the supervisor of a testbed and wait until it ends; then kill the remaining processes of the testbed.

    If the guard receives SIGTERM, SIGINT or SIGHUP, it sends SIGTERM to the supervisor. The docstring of the module
    lists the arguments of the program.
    """
    lock, pipe, groups, postmaster_pid, volume, *command = sys.argv[1:]
    _be_daemon()
    become_reaper()
    _keep_lock(int(lock))
    # Remove what an earlier guard left if it was killed.
    remove_shared_memory(postmaster_pid)
    remove_groups(groups)
    unmount(volume)
    # On a signal, ask the supervisor to end in order; the guard ends after it.
    wanted = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*wanted, signal.SIGCHLD})
    own = str(os.getpid())
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*wanted, signal.SIGCHLD})
        os.set_inheritable(int(pipe), True)
        os.execv(command[0], [*command, pipe, own])  # noqa: S606 the supervisor
    os.close(int(pipe))
    while True:
        number = signal.sigwait({*wanted, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(pid, signal.SIGTERM)
        elif _has_ended(pid):
            break
    end_children()
    remove_shared_memory(postmaster_pid)
    remove_groups(groups)
    unmount(volume)


def _has_ended(pid: int) -> bool:
    while True:
        try:
            done, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if done == pid:
            return True
        if done == 0:
            return False


if __name__ == "__main__":
    main()
