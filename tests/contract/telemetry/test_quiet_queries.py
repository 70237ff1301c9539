"""Rows that were not written recently are found by an index, however many recent ones there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from relab.bootstrap import Services
from relab.telemetry.models import RunFilter


def asked_by(services: Services, ask: Callable[[Services], Any], part: str) -> list[tuple[str, Any]]:
    """Return `(query, parameters)` of the queries with this part that a function sends."""
    queries: list[tuple[str, Any]] = []
    with services.database.read() as session:
        engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: queries.append((sql, values)))
    ask(services)
    return [found for found in queries if part in found[0] and found[0].startswith("SELECT")]


def plan_of(services: Services, query: str, values: Any) -> str:
    with services.database.write() as unit:
        connection = unit.session.connection()
        if not services.database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        explain = "EXPLAIN QUERY PLAN" if services.database.is_sqlite else "EXPLAIN"
        return " ".join(str(row) for row in connection.exec_driver_sql(f"{explain} {query}", values))


@pytest.mark.parametrize(
    ("ask", "order", "index"),
    [
        (
            lambda services: services.rca.analyze_arrivals(quiet_s=60.0, max_waiting=10),
            "agent_runs.updated_at DESC",
            "ix_agent_runs_awaiting_updated_at",
        ),
        (
            lambda services: services.telemetry.awaiting.searches.due(60.0, 10),
            "run_searches.written_at DESC",
            "ix_run_searches_written_at",
        ),
    ],
    ids=["analyses", "searches"],
)
def test_quiet_runs_are_searched_in_the_index(
    services: Services, ask: Callable[[Services], Any], order: str, index: str
) -> None:
    asked = asked_by(services, ask, f"ORDER BY {order}")

    assert len(asked) == 2
    for query, values in asked:
        plan = plan_of(services, query, values)
        assert index in plan
        # The entries of the index are searched; a filter would read all of them.
        assert ("SEARCH" if services.database.is_sqlite else "Index Cond") in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


def test_unprojected_runs_are_read_from_their_own_index(services: Services) -> None:
    listing = asked_by(services, lambda each: each.telemetry.list_runs(RunFilter()), "mapper_version = 0")
    counting = asked_by(services, lambda each: each.telemetry.overview(24.0), "mapper_version = 0")

    assert listing
    assert counting
    for query, values in [*listing, *counting]:
        assert "ix_agent_runs_unprojected" in plan_of(services, query, values)
