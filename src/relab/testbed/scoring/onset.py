"""Inject the events of an episode through the chaos server at their times, and check whether the faults are present."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import httpx

from relab.core.errors import RelabError, UnavailableError
from relab.testbed.chaos.faults.catalogue import find_fault
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.presence import Presence
from relab.testbed.episodes import BREAKER_HEADER
from relab.testbed.scoring.episodes import Episode, Event
from relab.testbed.scoring.observations import Look
from relab.testbed.scoring.truth import Truth

_RESPONSE_TIMEOUT_S: Final = 60.0
"""Time limit for a request to the chaos server. Some injections take long: they restart workers, or measure the
target's capacity."""
_POLL_INTERVAL_S: Final = 0.5


class NotBroughtAboutError(UnavailableError):
    """A fault of an episode (a test of a responder) was not injected, so the episode is invalid.

    `Onset.check` also raises this error before the episode, for a fault or noise event (harmless event) that this
    machine cannot inject.
    """

    code = "not_brought_about"


class Onset:
    """Injects the events of an episode (a test of a responder), and checks at intervals whether the faults are present.

    The events are faults, and noise events, which look alarming but need no repair. Measured faults are the faults that
    the responder must repair.

    Use it as a context manager and call `go_on` repeatedly within the block. All injections stop at the end of the
    block.

    Args:
        episode: the events to inject.
        ground: access to the testbed's processes, database, cache, network and flags.
        chaos_url: the address of the chaos server.
        secret: the secret that the chaos server requires; empty for none.
        now: returns the seconds since the responder was ready.

    Attributes:
        onset_s: when the injection of the first measured fault began; None if not yet.
        trouble_s: when the injection of the first fault, measured or not, began; None if not yet.
        looks: results of the checks for measured faults, oldest first. The checks begin at `onset_s`.
        notes: one sentence for each noise event that could not be injected and each event that could not be stopped.
    """

    def __init__(
        self, episode: Episode, ground: Ground, chaos_url: str, now: Callable[[], float], *, secret: str = ""
    ) -> None:
        self._episode = episode
        self._ground = ground
        self._client = httpx.Client(
            base_url=chaos_url, timeout=_RESPONSE_TIMEOUT_S, trust_env=False, headers={BREAKER_HEADER: secret}
        )
        self._now = now
        self._due = sorted((*episode.faults, *episode.noise), key=lambda event: event.at_s)
        self._presences: dict[str, Presence] = {}
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="onset")
        self._under_way: list[Future[None]] = []
        self._looking: Future[None] | None = None
        self.onset_s: float | None = None
        self.trouble_s: float | None = None
        self.looks: list[Look] = []
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        self._looking = self._pool.submit(self._look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._pool.shutdown(wait=True)
        for event in (*self._episode.faults, *self._episode.noise):
            # The testbed may continue to run, so stop all injections; the reset before the next episode ends the rest.
            try:
                self._client.post(f"/api/v1/break/{event.name}/stop").raise_for_status()
            except httpx.HTTPError as failure:
                self.notes.append(f"{event.name} was not stopped: {failure!r}")
        self._client.close()

    def truth(self) -> Truth:
        """Return the true causes of the episode (a test of a responder) and the effects of actions, for the score."""
        names = dict.fromkeys(event.name for event in self._episode.faults)
        return Truth.of(map(find_fault, names), {event.name for event in self._episode.measured})

    def check(self) -> None:
        """Check that all faults and noise events (harmless events) of the episode can be injected on this machine.

        Raises:
            NotBroughtAboutError: a fault or noise event cannot be injected on this machine.
            httpx.HTTPError: the chaos server does not answer, or rejects the request.
        """
        found = self._client.get("/api/v1/faults").raise_for_status().json()["faults"]
        why_not = {row["name"]: row["impossible"] for row in found}
        for event in (*self._episode.faults, *self._episode.noise):
            reason = why_not.get(event.name, "the catalogue has no such fault")
            if reason is not None:
                raise NotBroughtAboutError(f"{event.name!r} cannot be injected on this machine: {reason}.")

    def go_on(self, escalated_s: float | None = None) -> None:
        """Start to inject the faults and noise events (harmless events) that are due now, each in a thread.

        Args:
            escalated_s: when the responder escalated the first fault to a person, in seconds after the responder was
                ready; None if it has not. Some events are planned relative to this time.

        Raises:
            NotBroughtAboutError: an earlier call has started to inject a fault, and this has failed.
        """
        for work in [work for work in self._under_way if work.done()]:
            self._under_way.remove(work)
            work.result()
        if self._looking is not None and self._looking.done():
            self._looking.result()
        for event in [event for event in self._due if self._is_due(event, escalated_s)]:
            self._due.remove(event)
            is_fault, now_s = event in self._episode.faults, self._now()
            if is_fault and self.trouble_s is None:
                self.trouble_s = now_s
            if event in self._episode.measured and self.onset_s is None:
                self.onset_s = now_s
            self._under_way.append(self._pool.submit(self._begin_fault if is_fault else self._begin_noise, event))

    def _is_due(self, event: Event, escalated_s: float | None) -> bool:
        now_s = self._now()
        if event.after_escalation_s is not None and escalated_s is not None:
            return now_s >= min(event.at_s, escalated_s + event.after_escalation_s)
        return now_s >= event.at_s

    def _begin_fault(self, event: Event) -> None:
        try:
            fault = find_fault(event.name)
            presence = fault.presence(self._ground, fault.read_parameters(event.parameters))
            self._post(event)
            presence.begun()
        except (RelabError, httpx.HTTPError) as error:
            raise NotBroughtAboutError(f"{event.name!r} was not injected: {error}") from error
        if event in self._episode.measured:
            self._presences[event.name] = presence

    def _begin_noise(self, event: Event) -> None:
        try:
            self._post(event)
        except (RelabError, httpx.HTTPError) as error:
            # Missing noise does not invalidate the episode, but readers must know of it.
            self.notes.append(f"{event.name} was not injected: {error}")

    def _post(self, event: Event) -> None:
        answer = self._client.post(f"/api/v1/break/{event.name}", json=event.parameters)
        if answer.status_code != httpx.codes.CREATED:
            raise NotBroughtAboutError(f"the chaos server answers {answer.status_code}: {answer.text[:500]}")

    def _look(self) -> None:
        while not self._ended.wait(_POLL_INTERVAL_S):
            if self.onset_s is None:
                continue
            at_s = self._now()
            names = tuple(dict.fromkeys(event.name for event in self._episode.measured))
            if len(self._presences) < len(names):
                # A fault that is still being injected counts as present.
                self.looks.append(Look(at_s, True, names))
                continue
            found = {name: presence.is_there() for name, presence in self._presences.items()}
            is_there = True if True in found.values() else None if None in found.values() else False
            self.looks.append(Look(at_s, is_there, tuple(name for name in names if found[name] is not False)))
