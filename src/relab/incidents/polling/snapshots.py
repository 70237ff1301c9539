"""Convert a target's answers to a snapshot. Answers are untrusted data: any content gives a valid snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relab.core.clock import parse_time
from relab.core.json import is_number
from relab.incidents.models import AbsenceReason, Snapshot
from relab.incidents.probes.target_fields import HEALTH, METRICS, PERCENTAGES, POOL

_MAX_VALUE: Final = 1e15
_MAX_WORD: Final = 100
_MAX_ROUTES: Final = 100

_NOT_POLLED: Final = frozenset(("traffic.abandoned",))
"""Facts of probes that polls leave out, because no detector uses them."""


@dataclass(slots=True)
class _Draft:
    """A snapshot while it is built.

    Attributes:
        absurd: the names of values of the wrong type or out of bounds; the values themselves are not stored.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    absurd: list[str] = field(default_factory=list)
    told_at_us: int | None = None

    def number(self, name: str, value: Any) -> None:
        """Store a number of the snapshot under `name`; ignore None.

        A value that is negative, too large or not a number is not stored; instead, `name` is added to `absurd`, the
        names of invalid values.
        """
        if value is None:
            return
        most = 100.0 if name in PERCENTAGES else _MAX_VALUE
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            self.absurd.append(name)
        else:
            self.numbers[name] = float(value)

    def word(self, name: str, value: Any) -> None:
        """Store a text of the snapshot, cut to 100 characters, under `name`; ignore None.

        True is stored as `ok`, and False as `failing`. Other types and empty texts are invalid. For an invalid value,
        only `name` is added to `absurd`, the names of invalid values.
        """
        if isinstance(value, bool):
            value = "ok" if value else "failing"
        if isinstance(value, str) and value:
            self.words[name] = value[:_MAX_WORD]
        elif value is not None:
            self.absurd.append(name)

    def time(self, value: Any) -> None:
        """Store the timestamp of one answer of the target, if it is later than the stored timestamp; ignore None.

        An invalid timestamp is not stored; instead, `timestamp` is added to `absurd`, the names of invalid values.
        """
        try:
            start_us = parse_time(value) if isinstance(value, str) else None
        except ValueError:
            start_us = None
        if start_us is None:
            if value is not None:
                self.absurd.append("timestamp")
        elif self.told_at_us is None or start_us > self.told_at_us:
            self.told_at_us = start_us


def read_poll(
    at_us: int, answers: Mapping[str, Any | AbsenceReason], templates: Mapping[str, int] | None = None
) -> Snapshot:
    """Return the snapshot of a poll from the answers of the target.

    Args:
        at_us: when the requests of the poll were sent, in microseconds since 1970.
        answers: the answers by name (`health`, `metrics`, `pool`, `processes`, `logs`): each is the JSON of the answer,
            or the reason why there is none. An answer that was not requested is missing.
        templates: the number of log lines since the previous poll, by log template (a line with its variable parts
            masked).
    """
    draft = _Draft()
    absent = {part: answer for part, answer in answers.items() if isinstance(answer, AbsenceReason)}
    readers = {"health": _read_health, "metrics": _read_metrics, "pool": _read_pool, "processes": _read_processes}
    for part, read in readers.items():
        if part in absent or part not in answers:
            continue
        document = answers[part]
        if isinstance(document, Mapping):
            draft.time(document.get("timestamp"))
            read(draft, document)
        else:
            absent[part] = AbsenceReason.UNREADABLE
    return Snapshot(
        at_us=at_us,
        told_at_us=draft.told_at_us,
        numbers=draft.numbers,
        words=draft.words,
        absent=absent,
        absurd=tuple(sorted(set(draft.absurd))),
        templates=dict(templates or {}),
    )


def _read_health(draft: _Draft, document: Mapping[str, Any]) -> None:
    draft.word("health", document.get("health_status"))
    for name, key in HEALTH.items():
        draft.number(name, document.get(key))
    for key, value in _items(document.get("dependencies")):
        if isinstance(value, Mapping):
            draft.word(f"dependency.{key}", value.get("ok"))
            draft.word(f"dependency.{key}.sqlstate", value.get("sqlstate"))
            draft.number(f"dependency.{key}.connect_ms", value.get("connect_ms"))
            draft.number(f"dependency.{key}.answer_ms", value.get("answer_ms"))
    silent = 0
    for row in _rows(document.get("workers")):
        draft.word(f"worker.{str(row.get('worker'))[:_MAX_WORD]}", row.get("state"))
        silent += row.get("state") != "running"
    draft.number("workers.silent", silent)


def _read_metrics(draft: _Draft, document: Mapping[str, Any]) -> None:
    for name, path in METRICS.items():
        if name not in _NOT_POLLED:
            draft.number(name, _value_at(document, path))
    for route, figures in _items(document.get("routes")):
        if isinstance(figures, Mapping):
            draft.number(f"route.{route}.errors.pct", figures.get("error_rate"))
            draft.number(f"route.{route}.p95_ms", figures.get("p95_ms"))
            draft.number(f"route.{route}.rps", figures.get("requests_per_second"))


def _read_pool(draft: _Draft, document: Mapping[str, Any]) -> None:
    draft.word("pool", document.get("pool_health"))
    draft.word("pool.level", document.get("pool_utilization"))
    for name, key in POOL.items():
        draft.number(name, document.get(key))


def _read_processes(draft: _Draft, document: Mapping[str, Any]) -> None:
    for row in _rows(document.get("workers")):
        name = f"worker.{str(row.get('worker'))[:_MAX_WORD]}"
        draft.number(f"{name}.uptime_s", row.get("uptime_s"))
        rss, used, most = row.get("rss_bytes"), row.get("fds"), row.get("fd_limit")
        if is_number(rss):
            draft.number(f"{name}.rss_mb", float(rss) / 1_048_576)
        if is_number(used) and is_number(most) and most:
            # Convert first: dividing integers as large as a target may send could overflow.
            draft.number(f"{name}.fds_pct", 100 * (float(used) / float(most)))


def _value_at(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _items(value: Any) -> Sequence[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return ()
    return [(str(key)[:_MAX_WORD], item) for key, item in list(value.items())[:_MAX_ROUTES]]


def _rows(value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return [row for row in value[:_MAX_ROUTES] if isinstance(row, Mapping)]
