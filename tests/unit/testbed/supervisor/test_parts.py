"""Parts of the supervisor: layout, file copies, ports, control groups, programs, and the component table."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from relab.testbed.errors import StartError, UnavailableLimitError, WrongNameError
from relab.testbed.layout import Layout, PublicPorts, write_json
from relab.testbed.models import GroupFigures, ResourceLimits
from relab.testbed.supervisor import table
from relab.testbed.supervisor.copying import copy_tree, remove_tree
from relab.testbed.supervisor.groups import Groups, Hierarchy, find_hierarchies
from relab.testbed.supervisor.plan import STANDARD_ROWS, Ports, ProgramRow, SupervisorPlan
from relab.testbed.supervisor.ports import HeldPort, listens
from relab.testbed.supervisor.postgres import PostgresPasswords
from relab.testbed.supervisor.programs import PostgresPrograms, find_postgres, find_redis

HIDDEN = ProgramRow(
    name="other", group="other", command=["{python}", "{private}", "{port}", "{testbed}"], port="chaos",
    ready_path="/health", stage=1, hidden=True,
)  # fmt: skip


def site(tmp_path: Path, *rows: ProgramRow) -> table.Site:
    plan = SupervisorPlan(
        home=tmp_path, name="a", ports=Ports(target=1_024, chaos=1_025, actions=1_026), rows=list(rows)
    )
    ports = {name: 30_000 + number for number, name in enumerate(table.PRIVATE_PORTS)}
    programs = PostgresPrograms(Path("/bin"), "16.1", None, statements=True)
    return table.Site(plan, Layout(tmp_path, "a"), ports, programs, "/bin/redis-server", PostgresPasswords("s", "a"))


def test_public_ports_move_together() -> None:
    assert PublicPorts.at(None) == PublicPorts(8011, 8080, 9000)
    assert PublicPorts.at(20_000) == PublicPorts(20_000, 20_001, 20_002)
    for base in (0, 1_023, 65_534, -1):
        with pytest.raises(WrongNameError):
            PublicPorts.at(base)


def test_every_path_of_a_layout_is_inside_its_folder() -> None:
    home = Path("/a")
    layout = Layout.of(home, "a-1")
    names = [name for name, value in vars(Layout).items() if isinstance(value, property) and name != "templates"]

    assert len(names) > 15
    assert all(getattr(layout, name).is_relative_to(home / "testbeds" / "a-1") for name in names)


def test_json_file_is_replaced_with_mode_600_and_without_a_temporary_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1})
    write_json(tmp_path / "a.json", {"b": 2})

    assert (tmp_path / "a.json").read_text() == '{"b":2}\n'
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_copied_tree_has_the_same_content_modes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "big").write_bytes(os.urandom(300_000))
    (source / "empty").touch(mode=0o640)
    (source / "link").symlink_to("inner/big")
    (source / "inner").chmod(0o750)

    copy_tree(source, tmp_path / "copy")

    copy = tmp_path / "copy"
    assert (copy / "inner" / "big").read_bytes() == (source / "inner" / "big").read_bytes()
    assert (copy / "link").readlink() == Path("inner/big")
    assert (copy / "inner").stat().st_mode == (source / "inner").stat().st_mode
    assert (copy / "empty").stat().st_mode == (source / "empty").stat().st_mode
    with pytest.raises(FileExistsError):
        copy_tree(source, copy)
    remove_tree(copy)
    remove_tree(copy)
    assert not copy.exists()


def test_held_port_refuses_connections_and_can_be_listened_on_repeatedly() -> None:
    held = HeldPort()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", held.port))
        # Servers set SO_REUSEADDR, as `create_server` does.
        with socket.create_server(("127.0.0.1", held.port)), socket.create_connection(("127.0.0.1", held.port)):
            assert listens(os.getpid(), held.port)
        assert not listens(os.getpid(), held.port)
    held.close()


def test_shared_port_accepts_several_listeners_and_is_rejected_while_in_use() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(StartError, match=f"Port {other.getsockname()[1]}"),
    ):
        HeldPort(other.getsockname()[1], shared=True)
    held = HeldPort(shared=True)
    with (
        socket.create_server(("127.0.0.1", held.port), reuse_port=True),
        socket.create_server(("127.0.0.1", held.port), reuse_port=True),
        pytest.raises(StartError, match=f"Port {held.port}"),
    ):
        HeldPort(held.port, shared=True)
    held.close()


def test_postgres_and_redis_programs_are_found() -> None:
    programs = find_postgres()
    assert int(programs.version.partition(".")[0]) >= 14
    assert (programs.owner is None) == (os.geteuid() != 0)
    assert Path(programs.initdb).is_file()
    assert Path(find_redis()[0]).is_file()


def test_redis_server_that_is_a_link_to_another_program_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's redis-server is a link to redis-check-rdb, which is a server only if it is called redis-server."""
    program = tmp_path / "redis-check-rdb"
    program.write_text("#!/bin/sh\ncase $0 in */redis-server) echo 'Redis server v=7.0.15 sha=0';; *) exit 1;; esac\n")
    program.chmod(0o755)
    (tmp_path / "redis-server").symlink_to(program.name)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    path, version = find_redis()

    assert version == "7.0.15"
    assert path == str(tmp_path / "redis-server")


def test_cgroup_hierarchies_of_both_versions_are_found(tmp_path: Path) -> None:
    (tmp_path / "cpu" / "mine").mkdir(parents=True)
    (tmp_path / "two" / "slice" / "scope").mkdir(parents=True)
    (tmp_path / "two" / "slice" / "cgroup.subtree_control").write_text("memory pids\n")
    mounts, own = tmp_path / "mounts", tmp_path / "own"
    mounts.write_text(f"cgroup {tmp_path}/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup2 {tmp_path}/two cgroup2 rw 0 0\n")
    own.write_text("3:cpu,cpuacct:/mine\n0::/slice/scope\n")

    assert find_hierarchies(mounts, own) == {
        "cpu": Hierarchy(1, tmp_path / "cpu" / "mine"),
        "memory": Hierarchy(2, tmp_path / "two" / "slice"),
    }
    assert find_hierarchies(tmp_path / "none", own) == {}


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (1, {"cpu.cfs_quota_us": "25000", "memory.limit_in_bytes": str(64 << 20)}),
        (2, {"cpu.max": "25000 100000", "memory.max": str(64 << 20)}),
    ],
)
def test_limits_are_written_in_the_format_of_the_cgroup_version(
    tmp_path: Path, version: int, files: dict[str, str]
) -> None:
    where = Hierarchy(version, tmp_path)
    groups = Groups("relab-1-a", tmp_path / "listing", {"cpu": where, "memory": where})

    groups.set("worker-0", ResourceLimits(cpu_pct=25, memory_mb=64), [1_234])

    group = tmp_path / "relab-1-a-worker-0"
    assert {name: (group / name).read_text() for name in files} == files
    assert (group / "cgroup.procs").read_text() == "1234"
    assert groups.joined_by("worker-0") == [group / "cgroup.procs"]
    assert (tmp_path / "listing").read_text() == f"{group}\n"
    groups.set("worker-0", ResourceLimits(), [])
    assert (group / next(iter(files))).read_text() in {"-1", "max 100000"}


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (1, {"cpu.stat": "nr_periods 9\nnr_throttled 7\n", "memory.failcnt": "5\n", "memory.oom_control": "under_oom 0\noom_kill 3\n"}),
        (2, {"cpu.stat": "usage_usec 9\nnr_throttled 7\n", "memory.events": "low 0\nmax 5\noom 4\noom_kill 3\n"}),
    ],
)  # fmt: skip
def test_counters_of_a_group_are_read(tmp_path: Path, version: int, files: dict[str, str]) -> None:
    where = Hierarchy(version, tmp_path)
    groups = Groups("relab-1-a", tmp_path / "listing", {"cpu": where, "memory": where})
    assert groups.figures("worker-0") == GroupFigures()
    groups.set("worker-0", ResourceLimits(cpu_pct=25, memory_mb=64), [])
    for name, text in files.items():
        (tmp_path / "relab-1-a-worker-0" / name).write_text(text)

    assert groups.figures("worker-0") == GroupFigures(throttled_periods=7, memory_refusals=5, oom_kills=3)
    assert groups.figures("worker-1") == GroupFigures()


def test_unavailable_limit_is_reported_and_rejected(tmp_path: Path) -> None:
    groups = Groups("relab-1-a", tmp_path / "listing", {})

    assert groups.available() == {"rlimits": "prlimit", "cpu_pct": None, "memory_mb": None}
    with pytest.raises(UnavailableLimitError, match="cpu and memory"):
        groups.set("it", ResourceLimits(cpu_pct=1, memory_mb=1), [])
    groups.set("it", ResourceLimits(), [])
    assert not (tmp_path / "listing").exists()


def test_component_table_has_dependencies_links_and_planned_rows(tmp_path: Path) -> None:
    specs = table.components(site(tmp_path, *STANDARD_ROWS, HIDDEN))

    others = {"actions", "chaos", "report-job", "other"}
    assert {spec.name for spec in specs} == {"postgres", "redis", "links", "worker-1", "worker-2"} | others
    other = next(spec for spec in specs if spec.name == "other")
    assert list(other.command[1:]) == [str(tmp_path / "testbeds/a/private"), "1025", "a"]
    assert other.hidden
    assert other.log.parent.name == "private"
    assert specs[0].stop_signal == signal.SIGINT
    # Queries about the target must not reveal the chaos server.
    assert [spec.name for spec in specs if spec.hidden] == ["chaos", "other"]
    assert [spec.name for spec in specs if not spec.started] == ["report-job"]
    assert all("RELAB_HOME" not in spec.environment for spec in specs)
    assert [spec.name for spec in specs if len(spec.environment) > 4] == ["actions", "chaos"]


def test_first_settings_use_the_ports_of_the_primary_links(tmp_path: Path) -> None:
    made = site(tmp_path, *STANDARD_ROWS)
    settings = table.first_settings(made)

    assert settings["listen"] == {"host": "127.0.0.1", "port": 1_024}
    assert settings["database"]["port"] == made.ports["database-primary"]
    assert settings["database"]["password"] == "a"
    assert settings["cache"]["port"] == made.ports["cache-primary"]
    assert settings["workers"] == 2


def test_component_joins_no_group_that_could_not_be_created(tmp_path: Path) -> None:
    groups = Groups("relab-1-a", tmp_path / "listing", {"cpu": Hierarchy(2, tmp_path / "absent")})

    with pytest.raises(UnavailableLimitError):
        groups.set("it", ResourceLimits(cpu_pct=1), [])

    assert groups.joined_by("it") == []
    assert (tmp_path / "listing").read_text() == ""


def test_copy_of_a_named_pipe_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source" / "pipe")

    with pytest.raises(OSError, match="neither a file"):
        copy_tree(tmp_path / "source", tmp_path / "copy")
