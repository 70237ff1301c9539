"""The rollback of an action by the client: it is requested once, and found again after a lost answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from relab.incidents.actions.client import ActionsClient, RequestLimits
from relab.incidents.actions.errors import OutcomeUnknownError, RefusedError, UnreadableError
from support.testbed.action_servers import answer, hostile_server, problem, silence

Value = TypeVar("Value")
UNDO = {
    "record_id": "r2", "action": "turn_valve", "actor": "responder", "target": "a", "key": None, "status": "succeeded",
    "requested_at": "2027-01-15T08:00:00Z", "undoes": "r1",
}  # fmt: skip
NO_RECORDS = answer(200, {"records": []})


def asked(url: str, work: Callable[[ActionsClient], Awaitable[Value]]) -> Value:
    """Call `work` with a client of the server at `url`, and return its result."""
    limits = RequestLimits(
        read_timeout_s=20.0, action_timeout_s=0.3, max_attempts=3, retry_pause_s=0.0, max_retry_after_s=0.0
    )

    async def ask() -> Value:
        return await work(ActionsClient(url, "s3cr3t", limits))

    return asyncio.run(ask())


def test_answered_undo_is_not_read_again() -> None:
    with hostile_server(answer(200, {"record": UNDO})) as server:
        assert asked(server.url, lambda client: client.undo("r1")).record_id == "r2"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("rows", "record_id"), [([{**UNDO, "record_id": "r3", "status": "started"}, UNDO], "r2"), ([{}, UNDO], "r2"), ([], None)]
)  # fmt: skip
def test_finished_undo_is_found_first(rows: list[dict[str, Any]], record_id: str | None) -> None:
    with hostile_server(answer(200, {"records": rows})) as server:
        found = asked(server.url, lambda client: client.find_undo("r1"))
    assert (found and found.record_id) == record_id


def test_incomplete_list_does_not_mean_that_nothing_was_undone() -> None:
    with hostile_server(answer(200, {"records": [{}]})) as server, pytest.raises(UnreadableError):
        asked(server.url, lambda client: client.find_undo("r1"))


def test_unanswered_undo_is_found_by_the_undone_record() -> None:
    others = [
        answer(200, {"record": {**UNDO, "record_id": "r3", **part}})
        for part in ({"status": "started"}, {"undoes": "r9"}, {"status": "fine"})
    ]
    for said in (silence, problem(409, "not_reversible"), *others):
        with hostile_server(said, answer(200, {"records": [UNDO]})) as server:
            assert asked(server.url, lambda client: client.undo("r1")).record_id == "r2"
    with hostile_server(silence, NO_RECORDS) as server, pytest.raises(OutcomeUnknownError):
        asked(server.url, lambda client: client.undo("r1"))
    with hostile_server(problem(409, "not_reversible"), NO_RECORDS) as server, pytest.raises(RefusedError):
        asked(server.url, lambda client: client.undo("r1"))
