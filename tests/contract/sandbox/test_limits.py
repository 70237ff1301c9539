"""Limits of an attempt: memory, processes, open files, file sizes and processor time, where a machine enforces them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from contract.sandbox.rooms import HOLD, PATH, Rooms, make_rooms, wait_until_free
from relab.experiments.sandbox.cgroups import Cgroups, Group, _Hierarchy
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.protocol import RunningAttempt, SandboxError, SandboxLimits
from rig.waiting import wait_until

UNPRIVILEGED = 61_234
"""A user id that has no account and, on a machine that runs tests, no process."""


def is_enforced(text: str) -> bool:
    return "not enforced" not in text and "no cgroup" not in text


def test_posture_has_no_limits_by_default(rooms: Rooms) -> None:
    assert rooms.run(rooms.make(), rooms.launch("exit 0")).running.posture.limits == {}


def no_controllers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine look as if it had no control groups."""

    def nowhere(*_: object) -> None:
        raise OSError(2, "no controllers here")

    monkeypatch.setattr(Cgroups, "_place", nowhere)


def wait_for_limit(running: RunningAttempt, limit: str) -> None:
    wait_until(lambda: running.exceeded() == limit, what=f"an attempt that has run into {limit}")


MANY = "(i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i + 1)); done); exec sleep 1000"
"""A script for /bin/sh that starts at most 300 processes, also without a limit; bash would wait and try again.

The shell in parentheses ends when the kernel refuses it a process; the outer shell stays.
"""
THREE_OF_30_MB = (
    "for i in 1 2 3; do (x=$(head -c 30000000 /dev/zero | tr '\\0' x); touch \"$out/$i\"; sleep 1000) & done; wait"
)


@pytest.mark.parametrize("with_groups", [True, False])
def test_exceeded_process_limit_is_reported_and_no_process_is_left(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, *, with_groups: bool
) -> None:
    # The engine limits its containers itself in both cases.
    if not with_groups:
        no_controllers(monkeypatch)
    sandbox = rooms.make(limits=SandboxLimits(max_pids=40))
    script = HOLD.replace("'", '"') + f"exec /bin/sh -c '{MANY}'"
    running, launch = rooms.start(sandbox, script)
    try:
        wait_for_limit(running, "max_pids")
    finally:
        running.close()
    assert running.exceeded() == "max_pids"
    wait_until_free(launch.folders.out / "lock")


def test_memory_of_several_processes_is_measured_without_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_controllers(monkeypatch)
    for kind in ("local", "bwrap"):
        rooms = make_rooms(kind, tmp_path / kind)
        running, _ = rooms.start(
            rooms.make(limits=SandboxLimits(memory_mb=75)), f'touch "$out/started"; {THREE_OF_30_MB}'
        )
        wait_for_limit(running, "memory_mb")
        assert "watched by the runner" in running.posture.limits["memory_mb"]
        running.close()
        rooms.close()


def test_pages_that_processes_share_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_controllers(monkeypatch)
    rooms = make_rooms("local", tmp_path)
    shared = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); for i in 1 2 3 4 5; do (sleep 1000; : \"$x\") & done; "
    running, _ = rooms.start(
        rooms.make(limits=SandboxLimits(memory_mb=150)), shared + 'sleep 0.2; touch "$out/started"; wait'
    )
    assert running.exceeded() is None
    running.close()
    rooms.close()


def test_exceeded_limit_of_open_files_is_refused_and_reported(rooms: Rooms) -> None:
    # bash numbers these files from 10 on, so the script opens 3 to 9 as well. A program could not load its libraries
    # with all files open, so the shell stops itself instead of starting `sleep`.
    # The loop is endless because a plain local run gets its limits only after its start.
    script = (
        'touch "$out/started"; while :; do exec {fd}</dev/null || break; done; '
        "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null; kill -STOP $$"
    )
    running, launch = rooms.start(rooms.make(limits=SandboxLimits(max_open_files=64)), script)
    try:
        wait_for_limit(running, "max_open_files")
        assert "RLIMIT_NOFILE" in running.posture.limits["max_open_files"]
        # The limit is seen when the last file is open, and the shell reports the next one.
        wait_until(lambda: "Too many open files" in launch.stderr.read_text(), what="the shell's error")
    finally:
        running.close()


def test_engine_keeps_its_own_limit_if_it_cannot_give_so_many_open_files(tmp_path: Path) -> None:
    rooms = make_rooms("container", tmp_path)
    # More than any kernel allows (fs.nr_open), so that every engine refuses it.
    ended = rooms.run(rooms.make(limits=SandboxLimits(max_open_files=2**31 - 1)), rooms.launch("ulimit -Hn"))
    rooms.close()
    assert ended.code == 0
    assert ended.stderr == ""
    assert "its own limit" in ended.running.posture.limits["max_open_files"]


def test_memory_from_before_a_local_process_joined_its_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = make_rooms("local", tmp_path)
    monkeypatch.setattr(Group, "add_tree", lambda *_: None)
    running, _ = rooms.start(rooms.make(limits=SandboxLimits(memory_mb=75)), f'touch "$out/started"; {THREE_OF_30_MB}')
    try:
        wait_for_limit(running, "memory_mb")
        assert running.exceeded() == "memory_mb"
    finally:
        running.close()
        rooms.close()


def test_file_size_limit_is_enforced(rooms: Rooms) -> None:
    sandbox = rooms.make()
    launch = rooms.launch("")
    # A plain local run gets its limits a moment after its start.
    limited = 'until [ "$(ulimit -f)" != unlimited ]; do sleep 0.01; done'
    script = rooms.shell(
        f'{limited}; trap "" XFSZ; head -c 3000000 /dev/zero > "$out/file"', sandbox.places(launch.folders)
    )
    ended = rooms.run(sandbox, replace(launch, command=["/bin/bash", "-c", script], max_file_bytes=1_000_000))
    assert ended.code != 0
    assert (launch.folders.out / "file").stat().st_size == 1_000_000
    assert "RLIMIT_FSIZE" in ended.running.posture.limits["max_written_mb"]


def test_deleted_files_that_are_open_are_counted(rooms: Rooms) -> None:
    script = 'exec 7>"$out/x"; head -c 5000000 /dev/zero >&7; rm "$out/x"; touch "$out/started"; sleep 1000'
    running, _ = rooms.start(rooms.make(), script)
    try:
        assert 5_000_000 <= running.hidden_bytes() <= 6_000_000
    finally:
        running.close()


def test_files_in_memory_are_counted_and_limited(closed_rooms: Rooms) -> None:
    script = (
        "head -c 5000000 /dev/zero > /tmp/x; df -B1 --output=size /tmp | tail -n 1; head -c 20000000 /dev/zero > /tmp/y; "
        'echo $? ; touch "$out/started"; sleep 1000'
    )
    running, launch = closed_rooms.start(closed_rooms.make(limits=SandboxLimits(tmp_mb=16)), script)
    try:
        assert 5_000_000 <= running.hidden_bytes() <= 16 * 1_048_576
    finally:
        running.close()
    assert launch.stdout.read_text().split() == [str(16 * 1_048_576), "1"]


def test_dev_is_read_only_and_shared_memory_is_limited(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    script = (
        "echo x > /dev/new; echo x > /dev/shm/new && echo y > /dev/null && df -B1 --output=size /dev/shm | tail -n 1"
    )
    ended = rooms.run(rooms.make(limits=SandboxLimits(tmp_mb=16)), rooms.launch(script))
    rooms.close()
    assert ended.stdout.strip() == str(16 * 1_048_576)
    assert "/dev/new: Read-only file system" in ended.stderr


AS_A_USER = """
import ctypes, json, os, sys
from pathlib import Path
from contract.sandbox.rooms import make_rooms
from relab.experiments.sandbox.protocol import SandboxLimits
from rig.waiting import wait_until
kind = sys.argv[1]
if os.getuid() == 0:
    # Only now: the interpreter may lie where only root may read.
    os.setgroups([])
    os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
    os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
    # prctl(2), PR_SET_DUMPABLE: else /proc of this process stays root's.
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
rooms = make_rooms(kind, Path(sys.argv[2]))
limits = SandboxLimits(cpu_count=0.5, memory_mb=256, max_pids=40, max_open_files=512)
running, _ = rooms.start(rooms.make(limits=limits), 'touch "$out/started"; exec /bin/sh -c "$MANY"', environment={
    "PATH": "/usr/bin:/bin", "MANY": sys.argv[3]})
wait_until(lambda: running.exceeded() == "max_pids", what="the limit")
print(json.dumps(dict(running.posture.limits)))
running.close()
rooms.close()
"""


@pytest.mark.parametrize("kind", ["local", "bwrap"])
def test_user_without_control_groups_is_limited_by_rlimits_and_by_the_runner(tmp_path: Path, kind: str) -> None:
    make_rooms(kind, tmp_path)
    tests = Path(__file__).parents[2]
    tmp_path.chmod(0o777)
    with temporary_folder_for_all() as folder:
        done = subprocess.run(
            [sys.executable, "-c", AS_A_USER.replace("UNPRIVILEGED", str(UNPRIVILEGED)), kind, str(folder), MANY],
            cwd=tests,
            env={"PATH": PATH, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    limits = json.loads(done.stdout)
    assert set(limits) == {"cpu_count", "memory_mb", "max_pids", "max_open_files"}
    if "no cgroup" not in limits["max_pids"]:
        pytest.skip("this machine gives control groups to every user")
    assert limits["cpu_count"].startswith("not enforced: ")
    assert limits["memory_mb"].startswith("watched by the runner; RLIMIT_DATA, per process; no cgroup: ")
    assert limits["max_pids"].startswith("watched by the runner; RLIMIT_NPROC, ")


@contextmanager
def temporary_folder_for_all() -> Iterator[Path]:
    """Make a folder that every user can reach; pytest's own folders belong to the user who runs the tests."""
    with TemporaryDirectory(prefix="relab-limits-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.parametrize(
    ("version", "controller", "name", "text", "limit"),
    [
        (1, "memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "memory_mb"),
        (2, "memory", "memory.events", "low 0\nmax 9\noom 1\noom_kill 1\n", "memory_mb"),
        (1, "pids", "pids.events", "max 3\n", "max_pids"),
        (2, "pids", "pids.events", "max 3\n", "max_pids"),
    ],
)
def test_event_counts_of_both_cgroup_versions_name_the_exceeded_limit(
    tmp_path: Path, version: int, controller: str, name: str, text: str, limit: str
) -> None:
    group = Group([(_Hierarchy(version, tmp_path, frozenset((controller,))), tmp_path)])
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / name).write_text(re.sub(r"(oom_kill|max) \d+$", r"\1 0", text, flags=re.MULTILINE))
    watch = LimitWatch(SandboxLimits(memory_mb=1, max_pids=1), group, group.processes)
    assert watch.exceeded() is None
    (tmp_path / name).write_text(text)
    assert watch.exceeded() == limit


def test_memory_limit_ends_the_attempt_and_is_reported(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make(limits=SandboxLimits(memory_mb=48))
    modest = closed_rooms.run(sandbox, closed_rooms.launch("head -c 1000000 /dev/zero | tail -c 10 | wc -c"))
    assert modest.code == 0
    assert modest.stdout.strip() == "10"
    assert modest.out_of_memory is False
    # tail keeps the last line in memory, and this line never ends.
    greedy = closed_rooms.run(sandbox, closed_rooms.launch("exec tail /dev/zero"))
    assert greedy.code != 0
    if is_enforced(greedy.running.posture.limits["memory_mb"]):
        assert greedy.out_of_memory


def test_too_many_processes_are_refused(closed_rooms: Rooms) -> None:
    # This needs /bin/sh: bash would wait and try again.
    script = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i + 1)); done; echo $i"
    free = closed_rooms.run(closed_rooms.make(), closed_rooms.launch(["/bin/sh", "-c", script]))
    assert free.code == 0
    assert free.stdout == "60\n"
    assert free.stderr == ""
    sandbox = closed_rooms.make(limits=SandboxLimits(max_pids=20))
    limited = closed_rooms.run(sandbox, closed_rooms.launch(["/bin/sh", "-c", script]))
    if not is_enforced(limited.running.posture.limits["max_pids"]):
        pytest.skip(f"this machine cannot: {limited.running.posture.limits['max_pids']}")
    assert limited.code != 0
    assert "fork" in limited.stderr
    assert limited.stdout == ""


def cpu_seconds(times: str) -> float:
    """Return the processor time of a shell's ended children in seconds, from the output of its `times`."""
    minutes_and_seconds = re.findall(r"(\d+)m([\d.]+)s", times.splitlines()[1])
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in minutes_and_seconds)


def test_the_processor_time_of_all_processes_together_is_limited(closed_rooms: Rooms) -> None:
    """Two busy loops run for a second each; together they get no more than the limit of a quarter of a processor."""
    busy = "read t _ </proc/uptime; while read n _ </proc/uptime; [ ${n%.*}${n#*.} -lt $((${t%.*}${t#*.} + 100)) ]; do :; done"
    script = f"read begun _ </proc/uptime; for i in 1 2; do ({busy}) & done; wait; read ended _ </proc/uptime; times; echo $begun $ended"
    sandbox = closed_rooms.make(limits=SandboxLimits(cpu_count=0.25))
    ended = closed_rooms.run(sandbox, closed_rooms.launch(["/bin/sh", "-c", script]))
    assert ended.code == 0
    assert ended.stderr == ""
    if not is_enforced(ended.running.posture.limits["cpu_count"]):
        pytest.skip(f"this machine cannot: {ended.running.posture.limits['cpu_count']}")
    # The quota holds per 100 ms, and the first and the last period may be used fully. Without it this is 1 to 2 s.
    # On a busy machine the loops may start one after the other, and together run for more than a second.
    begun_s, ended_s = map(float, ended.stdout.splitlines()[2].split())
    assert cpu_seconds(ended.stdout) <= 0.25 * 1.6 * (ended_s - begun_s)


def test_each_of_several_limits_is_reported(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make(limits=SandboxLimits(cpu_count=0.5, memory_mb=64, max_pids=16))
    ended = closed_rooms.run(sandbox, closed_rooms.launch("exit 3"))
    assert ended.code == 3
    assert set(ended.running.posture.limits) == {"cpu_count", "memory_mb", "max_pids"}


def test_without_control_groups_each_limit_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("22 1 0:20 / /proc rw - proc proc rw\n")
    groups = Cgroups("run", SandboxLimits(1.0, 64, 10), tmp_path)
    groups.prepare()
    assert groups.enforced == {}
    assert set(groups.missing) == {"memory_mb", "cpu_count", "max_pids"}
    assert "the memory controller is not mounted here" in groups.missing["memory_mb"]
    assert groups.make() is None
    groups.close()


def test_empty_groups_of_killed_runners_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    base = tmp_path / "groups"
    (tmp_path / "cgroup").write_text("4:pids:/\n")
    (tmp_path / "mountinfo").write_text(f"22 1 0:20 / {base} rw - cgroup cgroup rw,pids\n")
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    killed = base / f"relab-run_1-{namespace}.{ended.pid}-1" / "7"
    kept = [
        base / f"relab-run_2-{namespace}.{os.getpid()}-1",
        base / f"relab-run_3-{namespace + 1}.{ended.pid}-1",
        base / f"other-run_4-{namespace}.{ended.pid}-1",
        base / f"relab-run_5-{namespace}.{ended.pid}-1" / "with-processes",
    ]
    for folder in (killed, *kept):
        folder.mkdir(parents=True)
    (kept[-1] / "cgroup.procs").write_text("1\n")
    Cgroups("run_6", SandboxLimits(max_pids=10), tmp_path).prepare()

    assert not killed.parent.exists()
    assert all(folder.exists() for folder in kept)


def test_without_groups_memory_is_limited_by_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    no_controllers(monkeypatch)
    ended = rooms.run(rooms.make(limits=SandboxLimits(memory_mb=48)), rooms.launch("exec tail /dev/zero"))
    rooms.close()
    assert ended.code != 0
    assert "RLIMIT_DATA" in ended.running.posture.limits["memory_mb"]
    assert "no controllers here" in ended.running.posture.limits["memory_mb"]


def test_an_attempt_whose_group_cannot_be_made_is_refused(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    sandbox = rooms.make(limits=SandboxLimits(memory_mb=64))
    probe = rooms.run(sandbox, rooms.launch("exit 0"))
    if not is_enforced(probe.running.posture.limits["memory_mb"]):
        pytest.skip("this machine has no groups for us")
    sandbox._cgroups.close()  # type: ignore[attr-defined]
    sandbox._cgroups.prepare()  # type: ignore[attr-defined]
    assert rooms.run(sandbox, rooms.launch("exit 2")).code == 2
    for hierarchy in sandbox._cgroups._hierarchies:  # type: ignore[attr-defined]
        (hierarchy.base / sandbox._cgroups._name).rmdir()  # type: ignore[attr-defined]
    with pytest.raises(SandboxError, match="cannot limit an attempt"):
        sandbox.start(rooms.launch("exit 0"))
    rooms.close()
