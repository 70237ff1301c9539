"""`python -m bench.forks`: measure how long a fork takes until its harness starts, beside the start of a run.

From the call of the service to the first instruction of the harness, in one process. The floor is what no fork can do
without: reading the project's snapshot from the cache, copying it, and starting a child process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from relab.core.clock import SystemClock
from relab.experiments.models import ForkOptions, RunOptions, StopSwitch
from relab.experiments.records.run_folder import open_run
from relab.experiments.records.run_snapshot import kept_snapshot
from relab.experiments.service import ExperimentService
from relab.experiments.workspace.snapshots import clone

HARNESS = """\
#!/bin/sh
date +%s%N > "$PWD/../started"
ids=$(sed -n '/"ids": {/,/}/p' "$2" | sed '$s/,$//' | tr -d '\\n')
echo memory > "$PWD/../state/memory"
printf '{"schema_version": "trial_output_v1", %s, "outcome": "success", "checkpoints": [{"path": "/state/memory", "step": 1}]}' \
  "${ids%,}" > "$4"
"""


def project_of(root: Path, files: int) -> Path:
    """Write a project with this many files of 2 KB beside its harness; return its experiment."""
    (root / ".lab").mkdir(parents=True)
    (root / "harness").write_text(HARNESS)
    (root / "harness").chmod(0o755)
    for number in range(files):
        (root / f"file_{number}").write_bytes(b"x" * 2_048)
    (root / "tasks.jsonl").write_text('{"task_id": "one"}\n')
    document = {
        "version": "0.3",
        "experiment": {"id": "bench", "name": "Bench"},
        "dataset": {"path": "../tasks.jsonl"},
        "design": {"sanitization_profile": "hermetic_functional"},
        "baseline": {"variant_id": "control"},
        "runtime": {
            "harness": {"command": ["./harness"], "integration_level": "sdk_full"},
            "network": {"mode": "full"},
        },
    }
    path = root / ".lab" / "experiment.yaml"
    path.write_text(json.dumps(document))
    return path


def ms_until_start(call: Callable[[], Path]) -> float:
    """Return the milliseconds from `call`, which returns a run's folder, to the first instruction of its harness."""
    began = time.time_ns()
    run_dir = call()
    return (int((run_dir / "trials" / "trial_1" / "started").read_text()) - began) / 1e6


def floor_ms(run_dir: Path, target: Path) -> float:
    """Return the milliseconds that reading and copying the snapshot and starting a child process take."""
    run = open_run(run_dir)
    began = time.perf_counter()
    clone(kept_snapshot(run, Path(run.facts["project_root"])).copier, target)
    subprocess.run(["/bin/sh", "-c", "date +%s%N"], cwd=target, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


def measure(folder: Path, files: int, count: int) -> dict[str, Sequence[float]]:
    """Return the figures in milliseconds by their name, for a project with this many files."""
    service = ExperimentService(SystemClock())
    experiment, plain = project_of(folder / "project", files), RunOptions()
    asked = ForkOptions("step:1", trials=("trial_1",), bindings=("temperature=0.7",), strict=True)

    def run() -> Path:
        return service.runs.run(service.runs.prepare(experiment, plain), plain, StopSwitch(), lambda *_: None).run_dir

    parent = run()

    def fork() -> Path:
        return service.runs.fork(service.runs.plan_fork(parent, asked), asked, StopSwitch(), lambda *_: None).run_dir

    figures: dict[str, list[float]] = {"fork": [], "run": [], "floor": []}
    for number in range(count + 1):
        row = ms_until_start(fork), ms_until_start(run), floor_ms(parent, folder / f"floor_{number}")
        # The first fork also loads modules, so it is not counted.
        if number:
            for values, value in zip(figures.values(), row, strict=True):
                values.append(value)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.forks", description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--files", type=int, nargs="*", default=[5, 2_000])
    args = parser.parse_args()
    table = Table(title=f"Until the harness starts, ms, n = {args.count}", title_justify="left")
    for column in ("files", "fork", "floor", "beyond the floor", "most beyond", "lab run"):
        table.add_column(column, justify="right")
    for files in args.files:
        with TemporaryDirectory(prefix="relab-bench-") as folder:
            found = measure(Path(folder), files, args.count)
        beyond = [fork - floor for fork, floor in zip(found["fork"], found["floor"], strict=True)]
        medians = {name: statistics.median(values) for name, values in found.items()}
        figures = (medians["fork"], medians["floor"], statistics.median(beyond), max(beyond), medians["run"])
        table.add_row(f"{files:,}", *(f"{value:,.1f}" for value in figures))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
