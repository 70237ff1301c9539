"""Experience with a runbook: a draft for a person moves a failed action behind the action that repaired the fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relab.incidents.storage.models import IncidentOutcome
from support.shops.books import CURE, write_books
from support.shops.small import Means, learnt, over, watching

pytestmark = pytest.mark.anyio

NO_CURE = 5
CAUSE = "valve_a_shut"


@pytest.fixture
def means(fresh: Means, tmp_path: Path) -> Means:
    """The environment of a responder whose runbook starts with an action that does not help."""
    return replace(fresh, books=write_books(tmp_path / "books", [NO_CURE, CURE], first_of="c"))


async def test_failed_action_is_drafted_after_the_successful_one(means: Means) -> None:
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(over(running))
        knowledge, told = running.world.knowledge, running.story()

    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == CAUSE
    assert turns(knowledge.runbook(CAUSE).actions) == [NO_CURE, CURE], "a person has not accepted it"
    (draft,), _ = knowledge.drafts()
    assert str(draft.path) in told
    assert draft.is_new is False
    assert turns(draft.runbook.actions) == [CURE, NO_CURE]
    assert f"+- Incident `{found.incident_id}`" in draft.diff


def turns(actions: object) -> list[object]:
    assert isinstance(actions, tuple)
    return [each.parameters["to"] for each in actions]
