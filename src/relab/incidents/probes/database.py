"""Read facts about a database from the diagnostics that the target reports: sessions, locks, indexes, plans. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.incidents.probes.failure_kinds import kind_of
from relab.incidents.probes.json_paths import FactCollector, JsonValue, root_of
from relab.incidents.probes.models import Observation, ProbeResponse

SESSION_FACTS: Final = (
    "database.reachable", "database.failure", "database.answer_ms", "database.connections", "database.connections_pct",
    "database.sessions.active", "database.sessions.idle", "database.sessions.idle_in_transaction",
    "database.idle.application", "database.idle.sessions",
)  # fmt: skip
WAIT_FACTS: Final = (
    "database.waits.lock", "database.waits.longest_s", "database.slow", "database.blocking.sessions",
    "database.blocking.idle_s", "database.blocking.pid", "database.blocking.application", "database.blocking.locks",
)  # fmt: skip
INDEX_FACTS: Final = (
    "database.indexes.missing", "database.indexes.missing.name", "database.indexes.invalid", "database.plans.whole_tables",
    "database.plans.server_ms", "database.plans.way_ms",
)  # fmt: skip
_IDLE: Final = "idle"
_IDLE_IN_TRANSACTION: Final = "idle in transaction"


def read_sessions(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts: whether the database answers, sessions by state, and the application with most idle sessions."""
    found, whole = FactCollector(), root_of(answers, 0)
    found.truth("database.reachable", whole.at("reachable"))
    if whole.at("reachable").truth is False:
        error = whole.at("error")
        found.see("database.failure", kind_of(error.text, whole.at("sqlstate").word), error)
    found.amount("database.answer_ms", whole.at("answer_ms"))
    connections = whole.at("server", "connections")
    found.amount("database.connections", connections)
    room = _leading_number(whole.at("limits", "max_connections").text)
    if connections.amount is not None and room:
        found.see("database.connections_pct", min(100 * connections.amount / room, 100.0), connections)
    sessions = whole.at("sessions")
    if sessions.is_list:
        _read_states(found, sessions)
    return found.sightings


def _read_states(found: FactCollector, sessions: JsonValue) -> None:
    counts = {"active": 0.0, "idle": 0.0, "idle_in_transaction": 0.0}
    idle: dict[str, float] = {}
    for row in sessions.rows():
        state, count = row.at("state").word or "", row.at("sessions").amount or 0.0
        if state.startswith(_IDLE_IN_TRANSACTION):
            counts["idle_in_transaction"] += count
        elif state == _IDLE:
            counts["idle"] += count
        elif state == "active":
            counts["active"] += count
        if state.startswith(_IDLE):
            application = row.at("application_name").word or "(none)"
            idle[application] = idle.get(application, 0.0) + count
    for name, count in counts.items():
        found.see(f"database.sessions.{name}", count, sessions)
    if idle:
        application, count = max(idle.items(), key=lambda item: (item[1], item[0]))
        found.see("database.idle.application", application, sessions)
        found.see("database.idle.sessions", count, sessions)


def read_waits(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about database sessions: slow statements, waits for locks, and sessions that block others.

    A blocking session that is itself blocked does not count. The facts name one blocking session: the one with the
    longest transaction. If some blocking sessions are idle in a transaction, it is one of these.
    """
    found, whole = FactCollector(), root_of(answers, 0)
    blocked, blockers, slow = whole.at("blocked"), whole.at("blockers"), whole.at("slow")
    if slow.is_list:
        found.see("database.slow", float(len(slow.rows())), slow)
    if not blocked.is_list:
        return found.sightings
    waiting = [row for row in blocked.rows() if row.at("wait_event_type").word == "Lock"]
    found.see("database.waits.lock", float(len(waiting)), blocked)
    longest = max((row.at("waiting_s").amount or 0.0 for row in waiting), default=0.0)
    found.see("database.waits.longest_s", longest, blocked)
    if not blockers.is_list:
        return found.sightings
    # A blocker that itself waits is not the root of the chain.
    themselves = {row.at("pid").number for row in blocked.rows()}
    roots = [row for row in blockers.rows() if row.at("pid").number not in themselves]
    found.see("database.blocking.sessions", float(len(roots)), blockers)
    sitting = [row for row in roots if (row.at("state").word or "").startswith(_IDLE_IN_TRANSACTION)]
    idle_s = max((row.at("in_transaction_s").amount or 0.0 for row in sitting), default=0.0)
    found.see("database.blocking.idle_s", idle_s, blockers)
    if roots:
        worst = max(sitting or roots, key=lambda row: row.at("in_transaction_s").amount or 0.0)
        pid = worst.at("pid").amount
        found.see("database.blocking.pid", None if pid is None else f"{pid:.0f}", worst.at("pid"))
        found.word("database.blocking.application", worst.at("application_name"))
        locks = worst.at("locks").value
        shown = ", ".join(item for item in locks[:5] if isinstance(item, str))[:200] if isinstance(locks, list) else ""
        found.see("database.blocking.locks", shown or None, worst.at("locks"))
    return found.sightings


def read_indexes(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about the database's indexes, and about how it executes the target's SQL statements.

    - Indexes: the numbers of missing and of invalid indexes, and the name of one missing index.
    - Plans: the number of statements whose plan reads a whole table (`Seq Scan`).
    - Times in milliseconds: the longest execution time of a statement in the database server, and the shortest network
      delay of a statement. The delay is the time that the client measured, minus the execution time.
    """
    found, whole = FactCollector(), root_of(answers, 0)
    missing, invalid = whole.at("indexes", "missing"), whole.at("indexes", "invalid")
    if missing.is_list:
        found.see("database.indexes.missing", float(len(missing.value)), missing)
        names = [name for row in missing.rows() if (name := row.at("name").word)]
        found.see("database.indexes.missing.name", names[0] if names else None, missing)
    if invalid.is_list:
        found.see("database.indexes.invalid", float(len(invalid.value)), invalid)
    plans = whole.at("plans")
    rows = [row for _, row in plans.fields()]
    read_whole = [row for row in rows if any(str(node).startswith("Seq Scan") for node in _listed(row.at("nodes")))]
    if rows:
        found.see("database.plans.whole_tables", float(len(read_whole)), plans)
    times = [(row.at("server_ms").amount, row.at("client_ms").amount) for row in rows]
    known = [(server, client) for server, client in times if server is not None and client is not None]
    if known:
        found.see("database.plans.server_ms", max(server for server, _ in known), plans)
        # Take the minimum: the processor's delay varies, but each measurement includes the network's delay.
        found.see("database.plans.way_ms", max(min(client - server for server, client in known), 0.0), plans)
    return found.sightings


def _listed(place: JsonValue) -> list[object]:
    return place.value[:100] if isinstance(place.value, list) else []


def _leading_number(text: str) -> float | None:
    """Return the whole number at the beginning of a text such as `100ms`; None if the text begins with no digit."""
    digits = ""
    for letter in text[:15]:
        if letter not in "0123456789":
            break
        digits += letter
    return float(digits) if digits else None
