"""Clients that keep sending requests while the server or its database fails; some of them post runs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from rig.waiting import wait_until
from support.lab.installation import Lab
from support.telemetry.long_runs import encode, rate_limited_run

THREADS = 4
STEPS = 20
ENOUGH = 25
PAUSE_S = 0.05


@dataclass
class Senders:
    """Threads that send requests to a server while the block runs; a subclass defines `_send`.

    Attributes:
        refused: the responses that reject a request.
        unanswered: the number of requests without a response.
    """

    url: str
    refused: list[httpx.Response] = field(default_factory=list)
    unanswered: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))
    _ends: list[Future[None]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ends = [self._threads.submit(self._run) for _ in range(THREADS)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._threads.shutdown()
        if kind is None:
            for end in self._ends:
                end.result()

    def wait_for_refusal(self) -> None:
        """Wait until one more request has been rejected."""
        before = len(self.refused)
        wait_until(lambda: len(self.refused) > before, within_s=60.0, what="a request being refused")

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=30.0) as client:
            while not self._stop.is_set():
                self._send(client)

    def _send(self, client: httpx.Client) -> None:
        raise NotImplementedError


@dataclass
class Posters(Senders):
    """Threads that post new runs while the block runs.

    Attributes:
        acknowledged: the ids of runs that were answered with 2xx.
    """

    acknowledged: list[str] = field(default_factory=list)

    def wait_for_acknowledgements(self) -> None:
        """Wait until 25 more runs have been acknowledged."""
        wanted = len(self.acknowledged) + ENOUGH
        wait_until(lambda: len(self.acknowledged) >= wanted, within_s=60.0, what="runs being acknowledged")

    def _send(self, client: httpx.Client) -> None:
        agent_run_id = f"posted-{next(self._numbers)}"
        body = encode(rate_limited_run(agent_run_id, steps=STEPS))
        try:
            answer = client.post("/agent-runs", content=body, headers={"Content-Type": "application/json"})
        except httpx.TransportError:
            self.unanswered += 1
        else:
            if answer.is_success:
                self.acknowledged.append(agent_run_id)
                return
            self.refused.append(answer)
        # A pause, because an unavailable server needs time to recover.
        self._stop.wait(PAUSE_S)


def assert_stored_once_and_whole(lab: Lab, acknowledged: list[str]) -> None:
    """Assert that every acknowledged run is stored once, and that every stored run is complete."""
    stored = [row[0] for row in lab.installation.query("SELECT run_id FROM agent_runs")]
    assert len(stored) == len(set(stored))
    assert len(acknowledged) == len(set(acknowledged))
    assert set(acknowledged) <= set(stored)
    for agent_run_id in stored:
        counts = lab.get(f"/agent-runs/{agent_run_id}")["counts"]
        assert counts == {"steps": STEPS, "tool_calls": STEPS, "guardrail_events": 0}
        page = lab.get(f"/agent-runs/{agent_run_id}/timeline")
        assert len({(item["kind"], item["ref_id"]) for item in page["items"]}) == 2 * STEPS
