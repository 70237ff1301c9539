"""Faults of the target's settings and flags."""

from __future__ import annotations

import pytest

from rig.waiting import wait_until
from support.testbed.fault_cases import Check, FaultCase, Steps, checks, fails, says
from support.testbed.fault_field import Field

BACK: Steps = (("roll-back-settings", {}),)


def is_shedding(field: Field) -> bool:
    return bool(field.look().metrics.get("shed")) and field.users.failed_share(3.0) > 0


def searches_elsewhere(field: Field) -> bool:
    """Return whether searches go only to Qdrant, the index for large answers."""
    before = field.look().metrics["search"]["total"]
    after = field.look().metrics["search"]["total"]
    return bool(after["qdrant"] > before["qdrant"] and after["faiss"] == before["faiss"])


CASES = (
    FaultCase("crash_loop", fails(), (("restart-target", {}), ("restart-database", {})), (BACK,)),
    FaultCase(
        "bad_setting", says("connection pool"), (("restart-target", {}), ("restart-links", {})), (BACK,),
        given={"setting": "pool"}, name="small_pool",
    ),
    FaultCase(
        "bad_setting", fails(), (("restart-links", {}), ("restart-database", {})), (BACK,),
        given={"setting": "port"}, name="wrong_port",
    ),
    FaultCase(
        "bad_credential", fails(), (("restart-target", {}), ("restart-database", {})),
        (BACK, (("rotate-credential", {"dependency": "database"}),)),
    ),
    FaultCase(
        "bad_flags", is_shedding, (("restart-target", {}), ("restart-cache", {})),
        ((("set-flow-control", {"policy": "aimd", "max_concurrency": 32, "target_p95_ms": 1_200}),),),
        given={"flag": "concurrency"}, name="small_limit",
    ),
    FaultCase(
        "bad_flags", searches_elsewhere, (("restart-target", {}), ("set-flow-control", {"max_concurrency": 32})),
        ((("set-search-route", {"backend": "rules"}),),), given={"flag": "route"}, name="wrong_route",
    ),
)  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", checks(CASES))
def test_fault_of_settings_or_flags_shows_until_it_is_repaired_or_stopped(field: Field, check: Check) -> None:
    check(field)


@pytest.mark.full
def test_change_history_names_the_author_and_hides_secrets(field: Field) -> None:
    field.inject("bad_credential")
    newest = field.actions.get("/settings/history").json()["versions"][-1]
    assert newest["author"] == "deploy"
    assert list(newest["changes"]) == ["database.password"]
    assert set(newest["changes"]["database.password"].values()) == {"***"}


@pytest.mark.full
def test_action_on_settings_is_undone(field: Field) -> None:
    record = field.attempt("use-path", {"dependency": "database"}).json()["record"]
    assert record["status"] == "succeeded", record["error"]
    wait_until(field.is_well, what="the service by the other path")

    undone = field.actions.post(f"/records/{record['record_id']}/undo")
    assert undone.status_code == 200
    assert undone.json()["ok"] is True
    wait_until(field.is_well, what="the service by the first path")
    assert field.actions.get(f"/records/{record['record_id']}").json()["status"] == "undone"
