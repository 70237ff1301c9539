"""Trials that signal every visible process: the runner and other processes continue, and no trial's process stays."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from contract.sandbox.rooms import HOLD, Rooms, is_held

GUARD = '[ "$(readlink /proc/self/ns/pid)" != "$host" ] || exit 99; '
"""Exits with 99 in a sandbox that shares the host's processes, so that no signal reaches these."""

SIGNALS = "CONT USR1 TERM HUP INT STOP KILL"

SENDING = f"""
trap '' TERM HUP INT USR1
for name in {SIGNALS}; do
  for folder in /proc/[0-9]*; do
    pid=${{folder#/proc/}}
    [ "$pid" = "$$" ] || kill -"$name" "$pid" 2>/dev/null
  done
  for pid in 1 "$PPID" "$runner" "$bystander"; do
    [ "$pid" = "$$" ] || [ "$pid" = 0 ] || kill -"$name" "$pid" 2>/dev/null
    [ "$pid" = "$$" ] || [ "$pid" = 0 ] || kill -"$name" -- "-$pid" 2>/dev/null
  done
  kill -"$name" -- -1 2>/dev/null
done
echo alive
"""


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of the runner's user in the runner's session; in another session it would count as an orphan."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _is_at_work(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None and psutil.Process(process.pid).status() != psutil.STATUS_STOPPED


def test_no_signal_leaves_a_closed_room(closed_rooms: Rooms) -> None:
    with bystander() as other:
        known = f"host='{Path('/proc/self/ns/pid').readlink()}'; runner={os.getpid()}; bystander={other.pid}; "
        ended = closed_rooms.run(closed_rooms.make(), closed_rooms.launch(known + GUARD + SENDING))

        assert ended.code != 99, "the room shows the processes of this machine"
        assert ended.code == 0, ended.stderr
        assert ended.stdout == "alive\n", ended.stderr
        assert _is_at_work(other)


def test_trial_that_kills_its_own_process_group_kills_no_other_process(rooms: Rooms) -> None:
    sandbox = rooms.make()
    with bystander() as other:
        guard = f"[ $(cut -d' ' -f5 /proc/$$/stat) != {os.getpgrp()} ] || exit 99; "
        ended = rooms.run(
            sandbox, rooms.launch(guard + "trap '' TERM; kill -TERM 0; sleep 1000 & kill -KILL 0; exit 4")
        )

        # The first process of a sandbox ignores its own signals.
        assert ended.code in {-signal.SIGKILL, 4}
        assert _is_at_work(other)
    assert rooms.run(sandbox, rooms.launch("exit 5")).code == 5


@pytest.fixture
def ignored() -> Iterator[int]:
    """Ignore some signals, as `nohup` and the background of a script do; return them as the kernel's mask."""
    numbers = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2, signal.SIGRTMAX)
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield sum(1 << (number - 1) for number in numbers)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def masks(text: str) -> dict[str, int]:
    """Return `{name: mask}` of the signals that a process ignores and blocks, from its status in /proc.

    The two real-time signals that the C library keeps to itself are left out: no program can set their action with it.
    """
    usable = sum(1 << (number - 1) for number in signal.valid_signals())
    lines = (line.split() for line in text.splitlines())
    return {words[0]: int(words[1], 16) & usable for words in lines if words and words[0] in {"SigIgn:", "SigBlk:"}}


def test_signals_that_the_runner_ignores_have_their_default_action_in_a_harness(rooms: Rooms, ignored: int) -> None:
    sandbox = rooms.make()

    ended = rooms.run(sandbox, rooms.launch(["/bin/cat", "/proc/self/status"]))
    killed = rooms.run(sandbox, rooms.launch("kill -HUP $$; echo alive"))

    assert masks(ended.stdout) == {"SigIgn:": 0, "SigBlk:": 0}
    assert killed.code == -signal.SIGHUP
    assert killed.stdout == ""
    own = masks(Path("/proc/self/status").read_text())
    assert own["SigIgn:"] & ignored == ignored
    os.kill(os.getpid(), signal.SIGHUP)


def test_process_that_stops_itself_is_ended(rooms: Rooms) -> None:
    running, launch = rooms.start(rooms.make(), HOLD + 'trap "" TERM; sleep 1000 & kill -STOP $! $$; sleep 1000')

    assert running.wait(0.1) is None
    running.end(0)
    running.close()

    assert not is_held(launch.folders.out / "lock")


def test_process_that_keeps_the_output_open_does_not_delay_the_end(rooms: Rooms) -> None:
    sandbox = rooms.make()
    staying = '( setsid bash -c \'trap "" TERM HUP; echo more; touch "$out/stays"; exec sleep 1000\' & ); '
    launch = rooms.launch("")
    script = rooms.shell(
        'export out; exec 9>"$out/lock"; flock 9; '
        + staying
        + 'until [ -e "$out/stays" ]; do sleep 0.01; done; exit 3',
        sandbox.places(launch.folders),
    )
    launch = replace(launch, command=["/bin/bash", "-c", script])

    ended = rooms.run(sandbox, launch)

    assert ended.code == 3
    assert ended.stdout == "more\n"
    assert not is_held(launch.folders.out / "lock")
