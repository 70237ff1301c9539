"""Compute the figures of a responder, with confidence intervals, from its episodes. Pure.

The harness that measures responders writes one document for each episode, with the keys `ids`, `outcome` and `metrics`.
The metrics have the names in `RATES`, `TIMES`, `SUMS` and `COUNTED`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.stats.clustered_rate import clustered_rate
from relab.stats.intervals import Interval, poisson_exact
from relab.stats.paired import cluster, paired_delta
from relab.stats.ratio import ratio_of_sums

ERROR: Final = "error"
POLLS: Final = 960
"""False alarms are counted per this number of polls: those of eight hours, at one poll every 30 s."""
HARM: Final = "harm_user_error_s"
RATES: Final = (
    "detected", "diagnosis_at_1", "diagnosis_at_3", "mitigated", "mitigated_though_wrong", "mitigated_and_closed",
    "escalated", "escalated_harmless", "settled_harmless", "all_named", "announced",
)  # fmt: skip
TIMES: Final = ("time_to_detect_polls", "time_to_detect_s", "detection_to_mitigation_s", "time_to_mitigate_s")
SUMS: Final = ("actions", "harmful_actions", HARM, "cost_usd")
COUNTED: Final = ("tokens",)
"""Metrics to sum that only some responders have."""
_NOISY: Final = "noisy"
_HEALTHY_KINDS: Final = frozenset((_NOISY, "quiet"))

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EpisodeMetrics:
    """The result of one responder in one episode: a test in which it watches a service with or without a fault.

    Attributes:
        responder: the name of the measured responder.
        task_id: the id of the episode. Several responders may be measured in episodes with the same id.
        metrics: the scores of the responder by name; empty if the episode ended in an error.
    """

    responder: str
    task_id: str
    metrics: Metrics

    @property
    def subject(self) -> str:
        """The subject of the episode (a test of the responder), such as the injected fault.

        Episodes with the same subject are not independent.
        """
        return str(self.metrics.get("subject", ""))

    @property
    def is_healthy(self) -> bool:
        """Whether there was no fault in the episode (a test of the responder)."""
        return self.metrics.get("kind") in _HEALTHY_KINDS

    @property
    def is_noisy(self) -> bool:
        """Whether the episode (a test of the responder) had no fault, but events that look like a fault."""
        return self.metrics.get("kind") == _NOISY


def read_episode(document: Mapping[str, Any]) -> EpisodeMetrics:
    """Return the result of one episode (a test of a responder), from the document that the harness wrote about it.

    The document has the keys `ids`, `outcome` and `metrics`. If the episode ended in an error, its metrics are empty.
    """
    ids = document["ids"]
    metrics = document.get("metrics") if document.get("outcome") != ERROR else None
    return EpisodeMetrics(ids["variant_id"], ids["task_id"], metrics if isinstance(metrics, Mapping) else {})


def figures_of(episodes: Sequence[EpisodeMetrics]) -> dict[str, Any]:
    """Return the figures of one responder from its episodes (tests): rates with confidence intervals, times and sums.

    Intervals do not treat episodes with the same subject (such as the injected fault) as independent.

    Returns:
        A mapping with these keys:

        - `episodes`: the number of episodes.
        - `without_figures`: the number of episodes that ended in an error.
        - `with_something_wrong`: the number of episodes with a fault that did not end in an error.
        - `subjects`: the number of different subjects of the episodes with a fault.
        - `rates`: `{metric: rate with its interval}`, over the episodes with a fault.
        - `times`: `{metric: median and 90th percentile}`, over the episodes with a fault.
        - `sums`: `{metric: sum}`, over the episodes that did not end in an error.
        - `judged_failed`: the share of correct repairs that the responder judged as failed.
        - `false_alarms`: the rates of false alarms per 960 polls (eight hours, at one poll every 30 s).
    """
    known = [episode for episode in episodes if episode.metrics]
    troubled = [episode.metrics for episode in known if not episode.is_healthy]
    return {
        "episodes": len(episodes),
        "without_figures": len(episodes) - len(known),
        "with_something_wrong": len(troubled),
        "subjects": len({episode.subject for episode in known if not episode.is_healthy}),
        "rates": {name: found for name in RATES if (found := _rate(troubled, name)) is not None},
        "times": {name: found for name in TIMES if (found := _times(troubled, name)) is not None},
        "sums": {name: _sum(known, name) for name in (*SUMS, *_counted(known))},
        "judged_failed": _judged_failed(troubled),
        "false_alarms": _false_alarms(known),
    }


def _judged_failed(troubled: Sequence[Metrics]) -> dict[str, Any] | None:
    """Return the share of correct repairs that the responder judged as failed, with its interval, as JSON.

    Return None if no repair was correct. `troubled` has the metrics of the episodes (tests) with a fault.
    """
    found = []
    for metrics in troubled:
        right, judged = (int(metrics.get(name, 0)) for name in ("right_repairs", "right_repairs_judged_failed"))
        found += [(at < judged, str(metrics.get("subject", ""))) for at in range(right)]
    return _share(found)


def _sum(known: Sequence[EpisodeMetrics], name: str) -> float:
    return round(sum(float(episode.metrics.get(name, 0)) for episode in known), 3)


def _counted(known: Sequence[EpisodeMetrics]) -> list[str]:
    return [name for name in COUNTED if any(name in episode.metrics for episode in known)]


def by_subject(episodes: Sequence[EpisodeMetrics]) -> dict[str, dict[str, list[int]]]:
    """Count the detected, diagnosed and mitigated episodes (tests) with a fault, for each subject (injected fault).

    Diagnosed means that the first cause named is right.

    Returns:
        `{subject: {"detected": [hits, episodes], "diagnosis_at_1": [...], "mitigated": [...]}}`.
    """
    return _counts(episodes, "subject")


def by_kind(episodes: Sequence[EpisodeMetrics]) -> dict[str, dict[str, list[int]]]:
    """Count the detected, diagnosed and mitigated episodes (tests) with a fault, for each kind of episode.

    A kind is, for example, one fault, two faults at once, or a fault after an escalation. Diagnosed means that the
    first cause named is right.

    Returns:
        `{kind: {"detected": [hits, episodes], "diagnosis_at_1": [...], "mitigated": [...]}}`.
    """
    return _counts(episodes, "kind")


def _counts(episodes: Sequence[EpisodeMetrics], field: str) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    for episode in episodes:
        if not episode.metrics or episode.is_healthy:
            continue
        row = found.setdefault(
            str(episode.metrics.get(field, "")), {name: [0, 0] for name in ("detected", "diagnosis_at_1", "mitigated")}
        )
        for name, counts in row.items():
            counts[0] += bool(episode.metrics.get(name))
            counts[1] += 1
    return dict(sorted(found.items()))


def compared(
    own: Sequence[EpisodeMetrics], others: Sequence[EpisodeMetrics], *, seed: int = 0
) -> dict[str, Any] | None:
    """Compare two responders on the episodes (tests) that ended without an error for both.

    Return None if there are no such episodes.

    Args:
        own: the episodes of the first responder.
        others: the episodes of the second responder.
        seed: the seed of the resampling for confidence intervals.

    Returns:
        A mapping with these keys:

        - `episodes`: the number of these episodes.
        - `harm_user_error_s`: the harm to users, in seconds; 1.0 is one second in which all requests were served badly.
        - `mitigated`: the share of episodes with a mitigated fault, among those with a fault; missing without faults.
        - `harmful_actions`: the number of harmful actions.
        - `harm_ratio`: the harm of the first responder divided by the harm of the second, with a confidence interval.

        The values of `harm_user_error_s`, `mitigated` and `harmful_actions` are mappings. Each has the mean of each
        responder, and the difference of the means (own minus other) with a confidence interval. The interval does not
        treat episodes with the same subject (such as the injected fault) as independent.
    """
    theirs = {episode.task_id: episode for episode in others if episode.metrics}
    pairs = [(each, theirs[each.task_id]) for each in own if each.metrics and each.task_id in theirs]
    if not pairs:
        return None

    def harm(episode: EpisodeMetrics) -> float:
        return float(episode.metrics[HARM])

    troubled = [pair for pair in pairs if not pair[0].is_healthy]
    result: dict[str, Any] = {"episodes": len(pairs)}
    for name, chosen, value, bounds in (
        (HARM, pairs, harm, None),
        ("mitigated", troubled, lambda episode: float(bool(episode.metrics.get("mitigated"))), (-1.0, 1.0)),
        ("harmful_actions", pairs, lambda episode: float(episode.metrics.get("harmful_actions", 0)), None),
    ):
        if chosen:
            result[name] = _difference(chosen, value, bounds, seed)
    ratio, interval = ratio_of_sums(
        [harm(each) for each, _ in pairs],
        [harm(other) for _, other in pairs],
        [each.subject for each, _ in pairs],
        seed=seed,
    )
    result["harm_ratio"] = {"value": _finite(ratio), **_ends(interval)}
    return result


def _difference(
    pairs: Sequence[tuple[EpisodeMetrics, EpisodeMetrics]],
    value: Callable[[EpisodeMetrics], float],
    bounds: tuple[float, float] | None,
    seed: int,
) -> dict[str, Any]:
    found = paired_delta(
        [value(own) - value(other) for own, other in pairs],
        [own.subject for own, _ in pairs],
        bounds=bounds,
        seed=seed,
    )
    return {
        "own": statistics.fmean(value(own) for own, _ in pairs),
        "other": statistics.fmean(value(other) for _, other in pairs),
        "difference": found.estimate,
        **_ends(found.interval),
        "p": _finite(found.test.p_value),
        "pairs": found.pairs,
        "clusters": found.clusters,
    }


def _rate(troubled: Sequence[Metrics], name: str) -> dict[str, Any] | None:
    return _share([(bool(metrics[name]), str(metrics.get("subject", ""))) for metrics in troubled if name in metrics])


def _share(found: Sequence[tuple[bool, str]]) -> dict[str, Any] | None:
    """Return the number of hits, the rate and its confidence interval; None if `found` is empty.

    `found` holds `(is a hit, subject)` for each observation. The interval does not treat observations with the same
    subject (such as the injected fault) as independent.
    """
    if not found:
        return None
    hits, of = sum(hit for hit, _ in found), len(found)
    subjects = [subject for _, subject in found]
    clusters = cluster([float(hit) for hit, _ in found], subjects if len(set(subjects)) > 1 else None)
    interval = clustered_rate(clusters, of)
    return {"hits": hits, "of": of, "rate": hits / of, **_ends(interval)}


def _times(troubled: Sequence[Metrics], name: str) -> dict[str, Any] | None:
    values = sorted(float(metrics[name]) for metrics in troubled if name in metrics)
    if not values:
        return None
    import numpy as np  # noqa: PLC0415 loads slowly

    return {
        "of": len(values),
        "median": statistics.median(values),
        "p90": float(np.quantile(values, 0.9)),
        "most": values[-1],
    }


def _false_alarms(known: Sequence[EpisodeMetrics]) -> dict[str, Any]:
    """Return the rates of false alarms per 960 polls, with confidence intervals, by group of episodes (tests).

    960 polls are eight hours, at one poll every 30 s. The groups are `all`, `healthy_episodes` (no fault) and
    `noisy_episodes` (no fault, but signs like a fault). Polls after the onset of a fault are not counted. A group
    without polls is missing.

    `known` are the episodes that did not end in an error.
    """
    found: dict[str, Any] = {}
    for name, chosen in (
        ("all", list(known)),
        ("healthy_episodes", [each for each in known if each.is_healthy]),
        ("noisy_episodes", [each for each in known if each.is_noisy]),
    ):
        alarms = sum(int(each.metrics.get("false_alarms", 0)) for each in chosen)
        polls = sum(int(each.metrics.get("healthy_polls", 0)) for each in chosen)
        if polls:
            interval = poisson_exact(alarms)
            scale = POLLS / polls
            found[name] = {
                "alarms": alarms,
                "polls": polls,
                "per_960_polls": alarms * scale,
                "low": interval.low * scale,
                "high": interval.high * scale,
            }
    return found


def _ends(interval: Interval) -> dict[str, float | None]:
    return {"low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(value: float) -> float | None:
    """Return the number; None if it is infinite or NaN, which JSON cannot hold."""
    return value if math.isfinite(value) else None
