"""Timelines of incidents: events are numbered, stored in the same transaction as their changes, and streamed live."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import datetime
from typing import Any

import pytest

from relab.incidents.storage.errors import IncidentNotFoundError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, NewEvent
from relab.progress.signal import ProgressSignal
from relab.progress.tailer import ProgressTailer
from relab.storage import Database
from support.incidents.acts import NOW_US
from support.incidents.logs import SECOND_US, asked, opened


@pytest.fixture
def anyio_backend() -> str:
    """The async library of the tests: relab supports only asyncio."""
    return "asyncio"


class Bell:
    """A signal that counts its notifications and wakes one listener in this process."""

    def __init__(self) -> None:
        self.rung = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None

    def notify(self) -> None:
        self.rung += 1
        if self._loop is not None and self._wake is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def listen(self, wake: asyncio.Event) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), wake
        await self._loop.create_future()

    def close(self) -> None:
        """Do nothing, because there is no resource to close."""


def test_events_are_numbered_and_read_back_unchanged(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id

    first, second = log.append(
        incident_id,
        NewEvent(
            "gathered", "The metrics are here.", {"n": 3, "odd": ["é\u2028", None]}, evidence=["fact:1", "fact:2"]
        ),
        NewEvent("diagnosed", evidence=("fact:1",)),
        at_us=NOW_US + 1,
    )

    assert first.seq == 2
    assert second.seq == 3
    assert log.read_after(incident_id, 1) == [first, second]
    assert log.read_after(incident_id, 2) == [second]
    assert log.read_after(incident_id, 3) == []
    assert first.evidence == ("fact:1", "fact:2")
    assert first.content == {"n": 3, "odd": ["é\u2028", None]}
    assert log.get(incident_id).last_seq == 3
    assert log.latest_seqs([incident_id, "none"]) == {incident_id: 3}


def test_numbers_increase_even_if_the_clock_is_set_back(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    log.append(incident_id, NewEvent("one"), at_us=NOW_US - 3_600 * SECOND_US)
    log.append(incident_id, NewEvent("two"), at_us=NOW_US)

    assert [(event.seq, event.kind) for event in log.read_after(incident_id)] == [(1, "opened"), (2, "one"), (3, "two")]


def test_event_of_a_node_that_runs_twice_is_stored_once(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    (first,) = log.append(incident_id, NewEvent("diagnosed", "A", once="diagnose:1"), at_us=NOW_US)

    again, other = log.append(
        incident_id, NewEvent("diagnosed", "B", once="diagnose:1"), NewEvent("planned", once="plan:1"), at_us=NOW_US + 1
    )

    assert again == first
    assert other.seq == first.seq + 1
    assert len(log.read_after(incident_id)) == 3
    elsewhere = opened(log, f"{target}-other").incident_id
    (new,) = log.append(elsewhere, NewEvent("diagnosed", "C", once="diagnose:1"), at_us=NOW_US)
    assert new.message == "C"


def test_an_event_is_a_cloudevent(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    (event,) = log.append(
        incident_id, NewEvent("diagnosed", "The pool leaks.", {"cause": "x"}, evidence=["fact:1"]), at_us=NOW_US + 5
    )

    found: dict[str, Any] = json.loads(json.dumps(event.to_cloudevent()))

    assert found == {
        "specversion": "1.0",
        "id": f"{incident_id}:2",
        "source": "/agent/incidents",
        "type": "relab.incident.diagnosed",
        "time": "2027-01-15T08:00:00.000005Z",
        "subject": incident_id,
        "datacontenttype": "application/json",
        "data": {
            "incident_id": incident_id,
            "seq": 2,
            "message": "The pool leaks.",
            "content": {"cause": "x"},
            "evidence": ["fact:1"],
        },
    }
    assert datetime.fromisoformat(found["time"]).microsecond == 5


def test_change_and_its_events_are_stored_together_or_not_at_all(
    log: IncidentLog, log_database: Database, target: str
) -> None:
    incident_id = opened(log, target).incident_id
    before = log.get(incident_id)

    with pytest.raises(TypeError, match="no JSON"):
        log.update(incident_id, at_us=NOW_US + 1, diagnosis="x", events=[NewEvent("told", content={"a": object()})])
    bell = Bell()
    with pytest.raises(TypeError, match="no JSON"):
        IncidentLog(log_database, bell).append(
            incident_id, NewEvent("one"), NewEvent("two", content={"a": object()}), at_us=NOW_US
        )

    assert log.get(incident_id) == before
    assert len(log.read_after(incident_id)) == 1
    assert bell.rung == 0, "nobody is woken for what is not there"


def test_follower_is_woken_by_every_kind_of_change(log_database: Database, target: str) -> None:
    bell = Bell()
    signal: ProgressSignal = bell
    log = IncidentLog(log_database, signal)
    rung = []
    incident_id = opened(log, target).incident_id
    rung.append(bell.rung)
    log.append(incident_id, NewEvent("looked"), at_us=NOW_US)
    rung.append(bell.rung)
    log.actions.put(asked(incident_id))
    rung.append(bell.rung)
    log.close(incident_id, at_us=NOW_US, outcome=IncidentOutcome.PASSED)
    rung.append(bell.rung)

    assert rung == [1, 2, 3, 4]


@pytest.mark.anyio
async def test_progress_tailer_follows_a_timeline_to_its_end(log_database: Database, target: str) -> None:
    bell = Bell()
    log = IncidentLog(log_database, bell)
    incident_id = (await asyncio.to_thread(opened, log, target)).incident_id
    tailer = ProgressTailer(log, bell, poll_s=3_600.0, heartbeat_s=60.0)
    found = []
    async with asyncio.timeout(30), tailer.running(), aclosing(tailer.follow(incident_id)) as followed:
        found.append(await anext(followed))
        await asyncio.to_thread(log.append, incident_id, NewEvent("looked"), at_us=NOW_US)
        found.append(await anext(followed))
        await asyncio.to_thread(log.close, incident_id, at_us=NOW_US, outcome=IncidentOutcome.RESOLVED)
        found += [event async for event in followed]

    assert [event and event.seq for event in found] == [1, 2, 3]


def test_event_of_an_unknown_incident_is_rejected(log: IncidentLog) -> None:
    with pytest.raises(IncidentNotFoundError):
        log.append("01900000-0000-7000-8000-000000000000", NewEvent("looked"), at_us=NOW_US)
