"""Actions that end sessions of the database: idle ones, blocking ones, or a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from pydantic import Field

from relab.testbed.actions.models import Action, ActionClass, ActionParameters, BlastRadius, PreconditionError
from relab.testbed.actions.operations.base import PlantOperation

_IDLE = """
SELECT pid, usename, application_name, state, backend_start, state_change,
       extract(epoch FROM now() - state_change)::float8 AS idle_s
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'operator'
   AND state LIKE 'idle%%' AND extract(epoch FROM now() - state_change) >= %(min_idle_s)s
   AND (%(application)s::text IS NULL OR application_name = %(application)s)
 ORDER BY state_change
"""
_BLOCKING = """
SELECT DISTINCT blocker.pid, blocker.usename, blocker.application_name, blocker.state, blocker.backend_start,
       count(*) OVER (PARTITION BY blocker.pid) AS blocked
  FROM pg_stat_activity AS waiting
 CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS found (pid)
  JOIN pg_stat_activity AS blocker ON blocker.pid = found.pid
 WHERE extract(epoch FROM now() - waiting.query_start) >= %(min_wait_s)s
   AND cardinality(pg_blocking_pids(blocker.pid)) = 0
 UNION
SELECT holder.pid, holder.usename, holder.application_name, holder.state, holder.backend_start, 0
  FROM pg_stat_activity AS holder JOIN pg_locks AS held ON held.pid = holder.pid
 WHERE holder.state LIKE 'idle in transaction%%' AND held.locktype = 'relation' AND held.granted
   AND held.mode IN ('AccessExclusiveLock', 'ExclusiveLock') AND held.database = (
       SELECT oid FROM pg_database WHERE datname = current_database())
   AND extract(epoch FROM now() - holder.state_change) >= %(min_wait_s)s
"""
_ONE = """
SELECT pid, usename, application_name, state, backend_start FROM pg_stat_activity
 WHERE pid = %(pid)s AND backend_type = 'client backend'
"""
_END = (
    "SELECT pid, pg_terminate_backend(pid, 2000) AS ended FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
)


class Idle(ActionParameters):
    """Selects the database sessions to end: those that have been idle for at least `min_idle_s` seconds.

    If `application` is given, only sessions with this application name are selected.
    """

    min_idle_s: float = Field(30.0, ge=1, le=86_400)
    application: str | None = Field(None, max_length=63)


class Blocking(ActionParameters):
    """Selects two kinds of database sessions to end.

    - First kind: the session blocks a query of another session, and is not blocked itself.
    - Second kind: the session is idle in a transaction, and holds an exclusive lock on a table.

    Attributes:
        min_wait_s: the minimum time in seconds: for the first kind, since the start of the blocked query; for the
            second kind, since the session became idle.
    """

    min_wait_s: float = Field(1.0, ge=0, le=86_400)


class Session(ActionParameters):
    """Selects the database session to end by `pid`, the id of the server's process for this session."""

    pid: int = Field(ge=1, le=2**31 - 1)


class _EndSessions(PlantOperation[Any]):
    """Base of the actions that end database sessions.

    Attributes:
        query: SQL that selects the sessions; its placeholders have the names of the action's parameters.
        nothing_found: the message of the error if the query finds no session.
    """

    query: str
    nothing_found: str

    def _find(self, given: ActionParameters) -> dict[str, Any]:
        with self.plant.database() as connection:
            found = _sessions(connection, self.query, given.model_dump())
        if not found:
            raise PreconditionError(self.nothing_found)
        return {"sessions": found}

    def _do(self, _given: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        with self.plant.database() as connection:
            ended = [item["pid"] for item in before["sessions"] if _end(connection, item)]
        return {"ended": ended}


class EndIdleSessions(_EndSessions):
    """The action that ends idle sessions of the database, including sessions that idle within a transaction."""

    query, nothing_found = _IDLE, "No session has been idle so long."
    ACTION = Action(
        "end-idle-sessions", "End idle sessions of the database", ActionClass.SESSION, BlastRadius.SOME_REQUESTS, Idle,
        "connections of the server are free again; their clients must reconnect", ("a session is idle",),
        part="database",
    )  # fmt: skip


class EndBlockingSessions(_EndSessions):
    """The action that ends database sessions which block others and are not blocked themselves.

    It also ends sessions that are idle in a transaction and hold an exclusive lock on a table.
    """

    query, nothing_found = _BLOCKING, "No session has kept others waiting so long."
    ACTION = Action(
        "end-blocking-sessions", "End sessions that block others", ActionClass.SESSION, BlastRadius.SOME_REQUESTS,
        Blocking, "their locks are released, and waiting sessions continue; their uncommitted changes are lost",
        ("a session blocks another one",), part="database",
    )  # fmt: skip


class EndSession(_EndSessions):
    """The action that ends one session of the database, by its process id."""

    query, nothing_found = _ONE, "There is no session with this pid."
    ACTION = Action(
        "end-session", "End one session of the database", ActionClass.SESSION, BlastRadius.SOME_REQUESTS, Session,
        "this session ends and releases its locks; its uncommitted changes are lost", ("the session exists",),
        part="database",
    )  # fmt: skip


def _sessions(
    connection: psycopg.Connection[dict[str, Any]], query: str, given: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows: Sequence[dict[str, Any]] = connection.execute(query.encode(), given).fetchall()
    # The idle time changes by itself, so it is left out of the state on which a caller decides.
    return [
        {
            "pid": row["pid"],
            "user": row["usename"],
            "application": row["application_name"],
            "state": row["state"],
            "started_at": row["backend_start"].isoformat(),
        }
        for row in rows
    ]


def _end(connection: psycopg.Connection[dict[str, Any]], session: Mapping[str, Any]) -> bool:
    """End a database session and return whether it ended.

    Do nothing if the session has already ended and its process id now belongs to another session.
    """
    found = connection.execute(_END.encode(), (session["pid"], session["started_at"])).fetchone()
    return found is not None and bool(found["ended"])


OPERATIONS = (EndIdleSessions, EndBlockingSessions, EndSession)
