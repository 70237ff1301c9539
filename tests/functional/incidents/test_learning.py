"""An unknown cause on a testbed: the responder learns a person's repair, and repeats it the next time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relab.incidents.postmortem.composition import compose
from relab.incidents.postmortem.models import IncidentRecord, MarkKind
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus
from relab.knowledge.learnt import PREFIX
from support.incidents.responders import Running, acting, responding
from support.testbed.beds import bed_home
from support.testbed.fault_field import Field, a_field

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]

NOT_THIS = """\
---
cause: process_stopped
title: Something that nobody ever sees
risk: low
symptoms:
  - "a sign that no look of anybody gives"
requires:
  - {fact: processes.frozen, at_least: 1000}
expects:
  - {fact: processes.frozen, at_least: 1000, likely: 0.9, otherwise: 0.01}
---

It stands in the place of the runbook that is shipped.
"""


@pytest.fixture
def field() -> Iterator[Field]:
    with bed_home() as home, a_field(home) as found:
        yield found


def incident(running: Running, number: int, *, is_over: bool) -> Incident | None:
    """Return the incident with this number, from 0, once it is over, or escalated if `is_over` is false."""
    items = list(reversed(running.incidents().items))
    found = running.log.get(items[number].incident_id) if len(items) > number else None
    if found is None or (found.status is not IncidentStatus.ESCALATED and not found.is_over):
        return None
    return found if found.is_over or not is_over else None


def mend(field: Field) -> None:
    """Resume the stopped processes, as a person who found them does."""
    rows = field.actions.get("/components").json()["components"]
    frozen = [row["name"] for row in rows if (row.get("process") or {}).get("kernel_state") == "stopped"]
    field.do("resume-process", {"component": frozen[0] if len(frozen) == 1 else "target"})


def test_unknown_cause_is_repaired_without_a_person_the_second_time(field: Field, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "knowledge"
    folder.mkdir(parents=True)
    (folder / "process_stopped.md").write_text(NOT_THIS)
    token = str(field.actions.headers["Authorization"]).removeprefix("Bearer ")

    async def story(running: Running) -> None:
        injected = await asyncio.to_thread(field.inject, "hang")
        await running.until(lambda: incident(running, 0, is_over=False), within_s=120, what="the call for a person")
        await asyncio.to_thread(mend, field)
        first = await running.until(lambda: incident(running, 0, is_over=True), within_s=100, what="the first end")
        assert first.outcome is IncidentOutcome.ESCALATED
        await asyncio.to_thread(field.stop, "hang", injected)
        await asyncio.to_thread(field.inject, "hang")
        second = await running.until(lambda: incident(running, 1, is_over=True), within_s=120, what="the second end")
        assert second.outcome is IncidentOutcome.RESOLVED
        assert (second.diagnosis or "").startswith(PREFIX)
        acts = running.log.actions.of_incident(second.incident_id)
        assert [act.action for act in acts] == ["resume-process"]
        told = compose(IncidentRecord(second, running.log.read_after(second.incident_id), acts))
        assert {mark.moment for mark in told.marks} == set(MarkKind)
        assert any(figure.points for figure in told.signals)

    async def go() -> None:
        urls: Any = (field.target, str(field.actions.base_url), token)
        async with responding(tmp_path / "home", *urls, policy=acting()) as running:
            await running.until(lambda: running.world.watch.baseline.is_learnt, what="a baseline")
            try:
                await story(running)
            finally:
                for item in running.incidents().items:
                    print("\n".join(running.story(item.incident_id)))

    asyncio.run(go())
