"""Find the newest change in the target's history of settings that may have caused a problem.

The facts are the names of the changed settings, the author and the age of the change. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.core.clock import parse_time
from relab.incidents.probes.json_paths import FactCollector, JsonValue, root_of
from relab.incidents.probes.models import Observation, ProbeResponse

CHANGE_FACTS: Final = (
    "settings.version", "settings.recent_change", "settings.recent_change.names", "settings.recent_change.by",
    "settings.recent_change.age_s", "settings.last_change.version", "settings.before_change.version",
)  # fmt: skip
RECENT_S: Final = 3_600.0
"""The greatest age of a recent change, in seconds. An older change was in force while the service was healthy."""
_REPAIRERS: Final = frozenset(("operator", "supervisor"))
"""Authors whose changes are repairs. A setting that they changed later no longer has the suspected value."""
_SECRET: Final = ("password", "token", "secret")
_POOL: Final = ("pool", "connections", "overflow", "concurrency")
_ADDRESS: Final = ("port", "host", "url")


def read_changes(answers: Sequence[ProbeResponse], now_us: int) -> list[Observation]:
    """Return facts about the newest settings change of the target that may have caused a problem.

    The fact `settings.recent_change` is the category of the change, or `none`. These changes do not count:
    - a repair (a change by an operator or the supervisor);
    - a change whose settings were all changed again by later repairs;
    - a change that is over `RECENT_S` seconds old.
    """
    found, versions = FactCollector(), root_of(answers, 0).at("versions")
    rows = versions.rows(newest=True)
    if not rows:
        return found.sightings
    found.amount("settings.version", rows[-1].at("version"))
    change = _in_force(rows, now_us)
    if change is None:
        found.see("settings.recent_change", "none", versions)
        return found.sightings
    number, names = change
    row = rows[number]
    found.see("settings.recent_change", _touches(names), row.at("changes"))
    found.see("settings.recent_change.names", ", ".join(names)[:200], row.at("changes"))
    found.word("settings.recent_change.by", row.at("author"))
    made_us = _time_of(row)
    found.see("settings.recent_change.age_s", None if made_us is None else (now_us - made_us) / 1e6, row.at("time"))
    found.amount("settings.last_change.version", row.at("version"))
    if number > 0:
        found.amount("settings.before_change.version", rows[number - 1].at("version"))
    return found.sightings


def _in_force(rows: Sequence[JsonValue], now_us: int) -> tuple[int, list[str]] | None:
    """Return the newest settings change of the last `RECENT_S` seconds that may have caused a problem.

    A repair (a change by an operator or the supervisor) is never returned. If a later repair changed a setting again,
    this setting is ignored in earlier changes. A change with an unreadable time counts as recent.

    Args:
        rows: the versions of the settings, the oldest first.
        now_us: the current time, in microseconds since 1970.

    Returns:
        `(index, names)`: the index of the change in `rows`, and the names of the changed settings without the ignored
        ones. None if no change may have caused a problem.
    """
    repaired: set[str] = set()
    for number in range(len(rows) - 1, -1, -1):
        row = rows[number]
        names = [name for name, _ in row.at("changes").fields()]
        if row.at("author").word in _REPAIRERS:
            repaired.update(names)
            continue
        made_us = _time_of(row)
        if made_us is not None and now_us - made_us > RECENT_S * 1e6:
            return None
        left = [name for name in names if name not in repaired]
        if left:
            return number, left
    return None


def _touches(names: Sequence[str]) -> str:
    """Return the category of a settings change, given the names of the changed settings.

    The result is the first of these categories that fits at least one name:
    - `password`: a password, token or secret;
    - `pool`: a pool, or another limit of connections or concurrency;
    - `address`: a host, port or URL;
    - `other`: no name fits.
    """
    lowered = " ".join(names).lower()
    # `password` comes first, because no other probe can show that a password has changed.
    for word, parts in (("password", _SECRET), ("pool", _POOL), ("address", _ADDRESS)):
        if any(part in lowered for part in parts):
            return word
    return "other"


def _time_of(row: JsonValue) -> int | None:
    try:
        return parse_time(row.at("time").text)
    except ValueError:
        return None
