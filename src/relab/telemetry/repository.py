"""Queries over agent runs. Every function takes the session of a transaction."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from sqlalchemy import Select, delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from relab.storage.base import table_of
from relab.telemetry.cursor import decode_cursor, encode_cursor
from relab.telemetry.models import MAX_INT64, RunContent, RunFilter
from relab.telemetry.tables import AgentRunRow, TimelineItemRow

# Bounded by the columns' types: a forged cursor must not reach the database as a number that it cannot hold.
_Micros = Annotated[int, Field(ge=0, le=MAX_INT64)]
_Kind = Annotated[int, Field(ge=0, le=2**15 - 1)]
_Position = Annotated[int, Field(ge=0, le=2**31 - 1)]
_RUN_KEY: TypeAdapter[tuple[int, str]] = TypeAdapter(tuple[_Micros, str])
_ITEM_KEY: TypeAdapter[tuple[int, int, int]] = TypeAdapter(tuple[_Micros, _Kind, _Position])
_RUN_LIST_COLUMNS = tuple(
    column for column in AgentRunRow.__table__.c if column.name not in {"search_text", "tool_stats"}
)

RunKey = tuple[int, str]


def upsert_run(session: Session, values: dict[str, Any]) -> bool:
    """Insert the run's row or replace it; return True when it is new.

    The row is locked from here to the end of the transaction, so that two posts of one
    run cannot interleave their timelines.
    """
    row = session.execute(_upsert(session.get_bind().dialect.name), values).one()
    return bool(row.received_at == row.updated_at == values["received_at"])


@functools.cache
def _upsert(dialect: str) -> Any:
    """Return the statement, made once: to make it takes longer than to run it."""
    table = table_of(AgentRunRow)
    statement: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    kept = {"run_id", "received_at"}
    statement = statement.on_conflict_do_update(
        index_elements=["run_id"],
        set_={column.name: statement.excluded[column.name] for column in table.c if column.name not in kept},
    )
    return statement.returning(AgentRunRow.received_at, AgentRunRow.updated_at)


def lock_run(session: Session, agent_run_id: str) -> tuple[str, str] | None:
    """Return `(source, content_hash)` of a stored run and lock its row, or None."""
    statement = select(AgentRunRow.source, AgentRunRow.content_hash).where(AgentRunRow.run_id == agent_run_id)
    row = session.execute(statement.with_for_update()).one_or_none()
    return None if row is None else (row.source, row.content_hash)


def replace_items(session: Session, agent_run_id: str, items: Sequence[dict[str, Any]]) -> None:
    """Make `items` the whole timeline of the run."""
    session.execute(delete(table_of(TimelineItemRow)).where(TimelineItemRow.run_id == agent_run_id))
    if items:
        session.execute(insert(table_of(TimelineItemRow)), items)


def get_run(session: Session, agent_run_id: str) -> Any | None:
    """Return the row of a run without its bulky columns, or None."""
    return session.execute(select(*_RUN_LIST_COLUMNS).where(AgentRunRow.run_id == agent_run_id)).one_or_none()


def get_content(session: Session, agent_run_id: str) -> RunContent | None:
    """Return what identifies the run's content, or None when there is no such run."""
    statement = select(AgentRunRow.content_hash, AgentRunRow.received_at).where(AgentRunRow.run_id == agent_run_id)
    row = session.execute(statement).one_or_none()
    return None if row is None else RunContent(content_hash=row.content_hash, received_at=row.received_at)


def list_runs(
    session: Session, run_filter: RunFilter, *, cursor: str | None, limit: int
) -> tuple[list[Any], str | None]:
    """Return a page of run rows, newest first, and the cursor of the next.

    Raises:
        InvalidCursorError: the cursor is not one of this list.
    """
    statement = _filtered(select(*_RUN_LIST_COLUMNS), run_filter)
    key = tuple_(AgentRunRow.started_at, AgentRunRow.run_id)
    if cursor is not None:
        statement = statement.where(key < tuple_(*decode_cursor(cursor, _RUN_KEY)))
    statement = statement.order_by(AgentRunRow.started_at.desc(), AgentRunRow.run_id.desc()).limit(limit + 1)
    rows = list(session.execute(statement))
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], encode_cursor((last.started_at, last.run_id))


def list_items(
    session: Session, agent_run_id: str, *, cursor: str | None = None, limit: int | None = None
) -> tuple[list[Any], str | None]:
    """Return a page of a timeline in order (`limit` None: all of it) and the next cursor.

    Raises:
        InvalidCursorError: the cursor is not one of a timeline.
    """
    key = (TimelineItemRow.at, TimelineItemRow.kind, TimelineItemRow.position)
    statement = select(*key, TimelineItemRow.ref_id, TimelineItemRow.data).where(TimelineItemRow.run_id == agent_run_id)
    if cursor is not None:
        statement = statement.where(tuple_(*key) > tuple_(*decode_cursor(cursor, _ITEM_KEY)))
    statement = statement.order_by(*key)
    if limit is None:
        return list(session.execute(statement)), None
    rows = list(session.execute(statement.limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], encode_cursor((last.at, last.kind, last.position))


def delete_run(session: Session, agent_run_id: str) -> bool:
    """Delete a run and its timeline; return False when there was none."""
    session.execute(delete(table_of(TimelineItemRow)).where(TimelineItemRow.run_id == agent_run_id))
    deleted = session.execute(
        delete(table_of(AgentRunRow)).where(AgentRunRow.run_id == agent_run_id).returning(AgentRunRow.run_id)
    )
    return deleted.one_or_none() is not None


def set_category(session: Session, agent_run_id: str, content_hash: str, category: str) -> bool:
    """Label the run with a cause, if its content is still that of `content_hash`."""
    statement = (
        update(table_of(AgentRunRow))
        .where(AgentRunRow.run_id == agent_run_id, AgentRunRow.content_hash == content_hash)
        .values(category=category)
        .returning(AgentRunRow.run_id)
    )
    return session.execute(statement).one_or_none() is not None


def first_start(session: Session, version_key: str, until_us: int) -> int | None:
    """Return when the first run of a version started, by `until_us`; None if none did."""
    statement = select(func.min(AgentRunRow.started_at)).where(
        AgentRunRow.version_key == version_key, AgentRunRow.started_at <= until_us
    )
    return session.execute(statement).scalar_one()


def version_before(session: Session, agent_name: str, environment: str | None, before_us: int) -> str | None:
    """Return the version key of an agent's newest run in an environment before a time, or None."""
    statement = (
        select(AgentRunRow.version_key)
        .where(
            AgentRunRow.agent_name == agent_name,
            AgentRunRow.environment == environment if environment is not None else AgentRunRow.environment.is_(None),
            AgentRunRow.started_at < before_us,
        )
        .order_by(AgentRunRow.started_at.desc(), AgentRunRow.run_id.desc())
        .limit(1)
    )
    return session.execute(statement).scalar_one_or_none()


def list_version(session: Session, version_key: str, until_us: int, limit: int) -> list[Any]:
    """Return the newest runs of a version that started by `until_us`."""
    statement = (
        select(
            AgentRunRow.run_id,
            AgentRunRow.agent_version,
            AgentRunRow.prompt_hash,
            AgentRunRow.started_at,
            AgentRunRow.status,
            AgentRunRow.step_count,
            AgentRunRow.tool_stats,
        )
        .where(AgentRunRow.version_key == version_key, AgentRunRow.started_at <= until_us)
        .order_by(AgentRunRow.started_at.desc(), AgentRunRow.run_id.desc())
        .limit(limit)
    )
    return list(session.execute(statement))


def count_by_status(session: Session, since_us: int, until_us: int) -> dict[str, tuple[int, float]]:
    """Return `{status: (runs, cost in USD)}` of the runs that started in the window."""
    statement = (
        select(AgentRunRow.status, func.count(), func.coalesce(func.sum(AgentRunRow.total_cost_usd), 0.0))
        .where(AgentRunRow.started_at.between(since_us, until_us))
        .group_by(AgentRunRow.status)
    )
    return {status: (count, float(cost or 0.0)) for status, count, cost in session.execute(statement)}


def iter_tool_stats(session: Session, since_us: int, until_us: int) -> Iterable[dict[str, Any]]:
    """Yield the `tool_stats` of the runs that started in the window."""
    statement = select(AgentRunRow.tool_stats).where(
        AgentRunRow.started_at.between(since_us, until_us), AgentRunRow.tool_call_count > 0
    )
    yield from session.execute(statement.execution_options(yield_per=1_000)).scalars()


def step_latency_quantile(session: Session, since_us: int, until_us: int, quantile: float) -> float | None:
    """Return the nearest-rank quantile of step latencies, in ms, or None without any."""
    latency = TimelineItemRow.latency_ms
    base = (
        select(latency)
        .join(AgentRunRow, AgentRunRow.run_id == TimelineItemRow.run_id)
        .where(
            AgentRunRow.started_at.between(since_us, until_us),
            TimelineItemRow.kind == 0,
            latency.is_not(None),
        )
    )
    count = session.execute(select(func.count()).select_from(base.subquery())).scalar_one()
    if count == 0:
        return None
    rank = max(math.ceil(quantile * count), 1)
    return session.execute(base.order_by(latency).offset(rank - 1).limit(1)).scalar_one_or_none()


def _filtered(statement: Select[Any], run_filter: RunFilter) -> Select[Any]:
    for column, wanted in (
        (AgentRunRow.agent_name, run_filter.agent_name),
        (AgentRunRow.agent_version, run_filter.agent_version),
        (AgentRunRow.status, run_filter.status),
        (AgentRunRow.environment, run_filter.environment),
        (AgentRunRow.category, run_filter.category),
        (AgentRunRow.task_id, run_filter.task_id),
    ):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if run_filter.started_after_us is not None:
        statement = statement.where(AgentRunRow.started_at >= run_filter.started_after_us)
    if run_filter.started_before_us is not None:
        statement = statement.where(AgentRunRow.started_at < run_filter.started_before_us)
    if run_filter.text is not None:
        statement = statement.where(AgentRunRow.search_text.contains(run_filter.text.lower(), autoescape=True))
    return statement
