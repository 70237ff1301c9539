"""What a responder has learnt about a runbook waits for a person: an act that changed nothing goes behind the one that mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.incidents.acting.policy import Autonomy, Policy
from relab.incidents.storage.models import Incident, Outcome
from relab.storage.migrate import upgrade
from support.small_shops import (
    CURE,
    FlakyDatabase,
    FlakySaver,
    Means,
    Watching,
    a_shop,
    hasty,
    learnt,
    watching,
    write_books,
)
from support.ways import Way

pytestmark = pytest.mark.anyio

NO_CURE = 5
CAUSE = "valve_a_shut"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def means(tmp_path: Path) -> Iterator[Means]:
    database = FlakyDatabase.open(f"sqlite:///{tmp_path / 'relab.db'}")
    assert isinstance(database, FlakyDatabase)
    upgrade(database)
    with a_shop(tmp_path / "shop") as shop:
        books = write_books(tmp_path / "books", [NO_CURE, CURE])
        # The same action on the same part would count as the same attempt.
        book = books / f"{CAUSE}.md"
        book.write_text(book.read_text().replace(f"component: a, to: {NO_CURE}", f"component: c, to: {NO_CURE}"))
        policy = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)
        yield Means(shop, database, FlakySaver(database), books, hasty(policy), way=Way(shop.app))
    database.close()


async def test_an_act_that_failed_before_another_mended_is_drafted_behind_it(means: Means) -> None:
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(lambda: over(running))
        knowledge, told = running.world.knowledge, running.story()

    assert (found.outcome, found.diagnosis) == (Outcome.RESOLVED, CAUSE)
    assert turns(knowledge.runbook(CAUSE).actions) == [NO_CURE, CURE], "a person has not accepted it"
    (draft,), _ = knowledge.drafts()
    assert str(draft.path) in told
    assert (draft.is_new, turns(draft.runbook.actions)) == (False, [CURE, NO_CURE])
    assert f"+- Incident `{found.incident_id}`" in draft.diff


def over(running: Watching) -> Incident | None:
    return next((each for each in running.incidents() if each.is_over), None)


def turns(actions: object) -> list[object]:
    assert isinstance(actions, tuple)
    return [each.parameters["to"] for each in actions]
