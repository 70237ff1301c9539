"""The ORM table of the sums over the runs of each hour and minute, from which the overview is computed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, Micros


class RunRollupRow(Base):
    """One part (shard) of the sums over the runs that started in one hour or minute; readers add up the parts.

    `data` is the JSON of the sums, as `Sums.dump` returns it.
    """

    __tablename__ = "run_rollups"

    length_us: Mapped[int] = mapped_column(
        "span_us", BigInteger, key="length_us", primary_key=True, autoincrement=False
    )
    """The length of the bucket: an hour or a minute, in microseconds."""
    started_at: Mapped[int] = mapped_column(Micros, primary_key=True, autoincrement=False)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    """Writers of different shards do not wait for each other; readers add up all shards."""
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
