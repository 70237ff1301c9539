"""Faults of the database and of who holds its connections."""

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
    """The server itself takes many times as long for a statement of the shop: a fifth of a millisecond is usual."""
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
def test_a_fault_of_the_database(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_one_session_is_ended_by_its_number(field: Field) -> None:
    field.inject("db_lock", {"table": "stock"})

    def blockers() -> list[dict[str, Any]]:
        return field.look().database.get("blockers") or []

    field.do("end-session", {"pid": wait_until(blockers, what="somebody who blocks")[0]["pid"]})
    wait_until(lambda: field.is_well() and not sees("db_lock")(field), within_s=60, what="the shop without the lock")


def _half_connected(port: int) -> socket.socket:
    """Ask for a connection and never say the password: until the server gives up it has a place."""
    found = socket.create_connection(("127.0.0.1", port), timeout=5)
    said = b"user\0shop\0database\0shop\0\0"
    found.sendall(struct.pack("!ii", 8 + len(said), 3 << 16) + said)
    return found


def _is_refused(asked: socket.socket) -> bool:
    # "R" asks for the password, "E" says why not.
    return asked.recv(1) == b"E"


def test_operators_get_through_where_many_ask_and_are_refused(field: Field) -> None:
    bed, port = field.bed, field.bed.status().state.ports["database-primary"]
    asking: list[socket.socket] = []
    refusals = 0

    def crowd() -> None:
        # Places that the target's own sessions give back are taken as well.
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
        # Somebody may leave in between: then there was room, and it is to be tried again.
        while not refusals:
            crowd()
            with plant.database() as connection:
                assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    finally:
        plant.close()
        while asking:
            asking.pop().close()
