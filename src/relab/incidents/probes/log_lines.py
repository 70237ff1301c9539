"""Count the failures of each kind in the last seconds of the target's log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.core.clock import parse_time
from relab.incidents.probes import failure_kinds
from relab.incidents.probes.json_paths import FactCollector, JsonValue, root_of
from relab.incidents.probes.models import Observation, ProbeResponse

WINDOW_S: Final = 8.0
_SOURCES: Final = {"db": "database", "database": "database", "cache": "cache"}
_DATABASE: Final = (
    failure_kinds.FULL, failure_kinds.CREDENTIAL, failure_kinds.REFUSED, failure_kinds.TIMEOUT, failure_kinds.CUT, failure_kinds.POOL,
    failure_kinds.STATEMENT, failure_kinds.DESCRIPTORS, failure_kinds.OTHER,
)  # fmt: skip
_CACHE: Final = (
    failure_kinds.CREDENTIAL, failure_kinds.REFUSED, failure_kinds.TIMEOUT, failure_kinds.CUT, failure_kinds.MEMORY, failure_kinds.DESCRIPTORS,
    failure_kinds.OTHER,
)  # fmt: skip
_NO_SPACE: Final = ("enospc", "no space left")
_NO_DESCRIPTOR: Final = ("emfile", "too many open files")

LOG_FACTS: Final = (
    "logs.lines", "logs.errors", "logs.no_space", "logs.descriptors", "logs.bad_settings",
    *(f"logs.database.{kind}" for kind in _DATABASE), *(f"logs.cache.{kind}" for kind in _CACHE),
)  # fmt: skip


def read_logs(answers: Sequence[ProbeResponse], now_us: int) -> list[Observation]:
    """Return, as facts, the numbers of log lines in the last `WINDOW_S` seconds: all, errors, and each kind of failure.

    An empty log gives 0 for each fact.
    """
    found, lines = FactCollector(), root_of(answers, 0).at("lines")
    if not lines.is_list:
        return found.sightings
    counts: dict[str, int] = dict.fromkeys(LOG_FACTS, 0)
    first: dict[str, JsonValue] = {}
    # Only the end of a long list is read, with the newest lines.
    for row in lines.rows(newest=True):
        if not _is_recent(row, now_us):
            continue
        for fact in _facts_of(row):
            counts[fact] += 1
            first.setdefault(fact, row)
    for fact, count in counts.items():
        found.see(fact, float(count), first.get(fact, lines))
    return found.sightings


def _is_recent(row: JsonValue, now_us: int) -> bool:
    try:
        return abs(now_us - parse_time(row.at("time").text)) <= WINDOW_S * 1_000_000
    except ValueError:
        return False


def _facts_of(row: JsonValue) -> list[str]:
    found = ["logs.lines"]
    if row.at("level").word in {"error", "critical"}:
        found.append("logs.errors")
    event, text = row.at("event").word or "", row.at("message").text
    lowered = f"{text} {row.at('fields', 'error').text}".lower()
    if any(word in lowered for word in _NO_SPACE):
        found.append("logs.no_space")
    if any(word in lowered for word in _NO_DESCRIPTOR):
        found.append("logs.descriptors")
    if event == "bad_settings":
        found.append("logs.bad_settings")
    source = _SOURCES.get(event.partition("_")[0])
    if event == "dependency_failed":
        source = _SOURCES.get(row.at("fields", "dependency").word or "")
    if source is not None:
        kind = failure_kinds.kind_of(text, row.at("fields", "sqlstate").word)
        known = _DATABASE if source == "database" else _CACHE
        found.append(f"logs.{source}.{kind if kind in known else failure_kinds.OTHER}")
    return found
