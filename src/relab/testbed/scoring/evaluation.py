"""Plan an evaluation of responders: several experiments (parts), each with responders and episodes (tests).

One responder is measured, and runs in all parts. The other responders run only in the part `compared`. Only `write`
does I/O. The parts are:

- `compared`: all responders run the same episodes, so that differences come from the responders.
- `further`: more episodes of the same kinds.
- `healthy`: episodes with noise but no fault, to estimate the rate of false alarms precisely.
- `at-once`: episodes in which two faults begin together.
- `after-escalation`: episodes in which a second fault begins after the responder has escalated the first one to a
  person. Relab's own responder has no runbook for the first fault.
- `unknown-N`: several parts, each with faults of a few causes. Relab's own responder has no runbooks for these causes,
  but has the runbooks for all other causes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from relab.testbed.chaos.faults.catalogue import find_fault
from relab.testbed.scoring.episodes import EPISODE_FAULTS, Episode, WrongEpisodeError, make_episodes
from relab.testbed.scoring.experiment import BASELINES, PORT_BASE, experiment_document, write_experiment
from relab.testbed.scoring.hard_episodes import (
    GIVEN_TO_A_PERSON,
    after_escalation_episodes,
    at_once_episodes,
    with_busy_loops,
)
from relab.testbed.scoring.responder import NOTICES, Bindings

MEASURED: Final = "relab"
WITH_MEMORY: Final = "relab-with-memory"
WITH_MODEL: Final = "relab-with-model"
COMPARED: Final = "compared"
FURTHER: Final = "further"
HEALTHY: Final = "healthy"
AT_ONCE: Final = "at-once"
AFTER: Final = "after-escalation"
UNKNOWN: Final = "unknown"
GROUPS: Final = 8
"""Number of parts among which the unknown causes are divided: of 31 causes, three or four are unknown in each part."""
_COMMAND: Final = ("{python}", "-m", "relab", "serve", "--only", "incidents", "--autonomy", "act")
_WITHOUT: Final = "RELAB_INCIDENTS__EXCLUDED_RUNBOOKS"
_NOTICES: Final = {"RELAB_NOTICES__SLACK_WEBHOOK_URL": NOTICES}
OURS: Final = Bindings(
    responder_command=list(_COMMAND),
    responder_environment={"RELAB_INCIDENTS__USE_INCIDENT_HISTORY": "false", **_NOTICES},
)
OURS_WITH_MEMORY: Final = Bindings(
    responder_command=list(_COMMAND), responder_environment=dict(_NOTICES), keeps_home=True
)


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """How relab's responder accesses a language model: the environment variables that the responder gets.

    Attributes:
        environment: variables that configure the model, with their values. The evaluation records these values.
        passes: names of further variables to pass on; their values are not recorded.
        secrets: names of variables to pass on whose values are secret keys. These values are removed from the files
            that a trial leaves.
    """

    environment: Mapping[str, str]
    passes: Sequence[str] = ()
    secrets: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The request for an evaluation: a comparison of responders by many episodes (tests), in several parts.

    The measured responder is the first one in `responders`; if there are none, it is relab's own. It runs all episodes.
    The other responders run only the episodes of the part `compared`.

    Attributes:
        episodes: number of episodes in the parts `compared` and `further` together.
        compared: number of episodes in the part `compared`, at most `episodes`; the others are in `further`.
        unknown: number of additional episodes with causes for which relab's responder gets no runbook. Ignored if
            `responders` names a responder.
        healthy: number of additional episodes with noise but no fault.
        at_once: number of additional episodes with two faults that begin together.
        after_escalation: number of additional episodes with a second fault, which begins after the responder has
            escalated the first one to a person.
        busy_share: share, 0 to 1, of episodes in which another process keeps one processor busy. The episodes of
            `unknown` and `healthy` never have such a process.
        seed: the seed of all episodes.
        faults: names of the faults to use in the episodes of `episodes` and `unknown`; None for all faults.
        timeout_s: maximum length of an episode after the onset of the fault, in seconds.
        responders: how to start each responder, by name; None or empty for relab's own, with and without memory of
            earlier incidents. The simple responders in `BASELINES` are always added.
        concurrency: number of episodes that run at the same time.
        model: adds a responder: relab's own with this language model. None to add no responder.
    """

    episodes: int = 100
    compared: int = 30
    unknown: int = 31
    healthy: int = 0
    at_once: int = 0
    after_escalation: int = 0
    busy_share: float = 0.0
    seed: int = 0
    faults: Sequence[str] | None = None
    timeout_s: float = 120.0
    responders: Mapping[str, Bindings] | None = None
    concurrency: int = 1
    model: ModelAccess | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One experiment of an evaluation.

    Attributes:
        name: the name of the part, and of the experiment's folder.
        responders: how to start each responder, by name; the first is the reference for the comparison.
        episodes: the episodes (tests); every responder of the part runs all of them.
    """

    name: str
    responders: Mapping[str, Bindings]
    episodes: Sequence[Episode]


def parts_of(wanted: EvaluationRequest) -> list[Part]:
    """Return the parts (experiments) of the requested evaluation, in the order in which they run.

    Raises:
        WrongEpisodeError: a count or `busy_share` is out of range, or the episodes cannot be generated.
    """
    counts = (wanted.unknown, wanted.healthy, wanted.at_once, wanted.after_escalation)
    if not 0 <= wanted.compared <= wanted.episodes or min(counts) < 0 or not 0 <= wanted.busy_share <= 1:
        raise WrongEpisodeError(
            f"{wanted.compared} of {wanted.episodes} episodes cannot be compared, or one of the counts "
            f"{', '.join(map(str, counts))} or the share {wanted.busy_share:g} is out of range.",
            remedy="Give counts of 0 or more and a share from 0 to 1, and compare at most as many episodes as there are.",
        )
    given = dict(wanted.responders or {})
    name, measured = next(iter(given.items())) if given else (MEASURED, OURS)
    others = {**given, **BASELINES}
    if wanted.model is not None:
        others = {WITH_MODEL: _ours_with(wanted.model), **others}
    if not given:
        others = {WITH_MEMORY: OURS_WITH_MEMORY, **others}
    found = []
    if wanted.episodes:
        episodes = make_episodes(wanted.episodes, wanted.seed, faults=wanted.faults, timeout_s=wanted.timeout_s)
        episodes = with_busy_loops(episodes, wanted.busy_share, wanted.seed)
        if wanted.compared:
            found.append(Part(COMPARED, {name: measured, **others}, episodes[: wanted.compared]))
        if wanted.compared < wanted.episodes:
            found.append(Part(FURTHER, {name: measured}, episodes[wanted.compared :]))
    if wanted.healthy:
        found.append(Part(HEALTHY, {name: measured}, _healthy_episodes(wanted)))
    found += _hard_parts(wanted, name, measured)
    if wanted.unknown and not given:
        found += _unknown_parts(wanted, name, measured)
    return found


def _ours_with(model: ModelAccess) -> Bindings:
    """Return the bindings (start settings) of relab's own responder with the language model `model`.

    The responder uses no memory of incidents in earlier episodes (tests of a responder).
    """
    return OURS.model_copy(
        update={
            "responder_environment": {**OURS.responder_environment, **model.environment},
            "responder_passes": list(model.passes),
            "responder_secrets": list(model.secrets),
        }
    )


def _hard_parts(wanted: EvaluationRequest, name: str, measured: Bindings) -> Iterator[Part]:
    if wanted.at_once:
        episodes = at_once_episodes(wanted.at_once, wanted.seed, timeout_s=wanted.timeout_s)
        yield Part(AT_ONCE, {name: measured}, with_busy_loops(episodes, wanted.busy_share, wanted.seed + 1))
    if wanted.after_escalation:
        episodes = after_escalation_episodes(wanted.after_escalation, wanted.seed, timeout_s=wanted.timeout_s)
        responder = _without(measured, GIVEN_TO_A_PERSON)
        yield Part(AFTER, {name: responder}, with_busy_loops(episodes, wanted.busy_share, wanted.seed + 2))


def _without(measured: Bindings, faults: Sequence[str]) -> Bindings:
    """Return a copy of a responder's bindings in which the runbooks for some faults are excluded.

    The copy has an additional environment variable, which only relab's own responder reads.

    Args:
        measured: the bindings (start settings) of the responder.
        faults: the names of the faults whose causes then have no runbook.
    """
    causes = json.dumps(sorted(find_fault(fault).cause for fault in faults))
    return measured.model_copy(update={"responder_environment": {**measured.responder_environment, _WITHOUT: causes}})


def _healthy_episodes(wanted: EvaluationRequest) -> list[Episode]:
    # Use a derived seed, so that these episodes differ from those of `wanted.seed`.
    seed = Random(f"healthy:{wanted.seed}").randrange(1 << 31)  # noqa: S311 a reproducible choice is the purpose
    return make_episodes(
        wanted.healthy, seed, noisy_share=1.0, quiet_share=0, several_share=0, timeout_s=wanted.timeout_s
    )


def write(
    folder: Path, parts: Sequence[Part], *, home: Path, wanted: EvaluationRequest, port_base: int = PORT_BASE
) -> None:
    """Write each part as an experiment for `lab run`, into a subfolder with the name of the part.

    Args:
        folder: the folder of the evaluation; the experiments hide it from the responders.
        parts: the parts (experiments) of the evaluation, from `parts_of`.
        home: the folder for the testbeds' files and sockets; a short path, because a socket path has at most 107 bytes.
        wanted: the request for the evaluation, with `concurrency` and `seed`.
        port_base: the first port of the first testbed.

    Raises:
        OSError: the folder cannot be written.
    """
    for part in parts:
        document = experiment_document(
            part.responders,
            part.episodes,
            home=home,
            port_base=port_base,
            hides=[folder],
            concurrency=min(wanted.concurrency, len(part.episodes)),
            seed=wanted.seed,
        )
        document["experiment"] = {"id": part.name, "name": f"Responders: {part.name}"}
        write_experiment(folder / part.name, document, part.episodes)


def _unknown_parts(wanted: EvaluationRequest, name: str, measured: Bindings) -> Iterator[Part]:
    """Yield the parts `unknown-N` of an evaluation, which measure the responder without runbooks for some causes.

    The causes are divided among the parts. In a part, the runbooks for its causes are withheld from the responder, and
    all episodes have faults with these causes.

    Args:
        wanted: the request for the evaluation.
        name: the name of the measured responder.
        measured: how to start the measured responder.
    """
    rng = Random(f"unknown:{wanted.seed}")  # noqa: S311 a reproducible choice is the purpose
    faults = list(wanted.faults if wanted.faults is not None else EPISODE_FAULTS)
    rng.shuffle(faults)
    groups = [group for at in range(GROUPS) if (group := faults[at::GROUPS])]
    for at, group in enumerate(groups):
        count = len(range(at, wanted.unknown, len(groups)))
        if not count:
            return
        episodes = make_episodes(
            count,
            # A new seed, so that these episodes differ from those with known causes.
            rng.randrange(1 << 31),
            faults=group,
            noisy_share=0,
            quiet_share=0,
            several_share=0,
            timeout_s=wanted.timeout_s,
        )
        yield Part(f"{UNKNOWN}-{at + 1}", {name: _without(measured, group)}, episodes)


def to_json(wanted: EvaluationRequest, parts: Sequence[Part]) -> dict[str, Any]:
    """Return the plan of the evaluation as JSON: `seed`, `timeout_s`, `concurrency` and `parts`.

    Each part has `name`, `responders` (their names) and `episodes` (their number).
    """
    return {
        "seed": wanted.seed,
        "timeout_s": wanted.timeout_s,
        "concurrency": wanted.concurrency,
        "parts": [
            {"name": part.name, "responders": list(part.responders), "episodes": len(part.episodes)} for part in parts
        ],
    }
