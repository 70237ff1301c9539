"""A responder that is killed during an incident continues it after its restart, and repeats no action."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentOutcome
from relab.storage import Database
from rig.children import Child, read_line
from rig.waiting import wait_until
from support.incidents.responders import TARGET
from support.lab.forked import forked
from support.testbed.fault_field import Field

pytestmark = [pytest.mark.full, pytest.mark.matrix, pytest.mark.timeout(300)]
MOMENTS = ["gather", "investigate", "plan", "execute", "asked", "done", "verify", "learn"]


def responder(field: Field, home: Path, moment: str) -> AbstractContextManager[Child]:
    token = str(field.actions.headers["Authorization"]).removeprefix("Bearer ")
    return forked(
        "support.incidents.responder_child", str(home), field.target, str(field.actions.base_url), token, moment
    )


@pytest.mark.parametrize("moment", MOMENTS)
def test_started_action_is_finished_and_not_repeated_after_a_kill(field: Field, tmp_path: Path, moment: str) -> None:
    home = tmp_path / "home"
    with responder(field, home, moment) as first:
        assert [read_line(first), read_line(first)] == ["watching", "ready"]
        field.inject("hang")
        assert first.wait(90) == -9
    database = Database.open(f"sqlite:///{home / 'relab.db'}")
    log = IncidentLog(database)
    (killed,) = log.list_incidents(target=TARGET).items
    assert not killed.is_over
    with responder(field, home, "never"):

        def over() -> Incident | None:
            found = log.get(killed.incident_id)
            return found if found.is_over else None

        ended = wait_until(over, within_s=120, what="the end of the incident")
    (act,) = log.actions.of_incident(ended.incident_id)
    database.close()
    assert ended.outcome == IncidentOutcome.RESOLVED
    assert ended.diagnosis == "process_stopped"
    assert act.effect == "verified"
    records = field.actions.get("/records?limit=200").json()["records"]
    assert [record["action"] for record in records if record.get("key") == act.key] == [act.action]
    wait_until(field.is_well, what="users who are served well")
