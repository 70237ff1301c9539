"""A testbed with stand-ins for the target: its components, restarts, settings, limits and resets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from psycopg import OperationalError

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError
from rig.waiting import wait_until
from support.testbed.beds import Bed, bed_home, shared_memory, shared_memory_of

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def made() -> Iterator[Bed]:
    """One testbed for all tests of this file."""
    with bed_home() as home:
        yield Bed.start(home)


@pytest.fixture
def bed(made: Bed) -> Bed:
    """The testbed after a reset."""
    made.ask("POST", "/reset")
    return made


def test_all_components_run_and_answer_through_the_links(bed: Bed) -> None:
    status = bed.status()

    assert status.state.phase == "ready"
    assert {item.name: item.state for item in status.components} == dict.fromkeys(
        ("postgres", "redis", "links", "worker-1", "worker-2"), "running"
    )
    for path in ("database-primary", "database-secondary"):
        with bed.connect(through=path) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM orders").fetchone() == (True,)
    assert bed.redis("PING", through="cache-secondary") == b"+PONG\r\n"
    # Both workers share the port, and each is ready only when it listens on it.
    wait_until(lambda: {bed.http()["worker"] for _ in range(8)} == {1, 2}, what="answers of both workers")


def test_components_do_not_inherit_the_environment_and_postgres_is_not_root(bed: Bed) -> None:
    assert set(bed.http()["environment"]) <= {"PATH", "LANG", "TZ", "HOME", "PYTHONPATH", "LC_CTYPE"}
    assert psutil.Process(bed.pid("postgres")).uids().real != 0


def test_database_has_its_settings_and_an_application_role_without_privileges(bed: Bed) -> None:
    with bed.connect("superuser") as connection:
        wanted = {"max_connections": "50", "superuser_reserved_connections": "3", "log_lock_waits": "on"}
        names = [*wanted, "track_io_timing"]
        rows = connection.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [names]).fetchall()
    assert dict(rows) == {**wanted, "track_io_timing": "on"}
    with bed.connect() as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert row == (False,)


def test_reset_restores_the_initial_state(bed: Bed) -> None:
    before = bed.dump()
    with bed.connect() as connection:
        connection.execute("DELETE FROM orders WHERE id % 2 = 0")
        connection.execute("DROP INDEX orders_customer_idx")
    bed.redis("SET left behind")
    bed.redis("CONFIG SET requirepass secret")
    (bed.layout.data / "receipts").write_text("one")
    bed.layout.flags.write_text("{}")
    bed.ask("PUT", "/settings", {"author": "a", "changes": {"database": {"pool_size": 1}}})
    bed.ask("POST", "/components/worker-2/stop")
    assert bed.dump() != before
    pids = {item.pid for item in bed.status().components if item.pid}

    bed.ask("POST", "/reset")

    assert bed.dump() == before
    assert bed.redis("EXISTS left").startswith(b":0")
    assert list(bed.layout.data.iterdir()) == []
    assert not bed.layout.flags.exists()
    assert [item["version"] for item in bed.ask("GET", "/settings/history")["versions"]] == [1]
    status = bed.status()
    assert {item.state for item in status.components} == {"running"}
    assert not pids & {item.pid for item in status.components}


def test_exited_component_is_restarted_and_a_stopped_one_is_not(bed: Bed) -> None:
    first, second = bed.pid("worker-1"), bed.pid("worker-2")
    bed.ask("POST", "/components/worker-2/stop")

    os.kill(first, signal.SIGKILL)

    again = bed.wait_running("worker-1", other_than=first)
    assert again.restarts == 1
    assert again.starts == 2
    assert again.exits == [-signal.SIGKILL]
    stopped = bed.component("worker-2")
    assert stopped.state == "stopped"
    assert stopped.pid is None
    assert stopped.restarts == 0
    assert not psutil.pid_exists(second)
    assert bed.ask("POST", "/components/target/start?wait_s=30")["ready"] is True
    assert bed.pid("worker-1") == again.pid


def test_killed_postgres_leaves_no_process_and_restarts_with_its_data(bed: Bed) -> None:
    before = bed.pid("postgres")
    segment = shared_memory_of(bed.layout)
    assert segment in shared_memory()
    with bed.connect() as connection:
        connection.execute("DELETE FROM orders WHERE id <= 100")
        # A session that runs a query does not check whether the postmaster is alive.
        busy = bed.connect()
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000)")
        offspring = psutil.Process(before).children(recursive=True)
        os.kill(before, signal.SIGKILL)

        bed.wait_running("postgres", other_than=before)

        assert [child.pid for child in offspring if child.is_running()] == []
        with pytest.raises(OperationalError):
            connection.execute("SELECT 1")
        busy.close()
    assert segment not in shared_memory()
    wait_until(lambda: bed.redis("PING") == b"+PONG\r\n", what="the links")
    with bed.connect(through="postgres") as connection:
        assert connection.execute("SELECT count(*) FROM orders WHERE id <= 100").fetchone() == (0,)


def test_link_refuses_connections_while_the_database_is_stopped(bed: Bed) -> None:
    bed.ask("POST", "/components/database/stop")

    def is_refused() -> bool:
        try:
            bed.connect().close()
        except OperationalError as error:
            return "refused" in str(error)
        return False

    # The link refuses connections as a stopped server does, instead of resetting or ignoring them.
    wait_until(is_refused, what="a refusal by the link")
    assert bed.ask("POST", "/components/database/start?wait_s=30")["ready"] is True

    def is_let_in() -> bool:
        try:
            bed.connect().close()
        except OperationalError:
            return False
        return True

    wait_until(is_let_in, what="a connection through the link")


def test_invalid_setting_causes_a_crash_loop_until_it_is_rolled_back(bed: Bed) -> None:
    good = bed.http()["version"]
    changed = bed.ask(
        "PUT",
        "/settings",
        {"author": "ops", "note": "more", "changes": {"database": {"pool_size": "ten"}}, "restart": True},
    )

    assert changed["version"]["changes"] == {"database.pool_size": {"from": 10, "to": "ten"}}
    wait_until(lambda: bed.component("worker-1").exits[-3:] == [3, 3, 3], what="three bad starts")
    rolled = bed.ask("POST", "/settings/rollback", {"author": "ops", "restart": True})

    assert rolled["version"]["version"] == good + 2
    bed.wait_running("worker-1")
    assert bed.http()["version"] == good + 2
    with pytest.raises(ConflictError, match="version 3"):
        bed.ask("PUT", "/settings", {"author": "ops", "changes": {"workers": 1}, "expected_version": 1})
    bed.ask("PUT", "/settings", {"author": "ops", "changes": {"database": {"password": "hunter2"}}})
    shown = str(bed.ask("GET", "/settings/history")) + str(bed.ask("GET", "/settings"))
    assert "hunter2" not in shown
    assert bed.passwords()["application"] not in shown
    assert bed.ask("GET", "/settings?reveal=true")["database"]["password"] == "hunter2"


def test_allowed_signals_are_sent_and_others_rejected(bed: Bed) -> None:
    process = psutil.Process(bed.pid("worker-1"))
    bed.ask("POST", "/components/worker-1/signal", {"signal": "STOP"})
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="the stop")
    bed.ask("POST", "/components/worker-1/signal", {"signal": "CONT"})
    wait_until(lambda: process.status() != psutil.STATUS_STOPPED, what="going on")

    with pytest.raises(InvalidInputError, match="signal"):
        bed.ask("POST", "/components/worker-1/signal", {"signal": "SEGV"})
    with pytest.raises(NotFoundError, match="worker-1"):
        bed.ask("POST", "/components/nobody/restart")
    assert bed.pid("worker-1") == process.pid


def test_limits_hold_for_running_and_for_new_processes(bed: Bed) -> None:
    def open_files(pid: int) -> int:
        return int(psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0])

    before = open_files(bed.pid("worker-1"))
    bed.ask("PUT", "/components/worker-1/limits", {"rlimits": {"nofile": 77}})
    assert open_files(bed.pid("worker-1")) == 77

    bed.ask("POST", "/components/worker-1/restart?wait_s=30")

    assert open_files(bed.pid("worker-1")) == 77
    bed.ask("PUT", "/components/worker-1/limits", {})
    assert open_files(bed.pid("worker-1")) == before
    with pytest.raises(InvalidInputError):
        bed.ask("PUT", "/components/worker-1/limits", {"rlimits": {"fame": 1}})


def test_cpu_limit_uses_a_control_group_where_the_machine_has_them(bed: Bed) -> None:
    if bed.status().limits_available["cpu_pct"] is None:
        # The status reports that there are no control groups, and the error must say so too.
        with pytest.raises(Exception, match="no control group"):
            bed.ask("PUT", "/components/worker-1/limits", {"cpu_pct": 20})
        return
    bed.ask("PUT", "/components/worker-1/limits", {"cpu_pct": 20})
    first = _group_of(bed.pid("worker-1"))
    assert first.name.endswith("t-worker-1")

    bed.ask("POST", "/components/worker-1/restart?wait_s=30")

    assert _group_of(bed.pid("worker-1")) == first
    assert _group_of(bed.pid("worker-2")) != first
    bed.ask("POST", "/reset")
    assert _group_of(bed.pid("worker-1")) != first


def _group_of(pid: int) -> Path:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return Path(next(line.split(":", 2)[2] for line in lines if line.split(":")[1] in {"cpu", "cpu,cpuacct", ""}))
