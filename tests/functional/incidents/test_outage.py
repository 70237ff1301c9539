"""An outage of the responder's PostgreSQL during an incident: the incident is resolved after the outage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.actions.records import RepairResult
from relab.incidents.checkpoints import checkpoints
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from relab.storage import Database
from relab.storage.migrate import upgrade
from rig.servers import PostgresServer
from support.shops.books import write_books
from support.shops.small import Means, a_shop, hasty, learnt, watching
from support.shops.ways import Way, at, is_act, is_switch

pytestmark = [pytest.mark.anyio, pytest.mark.full, pytest.mark.timeout(300)]

POLLS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that no other test uses, because this test stops it."""
    found = PostgresServer.create()
    yield found
    found.destroy()


@pytest.mark.parametrize("moment", ["plan", "act"])
async def test_an_incident_outlives_an_outage_of_its_database(
    server: PostgresServer, tmp_path: Path, moment: str
) -> None:
    database = Database.open(server.create_database(f"outage_{moment}"))
    upgrade(database)
    is_down = False

    def go_down() -> None:
        nonlocal is_down
        server.stop("immediate")
        is_down = True

    policy = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)
    with a_shop(tmp_path / "shop") as shop:
        which = is_switch if moment == "plan" else is_act
        way = Way(shop.app, at(which, 1, go_down))
        async with checkpoints(database, tmp_path) as saver:
            means = Means(shop, database, saver, write_books(tmp_path / "books"), hasty(policy), way=way)
            async with watching(means) as running:
                await learnt(running)
                shop.broken.add("a")
                await running.until(lambda: is_down)
                polls = running.responder.polls
                await running.until(lambda: running.responder.polls > polls + POLLS)
                assert len(way.acts) == (0 if moment == "plan" else 1)
                server.start()
                await running.until(lambda: running.log.current(means.target) is None, within_s=180)
                (found,) = running.incidents()
                (act,) = running.log.actions.of_incident(found.incident_id)
        assert found.outcome == IncidentOutcome.RESOLVED
        assert found.status == IncidentStatus.RESOLVED
        assert act.effect == RepairResult.VERIFIED
        assert len(set(way.keys)) == 1
        assert len(shop.actions.audit.newest(10)) == 1
    database.close()
