"""Read facts from the target's reports: health, metrics, connection pools, and answers of its dependencies. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from relab.incidents.probes.failure_kinds import kind_of
from relab.incidents.probes.json_paths import MAX_VALUE, FactCollector, JsonValue, root_of
from relab.incidents.probes.models import Observation, ProbeResponse
from relab.incidents.probes.target_fields import METRICS, PERCENTAGES, POOL
from relab.knowledge.models import FactValue

_ONLY_POLLED: Final = frozenset(
    ("latency.p99_ms", "errors.count", "cache.hits", "cache.misses", "database.pool_wait_p95_ms")
)
"""Signals of polls that probes leave out, because no runbook uses them."""
_FIGURES: Final = {name: path for name, path in METRICS.items() if name not in _ONLY_POLLED}
_DEPENDENCIES: Final = ("database", "cache")

SERVICE_FACTS: Final = (
    "asked.health", "asked.metrics", "health", "workers.silent", *_FIGURES, "traffic.shed_pct",
    "traffic.abandoned_pct", "traffic.top_route", "traffic.top_route_pct", "flow.waiting", "flow.limit_reached",
    *(f"dependency.{name}{part}" for name in _DEPENDENCIES for part in ("", ".failure", ".sqlstate")),
)  # fmt: skip
POOL_FACTS: Final = (
    "pool", "pool.used_pct", "pool.used", "pool.max", "pool.pending", "pool.timeouts", "pool.fullest_pct",
    "pool.fullest.worker", "pool.fullest.max",
)  # fmt: skip
PATH_FACTS: Final = tuple(
    f"path.{name}.{part}"
    for name in _DEPENDENCIES
    for part in ("round_trip_ms", "late_ms", "payload_extra_ms", "failing_share")
)
RELATIVE_FACTS: Final = ("traffic.times_usual", "latency.times_usual")


def read_service(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about the target's health (in the first answer) and the target's metrics (in the second one)."""
    found = FactCollector()
    for number, name in enumerate(("health", "metrics")):
        if number < len(answers):
            absence = answers[number].absence
            found.see(f"asked.{name}", "answered" if absence is None else absence.value, root_of(answers, number))
    health, metrics = root_of(answers, 0), root_of(answers, 1)
    found.word("health", health.at("health_status"))
    for name in _DEPENDENCIES:
        _read_dependency(found, name, health.at("dependencies", name))
    workers = health.at("workers")
    if workers.is_list:
        found.see("workers.silent", float(sum(row.at("state").word != "running" for row in workers.rows())), workers)
    for fact, keys in _FIGURES.items():
        found.amount(fact, metrics.at(*keys), 100.0 if fact in PERCENTAGES else 1e12)
    _read_routes(found, metrics)
    _read_flow(found, metrics.at("flow_control"))
    return found.sightings


def _read_dependency(found: FactCollector, name: str, place: JsonValue) -> None:
    is_ok = place.at("ok").truth
    if is_ok is None:
        return
    found.see(f"dependency.{name}", "ok" if is_ok else "failing", place.at("ok"))
    found.word(f"dependency.{name}.sqlstate", place.at("sqlstate"))
    if not is_ok:
        error = place.at("error")
        found.see(f"dependency.{name}.failure", kind_of(error.text, place.at("sqlstate").word), error)


def _read_routes(found: FactCollector, metrics: JsonValue) -> None:
    requests = metrics.at("requests").amount
    # Requests that were rejected, and those that clients abandoned before the answer.
    for name in ("shed", "abandoned"):
        count = metrics.at(name).amount
        if requests and count is not None:
            found.see(f"traffic.{name}_pct", min(100 * count / requests, 100.0), metrics.at(name))
    routes = [
        (count, name, place) for name, place in metrics.at("routes").fields() if (count := place.at("requests").amount)
    ]
    if routes:
        count, name, place = max(routes, key=lambda row: row[:2])
        found.see("traffic.top_route", name, place)
        found.see("traffic.top_route_pct", 100 * count / sum(row[0] for row in routes), place.at("requests"))


def _read_flow(found: FactCollector, flow: JsonValue) -> None:
    rows = flow.rows()
    waiting = [amount for row in rows if (amount := row.at("waiting").amount) is not None]
    if waiting:
        found.see("flow.waiting", sum(waiting), flow)
    pairs = [(row.at("active").amount, row.at("limit").amount) for row in rows]
    known = [(active, limit) for active, limit in pairs if active is not None and limit]
    if known:
        found.see("flow.limit_reached", any(active >= limit for active, limit in known), flow)


def read_pool(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts: how full the connection pools are together, and how full the fullest pool of a worker is."""
    found, pool = FactCollector(), root_of(answers, 0)
    found.word("pool", pool.at("pool_health"))
    for fact, field in POOL.items():
        found.amount(fact, pool.at(field), 100.0 if fact in PERCENTAGES else MAX_VALUE)
    rows = []
    for row in pool.at("workers").rows():
        used, most = row.at("used").amount, row.at("max").amount
        if used is not None and most:
            rows.append((min(100 * used / most, 100.0), row))
    if rows:
        fullest, row = max(rows, key=lambda item: item[0])
        found.see("pool.fullest_pct", fullest, row.at("used"))
        found.see("pool.fullest.max", row.at("max").amount, row.at("max"))
        found.see("pool.fullest.worker", _name_of(row.at("worker")), row.at("worker"))
    return found.sightings


def read_paths(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about the network path from the service to each of its dependencies.

    Latencies are in milliseconds, and each is the lowest of all answers. For each dependency, the facts are:

    - `failing_share`: the share of answers in which the dependency fails;
    - `round_trip_ms`: the latency of a small request;
    - `payload_extra_ms`: how much longer a large payload takes than a small request;
    - `late_ms`: `round_trip_ms` minus the lowest `round_trip_ms` of the other dependencies, at least 0. If there is no
      other dependency, nothing is subtracted.
    """
    found = FactCollector()
    trips: dict[str, JsonValue] = {}
    for name in _DEPENDENCIES:
        places = [root_of(answers, number).at("dependencies", name) for number in range(len(answers))]
        answered = [place for place in places if place.at("ok").truth is not None]
        if not answered:
            continue
        failing = [place for place in answered if place.at("ok").truth is False]
        found.see(f"path.{name}.failing_share", len(failing) / len(answered), (failing or answered)[0].at("ok"))
        # A busy processor makes single answers late, so the minimum is used.
        little = _least(place.at("answer_ms") for place in answered)
        much = _least(place.at("payload_ms") for place in answered)
        if little is not None:
            found.amount(f"path.{name}.round_trip_ms", little)
            trips[name] = little
        if little is not None and much is not None:
            found.see(f"path.{name}.payload_extra_ms", max((much.number or 0) - (little.number or 0), 0.0), much)
    # The remaining noise affects all dependencies alike, so each is compared with the fastest other one.
    for name, trip in trips.items():
        others = [other.number or 0.0 for key, other in trips.items() if key != name]
        found.see(f"path.{name}.late_ms", max((trip.number or 0.0) - min(others, default=0.0), 0.0), trip)
    return found.sightings


def _least(places: Iterable[JsonValue]) -> JsonValue | None:
    known = [(amount, place) for place in places if (amount := place.amount) is not None]
    return min(known, key=lambda item: item[0])[1] if known else None


def _name_of(place: JsonValue) -> str | None:
    """Return a name in an answer as text, such as a worker's number; None if the value is no text or number.

    `place` is the value in the answer. A number is rounded to an integer.
    """
    amount = place.amount
    return place.word if amount is None else f"{amount:.0f}"


def relative_facts(numbers: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, FactValue]:
    """Return the facts in `RELATIVE_FACTS`: present traffic and latency, divided by their usual values.

    Args:
        numbers: the numbers of a poll, by signal.
        usual: the medians in the baseline, by signal. A signal without a median gives no fact.
    """
    found: dict[str, FactValue] = {}
    for fact, signal in (("traffic.times_usual", "traffic.rps"), ("latency.times_usual", "latency.p95_ms")):
        now, before = numbers.get(signal), usual.get(signal)
        if now is not None and before:
            found[fact] = now / before
    return found
