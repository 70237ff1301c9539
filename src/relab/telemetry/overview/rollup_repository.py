"""Queries that read and change the stored sums over runs (`run_rollups`).

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, or_, select, tuple_

from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into
from relab.telemetry.overview import rollups
from relab.telemetry.overview.rollup_tables import RunRollupRow
from relab.telemetry.overview.rollups import BucketKey, Changes, Sums

_BUCKETS_PER_STATEMENT = 200


def apply(session: DatabaseSession, changes: Changes, shard: int) -> None:
    """Add changes to the stored sums over the runs of each minute and hour.

    Each sum is stored as up to 16 rows, so that parallel writers rarely wait for each other; a reader adds them up.
    `shard` is the number of the row to change, 0 to 15. The transaction must already have locked the changed runs.
    """
    buckets = changes.by_bucket()
    # In this order, so that two transactions cannot deadlock.
    keys = sorted(buckets)
    for start in range(0, len(keys), _BUCKETS_PER_STATEMENT):
        _apply_some(session, keys[start : start + _BUCKETS_PER_STATEMENT], buckets, shard)


def read(session: DatabaseSession, ranges: list[tuple[int, int, int]]) -> Sums:
    """Add up the stored sums over the runs that started in several ranges of time, and return the total.

    Args:
        session: the session of the transaction.
        ranges: `(bucket length, start of the first bucket, end of the last bucket)` of each range, in microseconds. A
            bucket is an hour or a minute.
    """
    wanted = or_(
        *(
            (RunRollupRow.length_us == length_us) & (RunRollupRow.started_at >= first) & (RunRollupRow.started_at < end)
            for length_us, first, end in ranges
        )
    )
    total = Sums()
    for data in session.execute(select(RunRollupRow.data).where(wanted)).scalars():
        total.add(Sums.read(data))
    return total


def _apply_some(session: DatabaseSession, keys: list[BucketKey], changes: Mapping[BucketKey, Sums], shard: int) -> None:
    table = table_of(RunRollupRow)
    statement = insert_into(session, table)
    empty: list[dict[str, Any]] = [
        {"length_us": length_us, "started_at": start, "shard": shard, "data": {}} for length_us, start in keys
    ]
    if session.get_bind().dialect.name == "postgresql":
        # This inserts the new buckets and locks the existing ones, one after the other in key order.
        lock = statement.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={"shard": statement.excluded.shard}, where=table.c.shard < 0
        )
        session.execute(lock, empty)
    wanted = select(RunRollupRow.length_us, RunRollupRow.started_at, RunRollupRow.data).where(
        tuple_(RunRollupRow.length_us, RunRollupRow.started_at).in_(keys), RunRollupRow.shard == shard
    )
    stored = {(row.length_us, row.started_at): row.data for row in session.execute(wanted)}
    changed: list[dict[str, Any]] = []
    emptied: list[dict[str, Any]] = []
    for row in empty:
        key = (row["length_us"], row["started_at"])
        sums = Sums.read(stored.get(key, {}))
        sums.add(changes[key], most_tools=rollups.MAX_TOOLS)
        data = sums.dump()
        (changed if any(data.values()) else emptied).append(row | {"data": data})
    if changed:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=list(table.primary_key), set_={"data": statement.excluded.data}
            ),
            changed,
        )
    if emptied:
        gone = [(row["length_us"], row["started_at"]) for row in emptied]
        session.execute(
            delete(table).where(tuple_(table.c.length_us, table.c.started_at).in_(gone), table.c.shard == shard)
        )
