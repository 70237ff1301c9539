"""`python -m bench.trial_analysis COUNT`: measure the analysis of COUNT trials; print one JSON object.

There are two variants, tasks of 5 repeats each, success and two metrics. The rows are synthetic; the product's own code
computes everything from them.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from relab.experiments.results.analysis import analyze_run
from relab.experiments.results.report import write_report
from relab.experiments.results.result_tables import write_tables
from rig.trial_rows import trial_row, write_run

_REPEATS = 5


def main() -> None:
    count = int(sys.argv[1])
    with TemporaryDirectory(prefix="relab-analysis-") as name:
        rows = list(_rows(count))
        primary = ["success", "accuracy"]
        run_dir = write_run(Path(name) / "run", rows[:10], replications=_REPEATS, primary=primary)
        found = {
            "trials": len(rows),
            "tables_s": _seconds(lambda: write_tables(run_dir, iter(rows))),
            "analysis_s": _seconds(lambda: analyze_run(run_dir)),
            "report_s": _seconds(lambda: write_report(run_dir)),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
        }
    print(json.dumps(found))


def _rows(count: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(7)
    for task in range(count // (2 * _REPEATS)):
        skill = chance.random()
        for repeat in range(_REPEATS):
            for variant, better in (("base", 0.0), ("better", 0.02)):
                yield trial_row(
                    variant,
                    task,
                    repeat,
                    outcome="success" if chance.random() < skill + better else "failure",
                    duration_ms=chance.lognormvariate(7, 1),
                    metrics={"cost_usd": chance.expovariate(100), "accuracy": skill + better + chance.gauss(0, 0.1)},
                )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
