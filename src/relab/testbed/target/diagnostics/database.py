"""Diagnostics of the database: PostgreSQL's own statistics, over a connection outside the pool."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from relab.testbed.target.cache import words
from relab.testbed.target.database import as_database_error
from relab.testbed.target.probes import direct_connection
from relab.testbed.target.seed import SCHEMA_PATH, customer_name, order_number
from relab.testbed.target.settings import DatabaseSettings
from relab.testbed.target.shop import SQL_ORDER, SQL_PRODUCT, SQL_RECENT

SLOW_S: Final = 1.0
TEXT_LIMIT: Final = 300

_SESSIONS = """
SELECT coalesce(state, backend_type) AS state, wait_event_type, wait_event, application_name, usename,
       count(*)::int AS sessions, max(extract(epoch FROM now() - state_change))::float AS longest_s
  FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
 GROUP BY 1, 2, 3, 4, 5 ORDER BY sessions DESC"""
_BLOCKED = """
SELECT a.pid, pg_blocking_pids(a.pid) AS blocked_by, a.wait_event_type, a.wait_event, a.application_name,
       extract(epoch FROM now() - a.query_start)::float AS waiting_s, left(a.query, %(limit)s) AS query
  FROM pg_stat_activity a WHERE cardinality(pg_blocking_pids(a.pid)) > 0 ORDER BY waiting_s DESC LIMIT 50"""
_BLOCKERS = """
SELECT a.pid, a.state, a.application_name, a.usename, left(a.query, %(limit)s) AS query,
       extract(epoch FROM now() - a.xact_start)::float AS in_transaction_s,
       array(SELECT DISTINCT l.relation::regclass::text || ' ' || l.mode FROM pg_locks l
              WHERE l.pid = a.pid AND l.relation IS NOT NULL AND l.relation >= 16384 AND l.granted LIMIT 20) AS locks
  FROM pg_stat_activity a
 WHERE a.pid IN (SELECT unnest(pg_blocking_pids(b.pid)) FROM pg_stat_activity b) LIMIT 20"""
_SLOW = """
SELECT pid, state, wait_event_type, wait_event, application_name, left(query, %(limit)s) AS query,
       extract(epoch FROM now() - query_start)::float AS running_s
  FROM pg_stat_activity
 WHERE state = 'active' AND pid <> pg_backend_pid() AND now() - query_start > %(slow)s * interval '1 second'
 ORDER BY running_s DESC LIMIT 20"""
_STATEMENTS = """
SELECT left(query, %(limit)s) AS query, calls, round(mean_exec_time::numeric, 3)::float AS mean_ms,
       round(max_exec_time::numeric, 3)::float AS max_ms, rows, shared_blks_read, shared_blks_hit
  FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY total_exec_time DESC LIMIT 10"""
_TABLES = """
SELECT s.relname AS table, s.n_live_tup AS rows, s.n_dead_tup AS dead_rows,
       (c.relpages + (SELECT coalesce(sum(x.relpages), 0) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                       WHERE i.indrelid = s.relid)) * current_setting('block_size')::bigint AS bytes,
       s.seq_scan AS sequential_scans, s.seq_tup_read AS rows_read_sequentially, s.idx_scan AS index_scans
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid ORDER BY bytes DESC LIMIT 50"""
"""The sizes are as of the last vacuum: measuring them now would wait for the locks that this diagnosis must show."""
_INDEXES = """
SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema()"""
_LIMITS = """
SELECT name, reset_val AS setting, unit FROM pg_settings WHERE name IN ('max_connections', 'superuser_reserved_connections',
  'shared_buffers', 'work_mem', 'idle_in_transaction_session_timeout', 'lock_timeout',
  'default_transaction_read_only', 'server_version')"""
_SERVER = """
SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float AS uptime_s, pg_is_in_recovery() AS in_recovery,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections"""

_INDEX_TEXT = re.compile(r"^(CREATE (?:UNIQUE )?INDEX (\w+)[^;]*);", re.MULTILINE)


def expected_indexes() -> dict[str, str]:
    """Return the SQL statements that create the indexes of the shop's schema, as `{name of the index: statement}`."""
    return {name: statement for statement, name in _INDEX_TEXT.findall(SCHEMA_PATH.read_text())}


def database_diagnostics(settings: DatabaseSettings) -> dict[str, Any]:
    """Return the server's sessions, locks, statements, tables, indexes, limits and plans, as JSON.

    If the server does not answer, return `reachable: False` and the `error`. The call blocks the calling thread.
    """
    began_s = time.perf_counter()
    try:
        with direct_connection(settings, name="shop-diagnostics") as connection:
            connected_ms = _ms(began_s)
            connection.execute("SET default_transaction_read_only = on")
            # The diagnostics must not wait for the lock that they are to find.
            connection.execute("SET lock_timeout = '200ms'")
            return {"reachable": True, "connect_ms": connected_ms, **_ask(connection)}
    except (psycopg.Error, OSError) as error:
        failure = as_database_error(error)
        return {
            "reachable": False,
            "error": failure.cause if failure else words(error),
            "sqlstate": failure.sqlstate if failure else getattr(error, "sqlstate", None),
            "after_ms": _ms(began_s),
        }


def _ask(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    values = {"limit": TEXT_LIMIT, "slow": SLOW_S}
    sections = {"sessions": _SESSIONS, "blocked": _BLOCKED, "blockers": _BLOCKERS, "slow": _SLOW, "tables": _TABLES}
    asked_s = time.perf_counter()
    connection.execute("SELECT 1")
    answered: dict[str, Any] = {"answer_ms": _ms(asked_s)}
    cursor = connection.cursor(row_factory=dict_row)
    answered["server"] = cursor.execute(_SERVER).fetchone()
    for name, statement in sections.items():
        answered[name] = _rows(cursor, statement, values)
    answered["statements"] = _statements(cursor, values)
    found = {row["name"]: row["valid"] for row in cursor.execute(_INDEXES).fetchall()}
    expected = expected_indexes()
    answered["indexes"] = {
        "expected": sorted(expected),
        "missing": [
            {"name": name, "statement": statement} for name, statement in expected.items() if name not in found
        ],
        "invalid": sorted(name for name, valid in found.items() if not valid),
    }
    rows = cursor.execute(_LIMITS).fetchall()
    answered["limits"] = {row["name"]: f"{row['setting']}{row['unit'] or ''}" for row in rows}
    answered["plans"] = {
        name: _plan(connection, statement, parameters)
        for name, statement, parameters in (
            ("order by number", SQL_ORDER, (order_number(0),)),
            ("orders of a customer", SQL_RECENT, (customer_name(0), 5)),
            ("product page", SQL_PRODUCT, (1,)),
        )
    }
    return answered


def _rows(cursor: psycopg.Cursor[dict[str, Any]], statement: str, values: dict[str, Any]) -> Any:
    try:
        return cursor.execute(statement, values).fetchall()
    except psycopg.Error as error:
        # A failed query must not hide the results of the others.
        return {"error": words(error), "sqlstate": error.sqlstate}


def _statements(cursor: psycopg.Cursor[dict[str, Any]], values: dict[str, Any]) -> Any:
    row = cursor.execute("SELECT to_regclass('pg_stat_statements') IS NOT NULL AS there").fetchone()
    if not row or not row["there"]:
        return {"available": False}
    return _rows(cursor, _STATEMENTS, values)


def _plan(connection: psycopg.Connection[Any], statement: str, parameters: tuple[Any, ...]) -> dict[str, Any]:
    """Run a statement of the shop with EXPLAIN ANALYZE; return `nodes`, `server_ms` and `client_ms`.

    `nodes` is the query plan. `server_ms` and `client_ms` are the durations of the statement, measured by the server
    and by this process. If the statement fails, the result has `error`, `sqlstate` and `client_ms`.
    """
    began_s = time.perf_counter()
    try:
        with connection.transaction(force_rollback=True):
            began_s = time.perf_counter()
            explained = connection.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), parameters
            ).fetchone()
    except psycopg.Error as error:
        return {"error": words(error), "sqlstate": error.sqlstate, "client_ms": _ms(began_s)}
    assert explained is not None
    document = explained[0] if isinstance(explained[0], list) else json.loads(explained[0])
    nodes: list[str] = []
    _collect(document[0]["Plan"], nodes)
    return {
        "nodes": nodes,
        "server_ms": round(document[0]["Execution Time"] + document[0]["Planning Time"], 3),
        "client_ms": _ms(began_s),
    }


def _collect(plan: dict[str, Any], nodes: list[str]) -> None:
    place = plan.get("Index Name") or plan.get("Relation Name")
    nodes.append(f"{plan['Node Type']} on {place}" if place else plan["Node Type"])
    for part in plan.get("Plans", []):
        _collect(part, nodes)


def _ms(since_s: float) -> float:
    return round((time.perf_counter() - since_s) * 1_000, 3)
