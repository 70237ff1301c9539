"""`python -m bench.ray_trials`: what the executor `ray` adds to a trial, beside the local pool, and how it scales to three nodes.

The cluster is a real one on loopback addresses of this machine, so that its nodes share the machine's cores. The figures
of both executors come from runs in turn (local, Ray, local, Ray, …), because other work on the machine changes them.
Times are those of the journal: from the first result to the last, without the start of Python, Ray's workers and the
analysis. `--rounds` gives the number of pairs; the medians are printed with all values.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from rig.ray_cluster import ray_cluster

NODES = 3
SLOTS = 2
SLEEP_S = 0.2
_HARNESS = f"""#!/bin/sh
sleep {SLEEP_S}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ray_trials", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=300, help="Trials of one run.")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.rounds} pairs of runs of {args.trials} trials")
    # Files are deleted after the last measurement, because deleted ones make new ones slower (see `bench.trials`).
    with TemporaryDirectory(prefix="relab-ray-bench-") as top:
        one_node = _measure_one_node(args, Path(top))
        _measure_three_nodes(args, Path(top), one_node)


def _measure_one_node(args: argparse.Namespace, top: Path) -> list[float]:
    """Print what Ray adds on one node; return the seconds per sleeping trial there, one for each round."""
    with ray_cluster(nodes=1, num_cpus=SLOTS) as cluster:
        ray = ("--executor", "ray", "--address", cluster.address)
        pairs = [
            (
                seconds(top, args.trials, SLOTS, ["/bin/true"]),
                seconds(top, args.trials, SLOTS, ["/bin/true"], *ray),
            )
            for _ in range(args.rounds)
        ]
        sleeping = [seconds(top, args.trials, SLOTS, ["./harness"], *ray) for _ in range(args.rounds)]
    for name, values in zip(("local", "ray, one node"), zip(*pairs, strict=True), strict=True):
        print(f"{name}, {SLOTS} at a time, /bin/true: {_figures(value * 1_000 for value in values)} ms a trial")
    print(f"ray adds {_figures((there - here) * 1_000 for here, there in pairs)} ms a trial")
    return sleeping


def _measure_three_nodes(args: argparse.Namespace, top: Path, one_node: list[float]) -> None:
    """Print the efficiency of three nodes beside the time that the harness sleeps, and beside three times one node."""
    with ray_cluster(nodes=NODES, num_cpus=SLOTS) as cluster:
        ray = ("--executor", "ray", "--address", cluster.address)
        at_once = NODES * SLOTS
        pairs = [
            (
                seconds(top, args.trials, at_once, ["./harness"]),
                seconds(top, args.trials, at_once, ["./harness"], *ray),
            )
            for _ in range(args.rounds)
        ]
    ideal = SLEEP_S / at_once
    for name, values in zip(("local pool", f"ray, {NODES} nodes"), zip(*pairs, strict=True), strict=True):
        print(
            f"sleep of {SLEEP_S} s, {name}, {at_once} at a time, of the sleep alone: {_figures(ideal / v for v in values)}"
        )
    scaling = [one / NODES / three for one, (_, three) in zip(one_node, pairs, strict=True)]
    print(f"sleep of {SLEEP_S} s, ray, {NODES} nodes of {NODES} times one node: {_figures(scaling)}")


def seconds(top: Path, count: int, at_once: int, command: list[str], *options: str) -> float:
    """Return the seconds per trial of a run in a new folder in `top`, from its first result to its last."""
    root = Path(mkdtemp(dir=top))
    _project(root, count, at_once, command)
    environment = {**os.environ, "RELAB_HOME": str(root / "home"), "LOG_LEVEL": "ERROR"}
    lab = [sys.executable, "-m", "relab", "run", "--json", "--quiet", "--no-telemetry", *options]
    # The harness writes no output, so that no variant has a result: `lab run` then ends with 1.
    done = subprocess.run(lab, cwd=root, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert answer.get("finished"), answer
    table = Path(answer["run"]["run_dir"], "analysis", "tables", "trials.jsonl")
    ends = sorted(datetime.fromisoformat(json.loads(line)["ended_at"]) for line in table.open())
    # The workers of a node start with its first trials.
    left_out = min(at_once * 2, count // 4)
    return (ends[-1] - ends[left_out]).total_seconds() / (len(ends) - left_out - 1)


def _project(root: Path, count: int, at_once: int, command: list[str]) -> None:
    (root / ".lab").mkdir()
    (root / "tasks.jsonl").write_text("".join(f'{{"task_id": "task_{number}"}}\n' for number in range(count)))
    harness = root / "harness"
    harness.write_text(_HARNESS)
    harness.chmod(0o755)
    document = {
        "version": "0.3",
        "experiment": {"id": "overhead", "name": "Overhead"},
        "dataset": {"path": "../tasks.jsonl"},
        "design": {"max_concurrency": at_once, "sanitization_profile": "hermetic_functional"},
        "baseline": {"variant_id": "control"},
        "runtime": {
            "harness": {"command": command},
            "network": {"mode": "full"},
            "workspace": {"ignore": ["home", "tasks.jsonl"]},
        },
    }
    (root / ".lab" / "experiment.yaml").write_text(json.dumps(document))


def _figures(values: Iterable[float]) -> str:
    found = list(values)
    return f"{statistics.median(found):.2f} (of {', '.join(f'{value:.2f}' for value in found)})"


if __name__ == "__main__":
    main()
