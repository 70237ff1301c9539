"""What an attempt may use, where this machine lets a room enforce it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contract.sandbox.rooms import Rooms, make_rooms
from relab.experiments.sandbox.cgroups import Cgroups
from relab.experiments.sandbox.protocol import Limits, SandboxError


def is_enforced(text: str) -> bool:
    return "not enforced" not in text and "no cgroup" not in text


def test_limits_that_are_not_asked_for_are_not_told(rooms: Rooms) -> None:
    assert rooms.run(rooms.make(), rooms.launch("exit 0")).running.posture.limits == {}


def test_a_plain_local_run_says_that_it_limits_nothing(tmp_path: Path) -> None:
    rooms = make_rooms("local", tmp_path)
    limits = rooms.run(rooms.make(limits=Limits(1.0, 64, 10)), rooms.launch("exit 0")).running.posture.limits
    rooms.close()
    assert set(limits) == {"cpu_count", "memory_mb", "max_pids"}
    assert all(text.startswith("not enforced: ") for text in limits.values())


def test_too_much_memory_ends_the_attempt_and_is_told(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make(limits=Limits(memory_mb=48))
    modest = closed_rooms.run(sandbox, closed_rooms.launch("head -c 1000000 /dev/zero | tail -c 10 | wc -c"))
    assert (modest.code, modest.stdout.strip(), modest.out_of_memory) == (0, "10", False)
    # tail keeps the last line, and here there is no end of it.
    greedy = closed_rooms.run(sandbox, closed_rooms.launch("exec tail /dev/zero"))
    assert greedy.code != 0
    if is_enforced(greedy.running.posture.limits["memory_mb"]):
        assert greedy.out_of_memory


def test_too_many_processes_are_refused(closed_rooms: Rooms) -> None:
    # Not bash, which would wait and try again.
    script = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i + 1)); done; echo $i"
    free = closed_rooms.run(closed_rooms.make(), closed_rooms.launch(["/bin/sh", "-c", script]))
    assert (free.code, free.stdout, free.stderr) == (0, "60\n", "")
    sandbox = closed_rooms.make(limits=Limits(max_pids=20))
    limited = closed_rooms.run(sandbox, closed_rooms.launch(["/bin/sh", "-c", script]))
    if not is_enforced(limited.running.posture.limits["max_pids"]):
        pytest.skip(f"this machine cannot: {limited.running.posture.limits['max_pids']}")
    assert limited.code != 0
    assert "fork" in limited.stderr
    assert limited.stdout == ""


def cpu_seconds(times: str) -> float:
    """Return the processor time of a shell's ended children, by what its `times` says."""
    minutes_and_seconds = re.findall(r"(\d+)m([\d.]+)s", times.splitlines()[1])
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in minutes_and_seconds)


def test_the_processor_time_of_all_processes_together_is_limited(closed_rooms: Rooms) -> None:
    """Two busy loops for a second: what they get is the share of one, however many cores there are."""
    busy = "read t _ </proc/uptime; while read n _ </proc/uptime; [ ${n%.*}${n#*.} -lt $((${t%.*}${t#*.} + 100)) ]; do :; done"
    script = f"for i in 1 2; do ({busy}) & done; wait; times"
    sandbox = closed_rooms.make(limits=Limits(cpu_count=0.25))
    ended = closed_rooms.run(sandbox, closed_rooms.launch(["/bin/sh", "-c", script]))
    assert (ended.code, ended.stderr) == (0, "")
    if not is_enforced(ended.running.posture.limits["cpu_count"]):
        pytest.skip(f"this machine cannot: {ended.running.posture.limits['cpu_count']}")
    # A quota is of each 100 ms: the first and the last one may be whole. Unlimited, it is 1 to 2 seconds.
    assert cpu_seconds(ended.stdout) <= 0.25 * 1.6


def test_several_limits_at_once_are_each_told(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make(limits=Limits(cpu_count=0.5, memory_mb=64, max_pids=16))
    ended = closed_rooms.run(sandbox, closed_rooms.launch("exit 3"))
    assert ended.code == 3
    assert set(ended.running.posture.limits) == {"cpu_count", "memory_mb", "max_pids"}


def test_where_there_are_no_groups_each_limit_says_why(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("22 1 0:20 / /proc rw - proc proc rw\n")
    groups = Cgroups("run", Limits(1.0, 64, 10), tmp_path)
    groups.prepare()
    assert groups.enforced == {}
    assert set(groups.missing) == {"memory_mb", "cpu_count", "max_pids"}
    assert "the memory controller is not mounted here" in groups.missing["memory_mb"]
    assert groups.make() is None
    groups.close()


def test_without_groups_memory_is_limited_by_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = make_rooms("bwrap", tmp_path)

    def nowhere(*_: object) -> None:
        raise OSError(2, "no controllers here")

    monkeypatch.setattr(Cgroups, "_place", nowhere)
    ended = rooms.run(rooms.make(limits=Limits(memory_mb=48)), rooms.launch("exec tail /dev/zero"))
    rooms.close()
    assert ended.code != 0
    assert "RLIMIT_DATA" in ended.running.posture.limits["memory_mb"]
    assert "no controllers here" in ended.running.posture.limits["memory_mb"]


def test_an_attempt_whose_group_cannot_be_made_is_refused(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    sandbox = rooms.make(limits=Limits(memory_mb=64))
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
