"""Injection of an episode's events: what the chaos server rejects is noted."""

from __future__ import annotations

from typing import Any, cast

import httpx

from relab.testbed.scoring.episodes import Episode, EpisodeKind, Event
from relab.testbed.scoring.onset import Onset


def test_event_that_the_chaos_server_cannot_stop_is_noted() -> None:
    event = Event(name="hang", at_s=1_000)
    episode = Episode(
        task_id="one", kind=EpisodeKind.FAULT, subject="hang", seed=1, faults=(event,), healthy_s=1_000, timeout_s=5
    )
    onset = Onset(episode, cast("Any", None), "http://chaos", lambda: 0.0)
    onset._client.close()
    answers = httpx.MockTransport(lambda _: httpx.Response(503, json={"detail": "not ended"}))
    onset._client = httpx.Client(base_url="http://chaos", transport=answers)

    with onset:
        pass

    assert len(onset.notes) == 1
    assert onset.notes[0].startswith("hang was not stopped")
