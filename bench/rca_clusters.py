"""`python -m bench.rca_clusters`: measure reads of clusters of many failed runs, beside a count of the same rows."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, insert, select

from relab.rca.clusters.reader import ClusterReader
from relab.rca.models import Category
from relab.rca.tables import RcaFailureRow
from relab.storage import Database
from relab.storage.base import table_of
from relab.storage.migrate import upgrade

RUNS = 100_000
CLUSTERS = 2_000
REPEATS = 7


def fill(database: Database) -> None:
    """Store `RUNS` failures in at most `CLUSTERS` clusters; half of them are in the ten largest."""
    chance = random.Random(1)
    rows = []
    for number in range(RUNS):
        cluster = chance.randrange(10) if chance.random() < 0.5 else chance.randrange(CLUSTERS)
        rows.append(
            {
                "run_id": f"run-{number}",
                "rca_run_id": f"{number:036d}",
                "cluster": f"{cluster:024x}",
                "category": list(Category)[cluster % len(Category)].value,
                "line": f"the cause number {cluster}",
                "agent_name": f"agent-{cluster % 40}",
                "agent_version": f"1.{number // 10_000}",
                "started_at": 1_700_000_000_000_000 + number * 1_000_000,
            }
        )
    with database.write() as unit:
        unit.session.execute(insert(table_of(RcaFailureRow)), rows)


def median_ms(act: Callable[[], object]) -> float:
    """Return the median time of `REPEATS` calls in ms, after a warm-up call that is not counted."""
    act()
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        act()
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{Path(folder) / 'bench.db'}")
        upgrade(database)
        fill(database)
        reader = ClusterReader(database)

        def floor() -> None:
            with database.read() as session:
                session.execute(select(func.count()).select_from(RcaFailureRow)).scalar_one()

        rows = {
            "floor: count of all rows": floor,
            "the 20 largest clusters": lambda: reader.list(limit=20),
            "those of one agent": lambda: reader.list(agent_name="agent-3", limit=20),
            "those of a category": lambda: reader.list(category=Category.TIMEOUT, limit=20),
            "those of the last tenth": lambda: reader.list(since_us=1_700_090_000_000_000, limit=20),
            "the cluster of one run": lambda: reader.of_run("run-77"),
            "the figures of a scrape": reader.count_by_category,
        }
        print(f"{RUNS:,} failed runs, at most {CLUSTERS:,} clusters, SQLite, median of {REPEATS}")
        for name, act in rows.items():
            print(f"{name:30} {median_ms(act):8.1f} ms")
        database.close()


if __name__ == "__main__":
    main()
