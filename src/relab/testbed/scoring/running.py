"""Run one episode on one testbed: start users and a responder, inject the events, and record the observations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from relab.core.clock import parse_time
from relab.core.errors import RelabError
from relab.testbed.scoring.busy import busy_loops
from relab.testbed.scoring.episodes import Episode
from relab.testbed.scoring.notified import NoticeReceiver
from relab.testbed.scoring.observations import Act, Observed, ObservedSecond, well_since
from relab.testbed.scoring.onset import Onset
from relab.testbed.scoring.responder import Bindings, RunningResponder, a_responder
from relab.testbed.scoring.score import SUSTAINED_S
from relab.testbed.scoring.testbeds import LeasedTestbed
from relab.testbed.scoring.truth import Truth
from relab.testbed.scoring.users import Users

CLOSING_S: Final = 60.0
"""Time for a responder to confirm that its repair has helped; then the episode ends even if the incident is open."""
_ACTOR: Final = "on-call"
_AUDITOR: Final = "auditor"
_POLL_INTERVAL_S: Final = 0.25
_MAX_RECORDS: Final = 500
_WARM_UP_S: Final = 3.0
"""The first requests are slower than those that follow, so they are not counted."""


class EpisodeStoppedError(RelabError):
    """The episode (a test of a responder) was stopped before its end, so it has no metrics."""

    code = "stopped"


def run_episode(
    episode: Episode,
    bed: LeasedTestbed,
    bindings: Bindings,
    *,
    home: Path,
    stop: threading.Event,
    hidden: Sequence[Path] = (),
) -> tuple[Observed, Truth]:
    """Run an episode (a test of a responder); return the observations, and the truth with which to score them.

    Args:
        episode: the events to inject, their times, and the users' request rate.
        bed: a testbed in its initial state.
        bindings: how to start the responder.
        home: the responder's own folder.
        stop: set this event to stop the episode early.
        hidden: folders that the responder must not see.

    Raises:
        NotBroughtAboutError: this machine cannot inject an event, or the injection of a fault failed.
        NoResponderError: the responder cannot be started.
        EpisodeStoppedError: `stop` was set.
        RelabError: the background load, which stands for users, failed.
    """
    seen = Observed(poll_s=bindings.poll_interval_s, keeps_home=bindings.keeps_home)
    clock = _Clock()
    with ExitStack() as held:
        ground = held.enter_context(bed.ground())
        onset = held.enter_context(Onset(episode, ground, bed.chaos, clock.now, secret=bed.breaker_secret))
        onset.check()
        held.enter_context(busy_loops(episode.busy_loops, _longest_s(episode, bindings)))
        users = held.enter_context(Users(bed.target, episode.rate_per_s, seed=episode.seed, report=_keep(seen, clock)))
        _wait(stop, _WARM_UP_S)
        notified = held.enter_context(NoticeReceiver(clock.now))
        responder = held.enter_context(
            a_responder(
                bindings,
                target=bed.target,
                actions=bed.actions,
                token=bed.make_token(_ACTOR, "read", "act"),
                home=home,
                notices=notified.url,
                hidden=hidden,
            )
        )
        seen.is_blinded = responder.is_blinded
        seen.notices = notified.times_s if bindings.sends_notices else None
        clock.begin()
        _watch(episode, seen, clock, onset, users, responder, stop)
        seen.ended_s = clock.now()
        # Stop the clock before the users: requests in flight have no outcome, and their end is not the service's error.
        clock.end()
        seen.acts = _acts(bed, clock)
    seen.onset_s, seen.trouble_s = onset.onset_s, onset.trouble_s
    # A check that ended after the clock was stopped has no time.
    seen.looks = [look for look in onset.looks if onset.onset_s is not None and look.at_s >= onset.onset_s]
    seen.notes = [*seen.notes, *onset.notes]
    return seen, onset.truth()


class _Clock:
    """A clock that counts the seconds since the responder was ready.

    Attributes:
        wall_us: the time of day at which this clock was started, in microseconds since 1970; 0 before the start.
    """

    def __init__(self) -> None:
        self._zero_s: float | None = None
        self._ended_s: float | None = None
        self.wall_us = 0

    def begin(self) -> None:
        """Start the clock at 0; called when the responder is ready."""
        self._zero_s, self.wall_us = time.monotonic(), time.time_ns() // 1_000

    def end(self) -> None:
        """Stop the clock. From then on, `now` returns 0 and `of` returns None, as before the start."""
        self._ended_s = time.monotonic()

    def now(self) -> float:
        """Return the seconds since the start of this clock; 0 if it has not been started, or has been stopped."""
        return self.of(time.monotonic()) or 0.0

    def of(self, monotonic_s: float) -> float | None:
        """Convert a time of `time.monotonic` to seconds since the start of this clock; negative for an earlier time.

        Return None if the clock has not been started, or has been stopped.
        """
        if self._zero_s is None or self._ended_s is not None:
            return None
        return monotonic_s - self._zero_s


def _keep(seen: Observed, clock: _Clock) -> Callable[[ObservedSecond], None]:
    def keep(second: ObservedSecond) -> None:
        at_s, until_s = clock.of(second.at_s), clock.of(second.until_s)
        if at_s is not None and until_s is not None and at_s >= 0:
            seen.seconds.append(replace(second, at_s=at_s, until_s=until_s))

    return keep


def _watch(
    episode: Episode,
    seen: Observed,
    clock: _Clock,
    onset: Onset,
    users: Users,
    responder: RunningResponder,
    stop: threading.Event,
) -> None:
    """Poll the responder, inject the episode's events at their times, and record the observations in `seen`.

    A measured fault is a fault that the responder must repair. The function returns at the time limit of the episode.
    It returns earlier if the measured faults have been repaired: for 6 s (`SUSTAINED_S`), no measured fault was present
    and users were served well. After the repair, it first waits until the responder has closed its incident, but at
    most 60 s (`CLOSING_S`). It does not wait if a fault that is not measured was injected before the measured one,
    because the incident of that fault may stay open.

    Args:
        episode: the episode (a test of a responder).
        seen: collects the observations.
        clock: gives the seconds since the responder was ready.
        onset: injects the events, and checks whether the faults are present.
        users: sends the users' requests.
        responder: the running responder.
        stop: set this event to stop the episode early.

    Raises:
        EpisodeStoppedError: `stop` was set.
        NotBroughtAboutError: a fault could not be injected.
    """
    forgives = onset.truth().forgives_refusals
    mitigated_at_s: float | None = None
    escalated_s: float | None = None
    while True:
        _wait(stop, _POLL_INTERVAL_S)
        onset.go_on(escalated_s)
        users.raise_broken()
        seen.sights.append(responder.look(clock.now()))
        if escalated_s is None and onset.trouble_s is not None and seen.sights[-1].escalated:
            escalated_s = clock.now()
        if not responder.is_alive and not seen.notes:
            seen.notes.append(f"the responder ended with {responder.process.returncode}")
        now_s = clock.now()
        began_s = episode.begins_s if onset.onset_s is None else onset.onset_s
        if now_s >= began_s + episode.timeout_s:
            return
        if onset.onset_s is None:
            continue
        seen.onset_s, seen.trouble_s = onset.onset_s, onset.trouble_s
        found = well_since(seen.compared_seconds(), list(onset.looks), onset.onset_s, forgives_refusals=forgives)
        if found is None or found[1] - found[0] < SUSTAINED_S:
            mitigated_at_s = None
            continue
        mitigated_at_s = now_s if mitigated_at_s is None else mitigated_at_s
        # Beside an earlier fault, whose incident may stay open, do not wait until the responder closes the incident.
        if seen.follows_another or seen.sights[-1].incident is None or now_s >= mitigated_at_s + CLOSING_S:
            return


def _longest_s(episode: Episode, bindings: Bindings) -> float:
    return _WARM_UP_S + bindings.start_within_s + episode.begins_s + episode.timeout_s + CLOSING_S


def _acts(bed: LeasedTestbed, clock: _Clock) -> list[Act]:
    """Return the actions that the action server has recorded since the testbed's reset, oldest first.

    Their times are in seconds since the start of `clock`. Of more than 500 actions, only the newest 500 are returned.
    """
    token = bed.make_token(_AUDITOR, "read")
    records: list[dict[str, Any]] = (
        httpx.get(
            f"{bed.actions}/records",
            params={"limit": _MAX_RECORDS},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
            trust_env=False,
        )
        .raise_for_status()
        .json()["records"]
    )
    return [
        Act(
            at_s=(parse_time(record["requested_at"]) - clock.wall_us) / 1e6,
            action=record["action"],
            status=record["status"],
            actor=record["actor"],
            is_undo=record.get("undoes") is not None,
        )
        for record in reversed(records)
    ]


def _wait(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise EpisodeStoppedError("The episode was stopped before its end.")
