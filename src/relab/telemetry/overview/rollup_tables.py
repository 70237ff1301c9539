"""The table of the sums over the runs of each hour and minute, from which the overview is computed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnClause, SmallInteger

from relab.storage.base import Base, Micros, column


class RunRollupRow(Base):
    """One part (shard) of the sums over the runs that started in one hour or minute; readers add up the parts.

    `data` is the JSON of the sums, as `Sums.dump` returns it.
    """

    __tablename__ = "run_rollups"

    length_us: ColumnClause[int] = column("span_us", BigInteger, key="length_us", primary_key=True, autoincrement=False)
    """The length of the bucket: an hour or a minute, in microseconds."""
    started_at: ColumnClause[int] = column(Micros, primary_key=True, autoincrement=False)
    shard: ColumnClause[int] = column(SmallInteger, primary_key=True, autoincrement=False)
    """Writers of different shards do not wait for each other; readers add up all shards."""
    data: ColumnClause[dict[str, Any]] = column(JSON)
