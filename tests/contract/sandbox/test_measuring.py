"""The memory that an attempt uses now, and one output file for both of its streams, as builds need them."""

from __future__ import annotations

from dataclasses import replace

from contract.sandbox.rooms import Rooms

# A shell replaces itself with the last command of a script and loses its variables; a colon at the end prevents it.
HOLDS_30_MB = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); "


def test_memory_of_a_running_attempt_is_measured(rooms: Rooms) -> None:
    small, _ = rooms.start(rooms.make(), 'touch "$out/started"; sleep 1000')
    large, _ = rooms.start(rooms.make(), f'{HOLDS_30_MB}touch "$out/started"; sleep 1000; :')
    try:
        if rooms.kind == "container" and large.memory_bytes() == 0:
            # The processes of a remote engine are not visible here.
            assert small.memory_bytes() == 0
            return
        assert 0 < small.memory_bytes() < 20_000_000
        assert 30_000_000 <= large.memory_bytes() < 150_000_000
    finally:
        small.close()
        large.close()


def test_memory_of_all_processes_of_an_attempt_is_added(rooms: Rooms) -> None:
    each = f'({HOLDS_30_MB}touch "$out/$i"; sleep 1000; :) & '
    script = (
        f'for i in 1 2 3; do {each}done; until [ -e "$out/1" -a -e "$out/2" -a -e "$out/3" ]; do sleep 0.02; done; '
    )
    running, _ = rooms.start(rooms.make(), f'{script}touch "$out/started"; wait')
    try:
        memory = running.memory_bytes()
        assert memory >= 90_000_000 or (rooms.kind == "container" and memory == 0)
    finally:
        running.close()


def test_memory_of_an_ended_attempt_is_zero(rooms: Rooms) -> None:
    running, _ = rooms.start(rooms.make(), f'{HOLDS_30_MB}touch "$out/started"; sleep 1000; :')

    running.close()

    assert running.memory_bytes() == 0


def test_one_file_for_both_streams_has_their_lines_in_order(rooms: Rooms) -> None:
    launch = rooms.launch("for i in {1..200}; do echo out $i; echo err $i >&2; done")
    launch.stdout.write_text("what an earlier attempt printed\n")

    ended = rooms.run(rooms.make(), replace(launch, stderr=launch.stdout))

    assert ended.code == 0
    lines = [f"{stream} {number}" for number in range(1, 201) for stream in ("out", "err")]
    if rooms.kind == "container":
        # The engine sends the two streams separately, so their order is lost.
        assert sorted(ended.stdout.splitlines()) == sorted(lines)
    else:
        assert ended.stdout.splitlines() == lines
    assert not launch.stderr.exists()


def test_processes_that_share_one_file_overwrite_no_line_of_each_other(rooms: Rooms) -> None:
    launch = rooms.launch(
        "(for i in {1..200}; do echo out $i; done) & for i in {1..200}; do echo err $i >&2; done; wait"
    )

    ended = rooms.run(rooms.make(), replace(launch, stderr=launch.stdout))

    lines = ended.stdout.splitlines()
    assert len(lines) == 400
    assert [line for line in lines if line.startswith("out")] == [f"out {number}" for number in range(1, 201)]
    assert [line for line in lines if line.startswith("err")] == [f"err {number}" for number in range(1, 201)]
