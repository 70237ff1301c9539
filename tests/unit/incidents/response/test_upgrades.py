"""Checkpoints of earlier versions are continued: an incident may be open during an upgrade."""

from __future__ import annotations

from typing import Any, cast

import pytest

from relab.incidents.actions.records import idempotency_key
from relab.incidents.response.assessment_nodes import was_sure
from relab.incidents.response.planning_nodes import PlanningNodes
from relab.incidents.response.state import IncidentState

NOTHING = cast("Any", None)
"""A context for nodes that never use it."""


def test_names_that_checkpoints_store_are_kept() -> None:
    stored = {
        "relooks",
        "relooked_at",
        "execution_results",
        "way",
        "tried",
        "attempt",
        "others_seen",
        "suspected",
        "handovers",
    }

    assert stored <= IncidentState.__annotations__.keys()


@pytest.mark.anyio
async def test_checkpoint_before_a_plan_that_wanted_to_investigate_investigates() -> None:
    state: IncidentState = {"incident_id": "i", "way": "investigate"}

    assert await PlanningNodes(NOTHING, NOTHING).plan(state) == {"way": "investigate"}


@pytest.mark.parametrize("as_record", [False, True], ids=["key", "record"])
def test_executed_action_is_recognized_in_both_forms_of_its_result(as_record: bool) -> None:
    key = idempotency_key("i", 1, "restart")
    state: dict[str, Any] = {
        "incident_id": "i", "attempt": 1, "is_confirmed": True, "diagnosis": "hang", "action_plan": [{"action": "restart"}],
    }  # fmt: skip

    assert was_sure(cast("IncidentState", state))
    state["execution_results"] = [{"attempt": 1, "key": key} if as_record else key]
    assert not was_sure(cast("IncidentState", state))
