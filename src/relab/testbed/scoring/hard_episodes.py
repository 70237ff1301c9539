"""Generate hard episodes (tests of a responder): two faults at once, a fault after an escalation, a busy machine.

All functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, cycle, islice, product
from random import Random
from typing import Final

from relab.testbed.chaos.faults.catalogue import FAULTS
from relab.testbed.scoring.episodes import Episode, EpisodeKind, Event, check_pace

APART: Final = (
    ("cache_down", "cache_auth", "cache_full"),
    ("db_lock", "db_slow_query"),
    ("database_latency", "cache_latency"),
    ("hang", "db_pool", "search_index"),
    ("disk_full", "bad_flags"),
)
"""Groups of faults for episodes in which two begin at once: no action repairs faults of two groups."""
GIVEN_TO_A_PERSON: Final = ("search_index", "disk_full", "cache_full")
"""Faults that harm only some requests, so that users notice another fault beside them. They come first in episodes with
a fault after an escalation; the responder has no runbook for them there."""
AFTER_ESCALATION: Final = (
    "db_lock", "hang", "database_blackhole", "database_latency", "db_pool", "db_slow_query", "bad_credential", "crash_loop",
)  # fmt: skip
"""Faults that come after an escalation: users notice each of them beside any fault of `GIVEN_TO_A_PERSON`."""
_MIN_HEALTHY_S, _MAX_HEALTHY_S = 12.0, 25.0
_MIN_LATER_S, _MAX_LATER_S = 10.0, 20.0
_ESCALATION_TIMEOUT_S: Final = 60.0


def at_once_episodes(count: int, seed: int, *, timeout_s: float = 120.0) -> list[Episode]:
    """Return episodes (tests of a responder) in which two faults begin at once; equal arguments give equal episodes.

    No single action repairs both faults of an episode. Every pair of faults is used once before a pair is used again.

    Args:
        count: number of episodes.
        seed: the seed of all random choices.
        timeout_s: maximum time of an episode after the faults begin, in seconds.

    Raises:
        WrongEpisodeError: `timeout_s` is out of range.
    """
    check_pace(timeout_s=timeout_s)
    rng = Random(f"at-once:{seed}")  # noqa: S311 a reproducible sequence is the purpose
    pairs = [pair for groups in combinations(APART, 2) for pair in product(*groups)]
    rng.shuffle(pairs)
    found = []
    for number, names in enumerate(islice(cycle(pairs), count), start=1):
        own = Random(f"at-once:{seed}:{number}")  # noqa: S311 as above
        healthy_s = _healthy_s(own)
        found.append(
            Episode(
                task_id=f"at-once-{number:04}",
                kind=EpisodeKind.AT_ONCE,
                subject="+".join(names),
                seed=own.randrange(1 << 31),
                faults=tuple(
                    Event(name=name, parameters=FAULTS[name].draw_parameters(own), at_s=healthy_s) for name in names
                ),
                healthy_s=healthy_s,
                timeout_s=timeout_s,
            )
        )
    return found


def after_escalation_episodes(count: int, seed: int, *, timeout_s: float = 120.0) -> list[Episode]:
    """Return episodes (tests of a responder) with a second fault, which begins after the first one was escalated.

    The responder is expected to escalate the first fault to a person. The second fault begins 10 to 20 s (a random time)
    after the escalation. If it has not begun 60 s after the first fault, it begins then, even without an escalation.
    Equal arguments give equal episodes.

    Args:
        count: number of episodes.
        seed: the seed of all random choices.
        timeout_s: maximum time of an episode after the second fault begins, in seconds.

    Raises:
        WrongEpisodeError: `timeout_s` is out of range.
    """
    check_pace(timeout_s=timeout_s)
    rng = Random(f"after-escalation:{seed}")  # noqa: S311 a reproducible sequence is the purpose
    pairs = list(product(GIVEN_TO_A_PERSON, AFTER_ESCALATION))
    rng.shuffle(pairs)
    found = []
    for number, (first, second) in enumerate(islice(cycle(pairs), count), start=1):
        own = Random(f"after-escalation:{seed}:{number}")  # noqa: S311 as above
        healthy_s = _healthy_s(own)
        later = Event(
            name=second,
            parameters=FAULTS[second].draw_parameters(own),
            at_s=healthy_s + _ESCALATION_TIMEOUT_S,
            after_escalation_s=round(own.uniform(_MIN_LATER_S, _MAX_LATER_S), 2),
        )
        found.append(
            Episode(
                task_id=f"after-escalation-{number:04}",
                kind=EpisodeKind.AFTER_ESCALATION,
                subject=f"{second} after {first}",
                seed=own.randrange(1 << 31),
                faults=(Event(name=first, parameters=FAULTS[first].draw_parameters(own), at_s=healthy_s), later),
                healthy_s=healthy_s,
                timeout_s=timeout_s,
            )
        )
    return found


def with_busy_loops(episodes: Sequence[Episode], share: float, seed: int) -> list[Episode]:
    """Return the episodes in the same order; replace a random share of them by copies with a busy loop.

    A busy loop is a process beside the testbed that uses a whole processor.

    Args:
        episodes: the episodes (tests of a responder); they are not changed.
        share: the share of the episodes to replace, 0 to 1. Their number is rounded to a whole number.
        seed: the seed of the random choice.
    """
    rng = Random(f"busy:{seed}")  # noqa: S311 a reproducible choice is the purpose
    busy = set(rng.sample(range(len(episodes)), round(len(episodes) * share)))
    return [
        episode.model_copy(update={"busy_loops": 1}) if at in busy else episode for at, episode in enumerate(episodes)
    ]


def _healthy_s(rng: Random) -> float:
    return round(rng.uniform(_MIN_HEALTHY_S, _MAX_HEALTHY_S), 2)
