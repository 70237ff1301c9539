"""Define episodes (tests of a responder), generate them at random from a seed, and convert them to rows of a data set.

In an episode, events such as faults are injected into a testbed while the responder watches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import cycle
from random import Random
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import InvalidInputError
from relab.core.validation import problems_of
from relab.testbed.chaos.faults.catalogue import FAULTS, NOISE, find_fault

MAX_EPISODES: Final = 100_000
MAX_TIMEOUT_S: Final = 86_400
MAX_RATE_PER_S: Final = 10_000
EPISODE_FAULTS: Final = tuple(name for name, fault in FAULTS.items() if fault.is_felt)
"""Names of the faults that episodes use."""
_TOGETHER: Final = (
    ("cache_down", "cache_auth", "cache_full"),
    ("db_pool", "db_lock", "db_slow_query", "search_index", "hang"),
)
"""Pairs for episodes with two faults: one from each group; the repair of one does not repair the other."""
_NOISE_BESIDE_A_FAULT: Final = 0.25
_MIN_HEALTHY_S, _MAX_HEALTHY_S = 12.0, 25.0


class WrongEpisodeError(InvalidInputError):
    """An episode (a test of a responder) is invalid, or the arguments from which to generate episodes are invalid."""

    code = "wrong_episode"


class EpisodeKind(StrEnum):
    """The kind of an episode (a test of a responder): which events, such as faults and noise, are injected in it."""

    FAULT = "fault"
    """One fault."""
    SEVERAL = "several"
    """Two faults; the second one begins some seconds after the first."""
    AT_ONCE = "at_once"
    """Two faults begin at the same moment."""
    AFTER_ESCALATION = "after_escalation"
    """The responder is expected to escalate the first fault; the second one begins after that, and is measured."""
    NOISY = "noisy"
    """Alarming events that need no repair, and no fault."""
    QUIET = "quiet"
    """No event at all."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Event(_Value):
    """A fault or a noise event (harmless event) that is injected in an episode (a test of a responder).

    Attributes:
        name: the name of the fault or noise in the chaos server's catalogue.
        parameters: the parameters by name; a missing parameter has its default.
        at_s: the latest time at which the event begins, in seconds after the responder was ready.
        after_escalation_s: delay in seconds between the responder's escalation to a person and the beginning of the
            event. The event begins after this delay or at `at_s`, whichever is earlier. If None, it begins at `at_s`.
    """

    name: str = Field(min_length=1, max_length=100)
    parameters: dict[str, Any] = {}
    at_s: float = Field(ge=0, le=86_400)
    after_escalation_s: float | None = Field(None, ge=0, le=86_400)


class Episode(_Value):
    """One episode (a test of a responder with injected events): a row of the data set of an experiment.

    Attributes:
        task_id: identifies the row in its data set.
        kind: which events happen in the episode.
        subject: the names of the faults; without a fault, the kind of the episode. Episodes with equal subjects form a
            cluster in the statistics, because their results are not independent.
        seed: the seed of the users' requests.
        faults: the faults to inject, the earliest first.
        noise: the noise events to inject, which look alarming but need no repair.
        healthy_s: length of the healthy phase in seconds: it begins when the responder is ready, and ends at the first
            fault.
        timeout_s: maximum time of the episode, in seconds after the beginning of the first fault that the responder
            must repair.
        rate_per_s: number of the users' requests that are due per second.
        busy_loops: number of processes that each use a whole processor beside the testbed.
    """

    task_id: str
    kind: EpisodeKind
    subject: str
    seed: int = Field(ge=0)
    faults: tuple[Event, ...] = ()
    noise: tuple[Event, ...] = ()
    healthy_s: float = Field(ge=0, le=86_400)
    timeout_s: float = Field(gt=0, le=MAX_TIMEOUT_S)
    rate_per_s: float = Field(20.0, gt=0, le=MAX_RATE_PER_S)
    busy_loops: int = Field(0, ge=0, le=64)

    @property
    def takes_the_machine(self) -> bool:
        """Whether this episode (a test) must run alone, because its busy loops or a fault load the whole machine."""
        return self.busy_loops > 0 or any(find_fault(event.name).takes_the_machine for event in self.faults)

    @property
    def measured(self) -> tuple[Event, ...]:
        """The measured faults: the faults that the responder must repair.

        These are all faults, except the first fault in an episode of the kind "after escalation": the responder is
        expected to escalate this fault to a person.
        """
        return self.faults[1:] if self.kind is EpisodeKind.AFTER_ESCALATION else self.faults

    @property
    def begins_s(self) -> float:
        """The planned time of the first measured fault, in seconds after the responder was ready.

        Measured faults are the faults that the responder must repair. A fault that waits for an escalation may begin
        earlier than planned. Without a measured fault, this is the end of the healthy phase (`healthy_s`).
        """
        return self.measured[0].at_s if self.measured else self.healthy_s

    @classmethod
    def from_row(cls, row: Any) -> Episode:
        """Validate a row of a data set, a mapping, and return it as an episode (a test of a responder).

        Raises:
            WrongEpisodeError: a field is invalid; the error lists all invalid fields.
        """
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            problems = problems_of(error, root="row")
            raise WrongEpisodeError(
                f"The task is not an episode: {problems[0][0]}: {problems[0][1]}.", problems=problems
            ) from error

    def to_row(self) -> dict[str, Any]:
        """Return the episode (a test of a responder) as a row of a data set, in JSON types; `from_row` reads it."""
        return self.model_dump(mode="json")


def check_pace(*, timeout_s: float, rate_per_s: float = 20.0) -> None:
    """Check that an episode (a test of a responder) may have this time limit and this request rate.

    Raises:
        WrongEpisodeError: the time limit or the request rate is out of range.
    """
    if not 0 < timeout_s <= MAX_TIMEOUT_S or not 0 < rate_per_s <= MAX_RATE_PER_S:
        raise WrongEpisodeError(
            f"An episode cannot have a time limit of {timeout_s:g} s and {rate_per_s:g} requests per second.",
            remedy=f"Request at most {MAX_TIMEOUT_S:,} s and {MAX_RATE_PER_S:,} requests per second, both above 0.",
        )


def make_episodes(
    count: int,
    seed: int,
    *,
    faults: Iterable[str] | None = None,
    noisy_share: float = 0.1,
    quiet_share: float = 0.05,
    several_share: float = 0.05,
    timeout_s: float = 120.0,
    rate_per_s: float = 20.0,
) -> list[Episode]:
    """Return `count` random episodes; equal arguments give equal episodes.

    An episode is a test of a responder: the program that must detect, diagnose and repair faults of the testbed.

    Args:
        count: number of episodes. Among the episodes with one fault, each fault is used once before any fault is used
            again.
        seed: the seed of all random choices.
        faults: names of the faults to use, from `EPISODE_FAULTS`; None for all.
        noisy_share: share of episodes without a fault, but with noise events, which look alarming and need no repair.
        quiet_share: share of episodes without any event.
        several_share: share of episodes with two faults: one of the cache, and one of another part. If `faults` has no
            such pair, this share counts as 0.
        timeout_s: maximum time of an episode in seconds, from the beginning of its first fault. In an episode without
            a fault, the time runs from the end of the healthy phase (`Episode.healthy_s`).
        rate_per_s: number of the users' requests that are due per second.

    Raises:
        WrongEpisodeError: a fault is unknown, or a number is out of range.
    """
    names = EPISODE_FAULTS if faults is None else tuple(dict.fromkeys(faults))
    unknown = sorted(set(names) - set(EPISODE_FAULTS))
    if unknown or not names:
        raise WrongEpisodeError(
            f"There is no fault {unknown[0]!r}." if unknown else "No fault is given.",
            remedy=f"One of: {', '.join(EPISODE_FAULTS)}.",
        )
    check_pace(timeout_s=timeout_s, rate_per_s=rate_per_s)
    shares = (noisy_share, quiet_share, several_share)
    if not 1 <= count <= MAX_EPISODES or min(shares) < 0 or sum(shares) > 1:
        raise WrongEpisodeError(
            f"{count:,} episodes with shares {', '.join(map(str, shares))} cannot be generated.",
            remedy=f"Request 1 to {MAX_EPISODES:,} episodes, with shares of 0 or more, together at most 1.",
        )
    pairs = [(one, other) for one in _TOGETHER[0] for other in _TOGETHER[1] if {one, other} <= set(names)]
    rng = Random(f"episodes:{seed}")  # noqa: S311 a reproducible sequence is the purpose
    subjects = _in_turn(names, rng)
    found = []
    for number, kind in enumerate(_kinds(count, shares if pairs else (*shares[:2], 0.0), rng), start=1):
        own = Random(f"episode:{seed}:{number}")  # noqa: S311 as above
        about: Sequence[str] = ()
        if kind is EpisodeKind.FAULT:
            about = (next(subjects),)
        elif kind is EpisodeKind.SEVERAL:
            about = own.choice(pairs)
        found.append(_episode(f"episode-{number:04}", kind, about, own, timeout_s, rate_per_s))
    return found


def _kinds(count: int, shares: tuple[float, ...], rng: Random) -> list[EpisodeKind]:
    kinds: list[EpisodeKind] = []
    for kind, share in zip((EpisodeKind.NOISY, EpisodeKind.QUIET, EpisodeKind.SEVERAL), shares, strict=True):
        kinds += [kind] * min(round(count * share), count - len(kinds))
    kinds += [EpisodeKind.FAULT] * (count - len(kinds))
    rng.shuffle(kinds)
    return kinds


def _in_turn(names: Sequence[str], rng: Random) -> Iterator[str]:
    """Yield all names in a random order, and then again without end, each time in a new order."""
    for again in cycle([list(names)]):
        rng.shuffle(again)
        yield from again


def _episode(
    task_id: str, kind: EpisodeKind, about: Sequence[str], rng: Random, timeout_s: float, rate_per_s: float
) -> Episode:
    healthy_s = round(rng.uniform(_MIN_HEALTHY_S, _MAX_HEALTHY_S), 2)
    faults = []
    for at, name in enumerate(about):
        later_s = round(rng.uniform(2, 10), 2) if at else 0.0
        faults.append(Event(name=name, parameters=FAULTS[name].draw_parameters(rng), at_s=healthy_s + later_s))
    return Episode(
        task_id=task_id,
        kind=kind,
        subject="+".join(about) or kind.value,
        seed=rng.randrange(1 << 31),
        faults=tuple(faults),
        noise=tuple(_noise(kind, rng, healthy_s, timeout_s)),
        healthy_s=healthy_s,
        timeout_s=timeout_s,
        rate_per_s=rate_per_s,
    )


def _noise(kind: EpisodeKind, rng: Random, healthy_s: float, timeout_s: float) -> Iterator[Event]:
    names = list(NOISE)
    if kind is EpisodeKind.NOISY:
        chosen, until_s = rng.sample(names, rng.randint(2, len(names))), healthy_s + timeout_s * 0.7
    elif kind is EpisodeKind.FAULT and rng.random() < _NOISE_BESIDE_A_FAULT:
        # Only before the onset: a deployment after it would repair faults that a restart repairs.
        chosen, until_s = [rng.choice(names)], healthy_s * 0.4
    else:
        return
    for name, at_s in zip(chosen, sorted(rng.uniform(2, until_s) for _ in chosen), strict=True):
        yield Event(name=name, parameters=NOISE[name].draw_parameters(rng), at_s=round(at_s, 2))
