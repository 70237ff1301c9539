"""Counters and histograms in the database: every process adds to them, and every server exports the same totals.

An increment is part of the transaction that stores the event, so an event is counted exactly once. The total stays when
the event's record is deleted. A scrape reads one row for each series, however many events there were.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnClause, Float, String, Text, select

from relab.storage.base import Base, column, table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

Increments: TypeAlias = Mapping[tuple[str, tuple[str, ...]], float]
"""Amounts to add, by name and label values of their row."""


class CounterRow(Base):
    """The row of one stored total, for one combination of label values.

    The total is the number of a counter's events, the number of values in a bucket of a histogram, or the sum of a
    histogram's values.
    """

    __tablename__ = "counters"

    name: ColumnClause[str] = column(String(64), primary_key=True)
    labels: ColumnClause[str] = column(Text, primary_key=True)
    """The label values as a JSON list."""
    value: ColumnClause[float] = column(Float)


@dataclass(frozen=True, slots=True)
class StoredCounter:
    """A counter of events.

    Attributes:
        name: the name of the metric, without the suffix `_total`.
        text: the help text of the metric, as it is exported.
        labels: the names of the metric's labels; each must have a bounded number of values.
    """

    name: str
    text: str
    labels: tuple[str, ...]

    def one(self, *values: str) -> Increments:
        """Return the increment that counts one event; `values` are the label values, in the order of `labels`."""
        return {(self.name, values): 1.0}


@dataclass(frozen=True, slots=True)
class StoredHistogram:
    """A histogram of measured values.

    Attributes:
        name: the name of the metric.
        text: the help text of the metric, as it is exported.
        labels: the names of the metric's labels; each must have a bounded number of values.
        bounds: the upper bounds of the buckets, ascending and without infinity.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    # Totals with the bounds of an earlier version stay stored.
    bounds: tuple[float, ...]

    def one(self, value: float, *values: str) -> Increments:
        """Return the increments that count one measured value: 1 for its bucket, and the value for the sum.

        `values` are the label values, in the order of `labels`.
        """
        number = bisect_left(self.bounds, value)
        bound = str(float(self.bounds[number])) if number < len(self.bounds) else "+Inf"
        return {(self.name, (*values, bound)): 1.0, (f"{self.name}_sum", values): value}


StoredMetric: TypeAlias = StoredCounter | StoredHistogram


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A metric with all its stored totals.

    Attributes:
        metric: the metric.
        totals: for a counter, `{label values: number of events}`. For a histogram, `{(label values, upper bound):
            number of values in this bucket}`; the numbers are not cumulative.
        sums: for a histogram, `{label values: sum of the measured values}`; empty for a counter.
    """

    metric: StoredMetric
    totals: Mapping[tuple[str, ...], float]
    sums: Mapping[tuple[str, ...], float]


def add(session: DatabaseSession, increments: Iterable[Increments]) -> None:
    """Add increments of counters and histograms to the stored totals, in the transaction of the session.

    Increments of the same total are added up first, so that each total is updated once.
    """
    amounts: defaultdict[tuple[str, str], float] = defaultdict(float)
    for some in increments:
        for (name, values), amount in some.items():
            amounts[name, _written(values)] += amount
    if not amounts:
        return
    # Sorted, so that two transactions lock the rows in the same order.
    rows = [{"name": name, "labels": labels, "value": amount} for (name, labels), amount in sorted(amounts.items())]
    statement: Any = insert_into(session, table_of(CounterRow)).values(rows)
    total = CounterRow.value + statement.excluded.value
    session.execute(statement.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": total}))


def read(session: DatabaseSession, metrics: Sequence[StoredMetric]) -> list[StoredSeries]:
    """Return each of the given metrics with all its stored totals, in the order of `metrics`."""
    names = [name for metric in metrics for name in (metric.name, f"{metric.name}_sum")]
    found: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in names}
    row = CounterRow
    statement = select(row.name, row.labels, row.value).where(row.name.in_(names)).order_by(row.name, row.labels)
    for name, labels, value in session.execute(statement):
        found[name][tuple(json.loads(labels))] = value
    return [StoredSeries(metric, found[metric.name], found[f"{metric.name}_sum"]) for metric in metrics]


def bounded_label(session: DatabaseSession, name: str, value: str, *, limit: int, other: str) -> str:
    """Return the label value for an event: `value` if it is one of the first `limit` values, otherwise `other`.

    Users choose the values, so without a limit the number of series could grow forever. The accepted values are stored
    in a counter of their own: a call that returns `value` adds 1 to it.

    Args:
        session: the session of the transaction that counts the event.
        name: the name of the counter that stores the accepted values.
        value: the value of the event.
        limit: the largest number of accepted values. Concurrent transactions may each add one more.
        other: the label value for all other values.
    """
    statement = select(CounterRow.labels).where(CounterRow.name == name)
    known = set(session.execute(statement).scalars())
    if _written((value,)) not in known and len(known) >= limit:
        return other
    # The stored count of the value remembers it, so that a total never moves from one series to another.
    add(session, [{(name, (value,)): 1.0}])
    return value


def _written(values: tuple[str, ...]) -> str:
    # A lone surrogate can be neither stored nor exported.
    return json.dumps([value.encode(errors="replace").decode() for value in values], ensure_ascii=False)
