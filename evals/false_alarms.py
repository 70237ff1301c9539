"""False alarms of the outcome: how many runs that did their task are not called a success.

    python -m evals.false_alarms            # the odd-numbered tasks, which no rule was written by
    python -m evals.false_alarms --half development

The runs are those of tau-bench airline with reward 1, each as a finished run without a word about its reward.
Recall is not measured: in most runs that fail there every call succeeds, so that no trace can show it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from evals.datasets import tau_bench
from evals.datasets.source import Body, MissingDataError, find_data, read_json

HALVES = {"development": 0, "held-out": 1}
"""Tasks by the parity of their number: the four repeats of a task are on one side."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of one half and return the exit code: 0 ok, 64 no data."""
    parser = argparse.ArgumentParser(prog="python -m evals.false_alarms", description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory (default: $RELAB_DATA, else ../shared/data)")
    parser.add_argument("--half", choices=list(HALVES), default="held-out")
    options = parser.parse_args(arguments)
    try:
        folder = find_data(options.data) / tau_bench.NAME
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 64
    found = judge_half(folder, HALVES[options.half])
    for reward, label in ((True, "passing"), (False, "failing")):
        print(_line(label, found[reward]))
    return 0


def judge_half(folder: Path, parity: int) -> dict[bool, dict[int, list[str]]]:
    """Return `{whether the reward is 1: {task: rule that decided, of each run}}` for the tasks with this parity."""
    rules: dict[bool, dict[int, list[str]]] = {True: defaultdict(list), False: defaultdict(list)}
    for record in read_json(folder / "gpt-4o-airline.json"):
        if record["task_id"] % 2 == parity:
            body = {**tau_bench.agent_run_of_trial(record), "status": "success"}
            rules[record["reward"] == 1][record["task_id"]].append(rule_of(body))
    return rules


def rule_of(body: Body) -> str:
    """Return the rule that decides the outcome of a run."""
    from relab.telemetry.models import AgentRun  # noqa: PLC0415 - the other evaluations need no package
    from relab.telemetry.outcome import activities_of, outcome_of  # noqa: PLC0415 - as above

    run = AgentRun.model_validate(json.loads(json.dumps(body)))
    return outcome_of(run, activities_of(run)).rule.value


def _line(label: str, by_task: dict[int, list[str]]) -> str:
    import numpy as np  # noqa: PLC0415 - as above

    from relab.stats.clustered_rate import clustered_rate  # noqa: PLC0415 - as above
    from relab.stats.paired import Clusters  # noqa: PLC0415 - as above

    alarms = {task: sum(rule != "no_unrecovered_error" for rule in rules) for task, rules in by_task.items()}
    total = sum(len(rules) for rules in by_task.values())
    hits = sum(alarms.values())
    clusters = Clusters(
        np.array([float(alarms[task]) for task in by_task]),
        np.array([float(len(rules)) for rules in by_task.values()]),
    )
    interval = clustered_rate(clusters, total)
    return (
        f"{label} runs: {hits} of {total} not called a success (n = {total} runs of {len(by_task)} tasks; "
        f"{100 * hits / total:.1f} %, {100 * interval.level:.0f} % interval {100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
    )


if __name__ == "__main__":
    sys.exit(main())
