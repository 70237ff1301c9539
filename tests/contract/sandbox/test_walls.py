"""Isolation by a sandbox: which folders a trial can write, read and see, and the remains of a killed runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from contract.sandbox.rooms import IMAGE, Rooms, is_held, make_rooms, wait_until_free
from relab.experiments.errors import SandboxUnavailableError
from relab.experiments.sandbox.bwrap import BwrapSandbox
from relab.experiments.sandbox.docker import DockerSandbox
from relab.experiments.sandbox.docker_engine import DockerEngine
from relab.experiments.sandbox.protocol import NetworkMode, SandboxError, SandboxLimits
from relab.experiments.sandbox.stale_processes import end_stale_processes


def test_files_written_to_shared_folders_are_visible_outside(rooms: Rooms) -> None:
    sandbox = rooms.make()
    launch = rooms.launch("")
    (launch.folders.workspace / "given").write_text("1")
    script = 'cat given; for place in "$workspace" "$state" "$out"; do mkdir "$place/a"; echo new > "$place/a/b"; done; rm given'
    launch = replace(launch, command=["/bin/bash", "-c", rooms.shell(script, sandbox.places(launch.folders))])
    ended = rooms.run(sandbox, launch)
    assert ended.code == 0
    assert ended.stdout == "1"
    assert ended.stderr == ""
    for folder in (launch.folders.workspace, launch.folders.state, launch.folders.out):
        assert (folder / "a" / "b").read_text() == "new\n"
    assert not (launch.folders.workspace / "given").exists()


def test_harness_and_dataset_are_read_only(closed_rooms: Rooms) -> None:
    launch = closed_rooms.launch(
        "cat /harness/h /dataset/d; echo x > /harness/h; rm /dataset/d; touch /harness/new; true"
    )
    (launch.folders.harness / "h").write_text("snapshot ")
    (launch.folders.dataset / "d").write_text("data")
    sandbox = closed_rooms.make()
    ended = closed_rooms.run(sandbox, launch)
    assert ended.stdout == "snapshot data"
    assert ended.stderr.count("Read-only file system") == 3
    assert (launch.folders.harness / "h").read_text() == "snapshot "
    mounts = ended.running.posture.mounts
    assert {place: mounts[place] for place in ("/workspace", "/state", "/out", "/harness", "/dataset")} == {
        "/workspace": "rw", "/state": "rw", "/out": "rw", "/harness": "ro", "/dataset": "ro",
    }  # fmt: skip


def test_system_folders_are_read_only_and_tmp_and_home_are_writable(closed_rooms: Rooms) -> None:
    script = "touch /x /usr/x /etc/x; for place in /tmp /home/trial; do echo a > $place/a && cat $place/a; done"
    ended = closed_rooms.run(closed_rooms.make(), closed_rooms.launch(script))
    assert ended.stderr.count("Read-only file system") == 3
    assert ended.stdout == "a\na\n"
    assert list(closed_rooms.folder.glob("*/tmp/a")) == []


def test_link_out_of_the_workspace_does_not_reach_the_host(closed_rooms: Rooms, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    launch = closed_rooms.launch("echo x > link/evil; cat link/secret; ln -s ../../../../../.. up; ls up/outside; true")
    (launch.folders.workspace / "link").symlink_to(outside)
    (outside / "secret").write_text("secret")
    ended = closed_rooms.run(closed_rooms.make(), launch)
    assert "secret" not in ended.stdout
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_only_system_folders_of_the_host_are_visible(closed_rooms: Rooms, tmp_path: Path) -> None:
    script = f"ls -d {tmp_path} {Path(__file__)}; cat /etc/shadow /proc/sys/kernel/hostname; ls /var/run/docker.sock"
    ended = closed_rooms.run(closed_rooms.make(), closed_rooms.launch(script))
    assert ended.stdout.strip() == "trial" or (ended.stdout.startswith("root:*:") and closed_rooms.kind == "container")
    assert str(tmp_path) in ended.stderr


def test_trial_with_full_network_reads_the_hosts_of_this_machine_only_on_request(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    launch = rooms.launch("cat /etc/hosts; cat /etc/resolv.conf >&2; getent hosts localhost >/dev/null")
    ended = rooms.run(rooms.make(NetworkMode.FULL), launch)
    asked = rooms.make(NetworkMode.FULL, read_only_paths=("/etc/hosts",))
    given = rooms.run(asked, rooms.launch("cat /etc/hosts"))
    rooms.close()

    assert ended.stdout == "127.0.0.1 localhost trial\n::1 localhost\n"
    assert ended.stderr == Path("/etc/resolv.conf").read_text()
    assert ended.code == 0
    assert given.stdout == Path("/etc/hosts").read_text()


def test_attempt_has_no_capabilities_and_gains_none(closed_rooms: Rooms) -> None:
    script = "grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs)' /proc/self/status"
    ended = closed_rooms.run(closed_rooms.make(), closed_rooms.launch(script))
    assert dict(line.split(":\t") for line in ended.stdout.splitlines()) == {
        "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1",
    }  # fmt: skip


def test_concurrent_attempts_do_not_see_each_other(closed_rooms: Rooms) -> None:
    sandbox = closed_rooms.make()
    running, _ = closed_rooms.start(sandbox, 'touch "$tmp/mine" "$out/started"; exec sleep 424242')
    script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -A /tmp; kill -9 -1; :"
    seen = closed_rooms.run(sandbox, closed_rooms.launch(f"trap '' TERM; {script}")).stdout
    assert running.wait(0) is None
    running.close()
    assert "424242" not in seen
    assert "mine" not in seen


def test_further_mounts_are_read_only_at_their_place(closed_rooms: Rooms, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "rows").write_text("rows")
    launch = closed_rooms.launch("cat data/pack/rows; touch data/pack/new", mounts={"/workspace/data/pack": pack})
    ended = closed_rooms.run(closed_rooms.make(), launch)
    assert ended.stdout == "rows"
    assert ended.code == 1
    assert ended.running.posture.mounts["/workspace/data/pack"] == "ro"
    assert [path.name for path in pack.iterdir()] == ["rows"]


def test_a_mount_over_a_link_of_the_workspace_is_refused(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    launch = rooms.launch("exit 0", mounts={"/workspace/data/pack": tmp_path})
    (launch.folders.workspace / "data").symlink_to("../../oldroot/tmp")
    sandbox = rooms.make()
    with pytest.raises(SandboxError, match="is a link"):
        sandbox.start(launch)
    rooms.close()


RUNNER = """
import sys, time
from pathlib import Path
from contract.sandbox.rooms import HOLD, make_rooms
rooms = make_rooms(sys.argv[1], Path(sys.argv[2]))
rooms.run_id = sys.argv[3]
running, launch = rooms.start(rooms.make(), 'trap "" TERM HUP; ' + HOLD + "sleep 1000")
print(launch.folders.out / "lock", flush=True)
time.sleep(1000)
"""


def test_killed_runner_leaves_no_running_process(closed_rooms: Rooms, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUNNER, closed_rooms.kind, str(tmp_path), closed_rooms.run_id]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    with runner:
        assert runner.stdout is not None
        lock = Path(runner.stdout.readline().strip())
        assert is_held(lock)
        other = Rooms(closed_rooms.kind, tmp_path / "other")
        _, other_launch = other.start(other.make(), 'exec 9>"$out/lock"; flock 9; touch "$out/started"; sleep 1000')
        runner.send_signal(signal.SIGKILL)
    # A bubblewrap sandbox ends with its runner. The engine does not notice, so the run's next runner cleans up.
    if closed_rooms.kind == "bwrap":
        wait_until_free(lock)
    closed_rooms.make()
    wait_until_free(lock)
    assert list(Path(tempfile.gettempdir()).glob(f"relab-room-{closed_rooms.run_id}-{runner.pid}-*")) == []
    assert is_held(other_launch.folders.out / "lock"), "another run's attempt was ended"
    other.close()


NEVER_LET_GO = """
import sys, time
from pathlib import Path
from contract.sandbox.rooms import make_rooms
from relab.experiments.sandbox.bwrap_running import BwrapProcess

def hesitate(process):
    print("made", flush=True)
    time.sleep(1000)

BwrapProcess.start_harness = hesitate
rooms = make_rooms("bwrap", Path(sys.argv[1]))
rooms.run_id = sys.argv[2]
rooms.start(rooms.make(), 'touch "$out/started"')
"""


def test_runner_that_is_killed_while_it_makes_a_sandbox_starts_no_harness(tmp_path: Path) -> None:
    rooms = make_rooms("bwrap", tmp_path)
    command = [sys.executable, "-c", NEVER_LET_GO, str(tmp_path), rooms.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "made\n"
        runner.send_signal(signal.SIGKILL)
    # The sandboxed process waits for its start for ever, until the run's next runner ends it.
    assert end_stale_processes(tmp_path) >= 1
    assert list(tmp_path.glob("*/out/started")) == []
    rooms.make()
    rooms.close()


def test_running_sandbox_of_the_same_run_is_not_touched(closed_rooms: Rooms) -> None:
    first = closed_rooms.make(limits=SandboxLimits(memory_mb=128))
    running, _ = closed_rooms.start(first, 'touch "$out/started"; read -r _ < /dev/zero; sleep 1000')
    second = closed_rooms.make(limits=SandboxLimits(memory_mb=128))
    second.close()
    assert running.wait(0) is None
    running.close()
    assert closed_rooms.run(first, closed_rooms.launch("exit 3")).code == 3


def test_missing_bubblewrap_is_reported_with_its_install_command() -> None:
    sandbox = BwrapSandbox(run_id="r", network=NetworkMode.NONE, limits=SandboxLimits(), program="no-such-bwrap")
    with pytest.raises(SandboxUnavailableError) as caught:
        sandbox.prepare()
    assert "no-such-bwrap" in caught.value.message
    assert "apt-get install bubblewrap" in caught.value.remedy


def test_bubblewrap_without_namespaces_is_reported() -> None:
    with tempfile.TemporaryDirectory() as name:
        # A runner that is root starts the program as another user, who must be able to read it.
        Path(name).chmod(0o755)
        program = Path(name, "bwrap")
        program.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
        program.chmod(0o755)
        sandbox = BwrapSandbox(run_id="r", network=NetworkMode.NONE, limits=SandboxLimits(), program=str(program))
        with pytest.raises(SandboxUnavailableError, match="No permissions to create new namespace"):
            sandbox.prepare()
        sandbox.close()


def test_unreachable_container_engine_is_reported(tmp_path: Path) -> None:
    sandbox = DockerSandbox(
        run_id="r",
        image=IMAGE,
        network=NetworkMode.NONE,
        limits=SandboxLimits(),
        engine=DockerEngine(tmp_path / "none.sock"),
    )
    with pytest.raises(SandboxUnavailableError) as caught:
        sandbox.prepare()
    assert "none.sock" in caught.value.message
    assert "docker.io" in caught.value.remedy
    sandbox.close()


def test_a_missing_image_is_named_and_not_pulled(tmp_path: Path) -> None:
    make_rooms("container", tmp_path)
    sandbox = DockerSandbox(run_id="r", image="relab-no-such-image:9", network=NetworkMode.NONE, limits=SandboxLimits())
    with pytest.raises(SandboxUnavailableError, match="relab-no-such-image:9"):
        sandbox.prepare()


def test_sandbox_reports_the_digest_of_its_image(tmp_path: Path) -> None:
    rooms = make_rooms("container", tmp_path)
    sandbox = rooms.make()
    assert isinstance(sandbox, DockerSandbox)
    assert sandbox.image_digest is not None
    assert sandbox.image_digest.startswith("sha256:")
    rooms.close()


def test_container_runs_as_the_requested_user(tmp_path: Path) -> None:
    rooms = make_rooms("container", tmp_path)
    launch = rooms.launch("id -u; id -g; echo x > given; echo y > /out/new")
    (launch.folders.workspace / "given").write_text("")
    ended = rooms.run(rooms.make(user="12345:12346"), launch)
    rooms.close()
    assert ended.code == 0
    assert ended.stdout.split() == ["12345", "12346"]
    # The runner owns the container's files again.
    assert (launch.folders.out / "new").stat().st_uid == os.getuid()
