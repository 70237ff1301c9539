"""Attempts: their start, their input, output and environment, and their end."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.sandbox.rooms import HOLD, PATH, Rooms, is_held, make_rooms
from relab.experiments.sandbox.protocol import SandboxError

ENDED = {-signal.SIGTERM, -signal.SIGKILL}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", -signal.SIGKILL),
        ("kill -TERM $$", -signal.SIGTERM),
        ("ulimit -c 0; kill -SEGV $$", -signal.SIGSEGV),
    ],
)
def test_exit_code_or_signal_is_reported(rooms: Rooms, script: str, code: int) -> None:
    # The first process of a sandbox ignores its own signals, so the harness must not be that process.
    assert rooms.run(rooms.make(), rooms.launch(script)).code == code


def test_input_and_both_outputs_are_files_and_carry_any_byte(rooms: Rooms) -> None:
    given = bytes(range(256)) * 4_096
    launch = rooms.launch("cat; echo told >&2", stdin=given)
    ended = rooms.run(rooms.make(), launch)
    assert ended.code == 0
    assert ended.stderr == "told\n"
    assert launch.stdout.read_bytes() == given


def test_harness_that_does_not_read_its_input_ends(rooms: Rooms) -> None:
    assert rooms.run(rooms.make(), rooms.launch("exit 4", stdin=b"x" * 5_000_000)).code == 4


def test_environment_is_exactly_the_given_one(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAB_TEST_LEAK", "of the runner")
    given = {"PATH": PATH, "HOME": "/home/trial", "EMPTY": "", "LINES_OF": "one\ntwo = 3", "ÜMLAUT": "für"}
    ended = rooms.run(rooms.make(), rooms.launch(["/usr/bin/env", "-0"], environment=given))
    seen = dict(line.split("=", 1) for line in ended.stdout.split("\0") if line)
    # A sandbox may set PWD to its working folder, as every shell does.
    seen.pop("PWD", None)
    assert seen == given


def test_attempt_starts_in_its_workspace(rooms: Rooms) -> None:
    sandbox = rooms.make()
    launch = rooms.launch(["/bin/pwd"])
    assert rooms.run(sandbox, launch).stdout.strip() == sandbox.places(launch.folders).workspace


def test_missing_program_is_an_error_with_its_path(rooms: Rooms) -> None:
    sandbox = rooms.make()
    launch = rooms.launch(["/no/such/program"])
    if rooms.kind == "container":
        ended = rooms.run(sandbox, launch)
        assert ended.code == 127
        assert "/no/such/program" in ended.stderr
        return
    with pytest.raises(SandboxError, match="/no/such/program"):
        rooms.run(sandbox, launch)


def test_wait_times_out_while_the_attempt_continues(rooms: Rooms) -> None:
    running, _ = rooms.start(rooms.make(), 'touch "$out/started"; cat > /dev/null; sleep 1000')
    assert running.wait(0) is None
    assert running.wait(0.01) is None
    code = running.end(0)
    assert code in ENDED
    assert running.wait(0) == code
    running.close()


def test_sigterm_lets_the_harness_choose_its_exit_code(rooms: Rooms) -> None:
    script = 'trap "echo bye; exit 3" TERM; touch "$out/started"; while :; do sleep 0.02; done'
    running, launch = rooms.start(rooms.make(), script)
    assert running.end(30) == 3
    running.close()
    assert launch.stdout.read_text() == "bye\n"


def test_harness_that_ignores_sigterm_is_killed_after_the_grace_period(rooms: Rooms) -> None:
    running, launch = rooms.start(rooms.make(), f'trap "" TERM HUP INT; {HOLD} while :; do sleep 0.05; done')
    assert is_held(launch.folders.out / "lock")
    assert running.end(0.1) == -signal.SIGKILL
    running.close()
    assert not is_held(launch.folders.out / "lock")


DETACHED = (
    'export out; ( ( setsid bash -c \'trap "" TERM HUP; exec 9>"$out/lock"; flock 9; touch "$out/started";'
    " exec sleep 1000' </dev/null >/dev/null 2>&1 & ) & ); "
)


def test_detached_processes_are_gone_after_close(rooms: Rooms) -> None:
    sandbox = rooms.make()
    script = DETACHED + 'until [ -e "$out/started" ]; do sleep 0.01; done; exit 5'
    launch = rooms.launch("")
    launch = replace(launch, command=["/bin/bash", "-c", rooms.shell(script, sandbox.places(launch.folders))])
    assert rooms.run(sandbox, launch).code == 5
    assert not is_held(launch.folders.out / "lock")


def test_detached_processes_are_gone_after_the_end_and_close(rooms: Rooms) -> None:
    running, launch = rooms.start(rooms.make(), DETACHED + "sleep 1000")
    assert is_held(launch.folders.out / "lock")
    running.end(0)
    running.close()
    assert not is_held(launch.folders.out / "lock")


def test_close_ends_a_running_attempt_and_can_be_repeated(rooms: Rooms) -> None:
    running, launch = rooms.start(rooms.make(), HOLD + "sleep 1000")
    running.close()
    running.close()
    assert not is_held(launch.folders.out / "lock")


def test_closing_the_sandbox_ends_running_attempts(rooms: Rooms) -> None:
    sandbox = rooms.make()
    _, launch = rooms.start(sandbox, HOLD + "sleep 1000")
    sandbox.close()
    sandbox.close()
    assert not is_held(launch.folders.out / "lock")


def test_large_output_is_complete(rooms: Rooms) -> None:
    launch = rooms.launch("head -c 20000000 /dev/zero; head -c 1000000 /dev/zero >&2")
    assert rooms.run(rooms.make(), launch).code == 0
    assert launch.stdout.stat().st_size == 20_000_000
    assert launch.stderr.stat().st_size == 1_000_000


def test_attempt_with_endless_output_can_be_watched_and_ended(rooms: Rooms) -> None:
    running, launch = rooms.start(rooms.make(), 'touch "$out/started"; exec cat /dev/zero')
    while launch.stdout.stat().st_size < 1_000_000:
        assert running.wait(0.01) is None
    assert running.end(0) in ENDED
    running.close()


def test_concurrent_attempts_get_their_own_results(rooms: Rooms) -> None:
    sandbox = rooms.make()
    launches = [rooms.launch(f"cat; exit {number}", stdin=str(number).encode()) for number in range(6)]
    at_work = [sandbox.start(launch) for launch in launches]
    assert [running.wait(60) for running in at_work] == list(range(6))
    for running in at_work:
        running.close()
    assert [launch.stdout.read_text() for launch in launches] == list("012345")


def test_ended_attempts_leave_no_descriptor_and_no_child_process(rooms: Rooms) -> None:
    sandbox = rooms.make()
    rooms.run(sandbox, rooms.launch("exit 0"))
    before = descriptors(), children()
    for _ in range(5):
        rooms.run(sandbox, rooms.launch("exit 0"))
    # The sandboxes have also waited for every process that ended.
    assert (descriptors(), children()) == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[str]:
    """Return the ids of this process's children, including ended ones that were not waited for."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_virtual_environment_outside_the_system_folders_is_visible(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    launch = rooms.launch([sys.executable, "-I", "-c", "import sys, ssl; print(sys.prefix)"])
    try:
        ended = rooms.run(rooms.make(), launch)
    finally:
        rooms.close()
    assert ended.code == 0
    assert ended.stdout.strip() == sys.prefix
    assert ended.stderr == ""
