"""Queries over agent runs. Every function takes the session of a transaction."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter
from pydantic_core import from_json
from sqlalchemy import JSON, ColumnElement, Text, bindparam, cast, collate, delete, insert, select, tuple_, update

from relab.core.cursor import NUMBER_AND_ID, decode_cursor, encode_cursor
from relab.core.ids import MAX_ID_LENGTH
from relab.storage import bulk
from relab.storage.base import Base, table_of
from relab.storage.session import DatabaseSession
from relab.telemetry import trial_runs
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.filtering import IS_AGENT_RUN, SHOWN, filtered
from relab.telemetry.models import MAX_INT64, STEP, RunContent, RunFilter
from relab.telemetry.tables import (
    NEVER_PROJECTED,
    OPEN_TRACE,
    AgentRunRow,
    DeletedTrialRunRow,
    FormerRun,
    ItemKey,
    RunBehaviourRow,
    StoredItem,
    StoredRun,
    TimelineItemRow,
)

# The limits are those of the column types: the database must not receive an out-of-range number from a forged cursor.
_Micros = Annotated[int, Field(ge=0, le=MAX_INT64)]
_Kind = Annotated[int, Field(ge=0, le=2**15 - 1)]
_Position = Annotated[int, Field(ge=0, le=2**31 - 1)]
_RefId = Annotated[str, Field(max_length=MAX_ID_LENGTH)]
_ITEM_KEY: TypeAdapter[tuple[int, int, int, str]] = TypeAdapter(tuple[_Micros, _Kind, _Position, _RefId])


def _as_stored(entity: type[Base], names: Iterable[str]) -> tuple[ColumnElement[Any], ...]:
    """Return the columns `names` of a table for a SELECT statement; JSON columns are selected as text."""
    columns = (table_of(entity).c[name] for name in names)
    return tuple(cast(column, Text) if isinstance(column.type, JSON) else column for column in columns)


RUN_COLUMNS: Final = _as_stored(AgentRunRow, StoredRun._fields)
"""The columns of a `StoredRun`."""
_FORMER_COLUMNS: Final = _as_stored(AgentRunRow, FormerRun._fields)
ITEM_COLUMNS: Final = _as_stored(TimelineItemRow, StoredItem._fields)
"""The columns of a `StoredItem`."""

_REPLACED = tuple(name for name in AgentRunRow.__table__.c.keys() if name not in {"run_id", "received_at"})  # noqa: SIM118


def insert_or_lock(session: DatabaseSession, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Insert the runs that do not exist yet, lock the existing ones, and return the ids of the locked runs.

    Each row is `{column: value}` of the table `agent_runs`. The stored row of a locked run is not changed.
    """
    return bulk.insert_or_lock(session, table_of(AgentRunRow), rows)


def load_runs(session: DatabaseSession, run_ids: Iterable[str]) -> dict[str, StoredRun]:
    """Return `{run id: run}` of the runs that exist."""
    found: dict[str, StoredRun] = {}
    for ids in bulk.chunks(run_ids):
        rows = session.execute(select(*RUN_COLUMNS).where(AgentRunRow.run_id.in_(ids)))
        found |= {run.run_id: run for run in map(StoredRun._make, rows)}
    return found


def load_former_runs(session: DatabaseSession, run_ids: Iterable[str]) -> dict[str, FormerRun]:
    """Return `{run id: run}` of the existing runs, with only the columns that are needed to change a run."""
    found: dict[str, FormerRun] = {}
    for ids in bulk.chunks(run_ids):
        rows = session.execute(select(*_FORMER_COLUMNS).where(AgentRunRow.run_id.in_(ids)))
        found |= {run.run_id: run for run in map(FormerRun._make, rows)}
    return found


def lock_runs(session: DatabaseSession, run_ids: Iterable[str]) -> dict[str, FormerRun]:
    """Lock the runs that exist, in the order of their ids; return `{run id: run}` with the columns of a `FormerRun`."""
    ids = sorted(run_ids)
    if session.get_bind().dialect.name == "postgresql":
        for chunk in bulk.chunks(ids):
            statement = select(AgentRunRow.run_id).where(AgentRunRow.run_id.in_(chunk))
            # In byte order, as in `insert_or_lock` and in Python's `sorted`, so that lock orders agree.
            session.execute(statement.order_by(collate(AgentRunRow.run_id, "C")).with_for_update())
    return load_former_runs(session, ids)


def replace_runs(session: DatabaseSession, rows: Sequence[dict[str, Any]]) -> None:
    """Replace all columns of stored runs except `run_id` and `received_at`; each row is `{column: value}`."""
    if not rows:
        return
    driver = session.connection()
    driver.exec_driver_sql(
        _replace(driver.dialect.name), [(*tuple([row[name] for name in _REPLACED]), row["run_id"]) for row in rows]
    )


def set_outcomes(session: DatabaseSession, runs: Sequence[StoredRun]) -> None:
    """Update outcomes (of runs and of their agents), token counts, and the versions of the rules that decided them."""
    if not runs:
        return
    table = table_of(AgentRunRow)
    names = ("outcome", "outcome_rule", "outcome_version", "mapper_version")
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    values["outcome_evidence"] = bindparam("new_evidence")
    values["token_usage"] = bindparam("new_usage")
    values["agent_outcomes"] = bindparam("new_agents")
    session.execute(
        update(table).where(table.c.run_id == bindparam("run")).values(**values),
        [
            {
                "run": run.run_id,
                "new_evidence": from_json(run.outcome_evidence or "[]"),
                "new_usage": from_json(run.token_usage or "{}"),
                "new_agents": from_json(run.agent_outcomes or "[]"),
                **{f"new_{name}": getattr(run, name) for name in names},
            }
            for run in runs
        ],
    )


def list_quiet_traces(session: DatabaseSession, recent: range, limit: int) -> list[tuple[str, int]]:
    """Return `(run id, number of timeline items)` of at most `limit` running traces that were not written recently.

    A trace is running if its run has not ended and is not marked as incomplete. The trace with the oldest last write
    comes first. A write is recent if its time, in microseconds since 1970, is in the range `recent`.
    """
    row, found = AgentRunRow, list[tuple[str, int]]()
    open_traces = select(row.run_id, row.step_count + row.tool_call_count + row.guardrail_event_count).where(OPEN_TRACE)
    # With OR in place of two queries, databases read the index entries of all open traces.
    for quiet in (row.updated_at < recent.start, row.updated_at >= recent.stop):
        statement = open_traces.where(quiet).order_by(row.updated_at).limit(limit - len(found))
        found += [(run_id, count) for run_id, count in session.execute(statement)]
    return found


def set_updated_at(session: DatabaseSession, times: Mapping[str, int]) -> None:
    """Set the time of the last write of each run in `times`, `{run id: time in microseconds since 1970}`."""
    for run_id, at_us in times.items():
        session.execute(update(table_of(AgentRunRow)).where(AgentRunRow.run_id == run_id).values(updated_at=at_us))


@functools.cache
def _replace(dialect: str) -> str:
    """Return the UPDATE statement of `replace_runs`; JSON columns are passed as text."""
    mark = "?" if dialect == "sqlite" else "%s"
    columns = table_of(AgentRunRow).c
    cast = "::json" if dialect == "postgresql" else ""
    values = ", ".join(f"{name} = {mark}{cast if isinstance(columns[name].type, JSON) else ''}" for name in _REPLACED)
    return f"UPDATE agent_runs SET {values} WHERE run_id = {mark}"  # noqa: S608


def load_items(session: DatabaseSession, run_ids: Iterable[str]) -> dict[str, dict[ItemKey, StoredItem]]:
    """Return the stored timelines of runs as `{run id: {primary key of the item: item}}`."""
    found: dict[str, dict[ItemKey, StoredItem]] = {}
    for ids in bulk.chunks(run_ids):
        rows = session.execute(select(*ITEM_COLUMNS).where(TimelineItemRow.run_id.in_(ids)))
        for item in map(StoredItem._make, rows):
            found.setdefault(item.run_id, {})[item.key] = item
    return found


def load_step_latencies(session: DatabaseSession, run_ids: Iterable[str]) -> dict[str, list[float]]:
    """Return `{run id: known latencies of its steps in ms}`; runs without a known latency are left out."""
    columns = (TimelineItemRow.run_id, TimelineItemRow.latency_ms)
    found: dict[str, list[float]] = {}
    for ids in bulk.chunks(run_ids):
        statement = select(*columns).where(
            TimelineItemRow.run_id.in_(ids), TimelineItemRow.kind == STEP, TimelineItemRow.latency_ms.is_not(None)
        )
        for run_id, latency in session.execute(statement):
            found.setdefault(run_id, []).append(latency or 0.0)
    return found


def list_step_latencies(session: DatabaseSession, first_us: int, end_us: int) -> list[float]:
    """Return the known latencies (ms, ascending) of the steps of the runs that started in `[first_us, end_us)`.

    Traces without agent activity are left out.
    """
    latency = TimelineItemRow.latency_ms
    statement = (
        select(latency)
        .join(AgentRunRow, AgentRunRow.run_id == TimelineItemRow.run_id)
        .where(
            AgentRunRow.started_at >= first_us,
            AgentRunRow.started_at < end_us,
            TimelineItemRow.kind == STEP,
            latency.is_not(None),
            IS_AGENT_RUN,
        )
        .order_by(latency)
    )
    return [value for value in session.execute(statement).scalars() if value is not None]


def insert_items(session: DatabaseSession, items: Sequence[StoredItem]) -> None:
    """Insert timeline items; none of them may be stored already."""
    bulk.insert_rows(session, table_of(TimelineItemRow), items)


def delete_items(session: DatabaseSession, keys: Sequence[ItemKey]) -> None:
    """Delete timeline items by their keys."""
    if not keys:
        return
    driver = session.connection()
    mark = "?" if driver.dialect.name == "sqlite" else "%s"
    condition = " AND ".join(f"{name} = {mark}" for name in ("run_id", "at", "kind", "position", "ref_id"))
    driver.exec_driver_sql(f"DELETE FROM timeline_items WHERE {condition}", [*keys])  # noqa: S608


def delete_runs(session: DatabaseSession, run_ids: Iterable[str]) -> None:
    """Delete runs and their timelines."""
    for ids in bulk.chunks(run_ids):
        session.execute(delete(table_of(TimelineItemRow)).where(TimelineItemRow.run_id.in_(ids)))
        session.execute(delete(table_of(AgentRunRow)).where(AgentRunRow.run_id.in_(ids)))


def note_deleted_trial(session: DatabaseSession, run_id: str) -> None:
    """Remember that a person deletes this run, with its start, if it is the run of a trial of an experiment.

    The caller must have locked the run, which is still stored.
    """
    noted = table_of(DeletedTrialRunRow)
    session.execute(delete(noted).where(DeletedTrialRunRow.run_id == run_id))
    found = select(AgentRunRow.run_id, AgentRunRow.started_at).where(
        AgentRunRow.run_id == run_id, AgentRunRow.environment == trial_runs.ENVIRONMENT
    )
    session.execute(insert(noted).from_select(["run_id", "started_at"], found))


def delete_run_rows(session: DatabaseSession, run_ids: Iterable[str]) -> None:
    """Delete rows of `agent_runs` that this transaction has inserted only to reserve (lock) their ids."""
    for ids in bulk.chunks(run_ids):
        session.execute(delete(table_of(AgentRunRow)).where(AgentRunRow.run_id.in_(ids)))


def get_run(session: DatabaseSession, agent_run_id: str) -> StoredRun | None:
    """Return the run with this id; None if the run does not exist or was never computed from its spans."""
    run = load_runs(session, [agent_run_id]).get(agent_run_id)
    return None if run is None or run.content_hash == NEVER_PROJECTED else run


def require_run(session: DatabaseSession, agent_run_id: str) -> None:
    """Raise an error if no run with this id is stored; a run that was never computed from its spans is accepted.

    Raises:
        AgentRunNotFoundError: there is no run with this id.
    """
    if session.execute(select(AgentRunRow.run_id).where(AgentRunRow.run_id == agent_run_id)).first() is None:
        raise AgentRunNotFoundError(agent_run_id)


def get_content(session: DatabaseSession, agent_run_id: str) -> RunContent | None:
    """Return the content hash of a run, and the time when a run with its id was first received.

    Return None if the run is not stored or was never computed from its spans.
    """
    statement = select(AgentRunRow.content_hash, AgentRunRow.received_at).where(
        AgentRunRow.run_id == agent_run_id, SHOWN
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else RunContent(content_hash=row.content_hash, received_at=row.received_at)


def list_runs(
    session: DatabaseSession, run_filter: RunFilter, *, cursor: str | None, limit: int
) -> tuple[list[StoredRun], str | None]:
    """Return a page of runs, newest first, and the cursor of the next page (None after the last one).

    Raises:
        InvalidCursorError: the cursor does not have the form of a cursor of this list.
    """
    statement = filtered(select(*RUN_COLUMNS), run_filter)
    key = tuple_(AgentRunRow.started_at, AgentRunRow.run_id)
    if cursor is not None:
        statement = statement.where(key < tuple_(*decode_cursor(cursor, NUMBER_AND_ID)))
    statement = statement.order_by(AgentRunRow.started_at.desc(), AgentRunRow.run_id.desc()).limit(limit + 1)
    runs = [StoredRun._make(row) for row in session.execute(statement)]
    if len(runs) <= limit:
        return runs, None
    last = runs[limit - 1]
    return runs[:limit], encode_cursor((last.started_at, last.run_id))


def list_items(
    session: DatabaseSession, agent_run_id: str, *, cursor: str | None = None, limit: int | None = None
) -> tuple[list[StoredItem], str | None]:
    """Return a page of a run's timeline in order of time, and the cursor of the next page (None after the last one).

    If `limit` is None, the page is the whole timeline.

    Raises:
        InvalidCursorError: the cursor does not have the form of a cursor of a timeline.
    """
    key = (TimelineItemRow.at, TimelineItemRow.kind, TimelineItemRow.position, TimelineItemRow.ref_id)
    statement = select(*ITEM_COLUMNS).where(TimelineItemRow.run_id == agent_run_id)
    if cursor is not None:
        statement = statement.where(tuple_(*key) > tuple_(*decode_cursor(cursor, _ITEM_KEY)))
    statement = statement.order_by(*key)
    if limit is not None:
        statement = statement.limit(limit + 1)
    items = [StoredItem._make(row) for row in session.execute(statement)]
    if limit is None or len(items) <= limit:
        return items, None
    return items[:limit], encode_cursor(items[limit - 1].key[1:])


def set_category(
    session: DatabaseSession, agent_run_id: str, content_hash: str, category: str, confidence: str | None
) -> bool:
    """Set the failure category of a run if its content hash is still `content_hash`; return whether it was set.

    `confidence` is the confidence in the category: `high`, `medium` or `low`; None if it is not known.
    """
    statement = (
        update(table_of(AgentRunRow))
        .where(AgentRunRow.run_id == agent_run_id, AgentRunRow.content_hash == content_hash)
        .values(category=category, category_confidence=confidence)
        .returning(AgentRunRow.run_id)
    )
    return session.execute(statement).one_or_none() is not None


def delete_marks(session: DatabaseSession, run_ids: Iterable[str]) -> None:
    """Delete the behaviours (patterns) that analyses have found in the runs `run_ids`."""
    for ids in bulk.chunks(run_ids):
        session.execute(delete(table_of(RunBehaviourRow)).where(RunBehaviourRow.run_id.in_(ids)))
