"""Faults of the database and of its connections, and operators who connect to a full server."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from relab.testbed.actions.plant import Plant
from rig.waiting import wait_until
from support.testbed.fault_cases import Check, FaultCase, checks, fails, sees
from support.testbed.fault_field import Field

pytestmark = pytest.mark.full


def reads_whole_tables(field: Field) -> bool:
    """Return whether orders are read by a full scan, in at least 1 ms of server time; 0.2 ms is usual."""
    plans = field.look().database.get("plans", {})
    return bool(plans.get("order by number", {}).get("server_ms", 0.0) >= 1.0) and "Seq Scan on orders" in str(plans)


CASES = (
    FaultCase(
        "db_pool", fails(), (("restart-cache", {}), ("restart-links", {})),
        ((("restart-target", {}),), (("remediate-db-pool-exhaustion", {}),)),
    ),
    FaultCase(
        "db_connections", fails(), (("restart-target", {}), ("restart-cache", {})),
        ((("end-idle-sessions", {"min_idle_s": 1, "application": "reporting"}),), (("restart-database", {}),)),
    ),
    FaultCase(
        "db_lock", fails(route="place_order"), (("restart-target", {}), ("restart-cache", {})),
        ((("end-blocking-sessions", {"min_wait_s": 0}),), (("restart-database", {}),)),
        given={"table": "stock"},
    ),
    FaultCase(
        "db_slow_query", reads_whole_tables, (("restart-target", {}), ("restart-database", {})),
        ((("recreate-indexes", {}),),),
    ),
    FaultCase(
        "db_down", fails(), (("restart-target", {}), ("restart-cache", {})), ((("restart-database", {}),),),
    ),
)  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(CASES))
def test_database_fault_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_blocking_session_is_ended_by_its_pid(field: Field) -> None:
    field.inject("db_lock", {"table": "stock"})

    def blockers() -> list[dict[str, Any]]:
        return field.look().database.get("blockers") or []

    field.do("end-session", {"pid": wait_until(blockers, what="somebody who blocks")[0]["pid"]})
    wait_until(lambda: field.is_well() and not sees("db_lock")(field), within_s=60, what="the shop without the lock")


def _half_connected(port: int) -> socket.socket:
    """Open a connection without sending the password; it occupies a slot until the server times it out."""
    found = socket.create_connection(("127.0.0.1", port), timeout=5)
    said = b"user\0shop\0database\0shop\0\0"
    found.sendall(struct.pack("!ii", 8 + len(said), 3 << 16) + said)
    return found


def _is_refused(asked: socket.socket) -> bool:
    # "R" requests the password, "E" is an error.
    return asked.recv(1) == b"E"


def test_operator_connects_although_clients_occupy_every_slot(field: Field) -> None:
    bed, port = field.bed, field.bed.status().state.ports["database-primary"]
    asking: list[socket.socket] = []
    refusals = 0

    def crowd() -> None:
        # This also takes the slots that the target's own sessions release.
        for _ in range(100):
            asking.append(_half_connected(port))
            if _is_refused(asking[-1]):
                return
        raise AssertionError("the server has room without end")

    def pause(_seconds: float) -> None:
        nonlocal refusals
        refusals += 1
        while asking:
            asking.pop().close()

    plant = Plant(bed.layout.control_socket, field.target, pause=pause)
    try:
        # A session may end in between and free a slot; then the test tries again.
        while not refusals:
            crowd()
            with plant.database() as connection:
                assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    finally:
        plant.close()
        while asking:
            asking.pop().close()
