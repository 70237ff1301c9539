"""`python -m bench.trials`: measure how much longer a trial takes than its bare child process, beside other runners.

Everything runs on one machine. The harness is `/bin/true`, so that everything measured is the runner's own work:
workspace, documents, sandbox, watching, reading back, the journal, the agent run in telemetry. A figure is wall time
per job, at the same concurrency for all.

What the runs write is deleted after the last measurement: for minutes after many files were deleted, ext4 searches their
inodes whenever a file is created, which made a trial up to four times as long in later rounds. So leave some minutes
between two calls, or set `TMPDIR` to a folder in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import psutil
from rich.console import Console
from rich.table import Table

from bench.otlp_targets import PEERS, install

PARTS = ("bare", "local", "bwrap", "docker", "parallel", "inspect", "analysis")
DOCKER_IMAGE = os.environ.get("RELAB_BENCH_IMAGE", "relab-test:latest")
_INSPECT = """
import sys, time
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.solver import solver
from inspect_ai.util import sandbox
@solver
def nothing():
    async def solve(state, generate):
        await sandbox().exec(["/bin/true"])
        return state
    return solve
count = int(sys.argv[1])
task = Task(dataset=[Sample(input="x", target="x") for _ in range(count)], solver=[nothing()], sandbox="local")
started = time.perf_counter()
eval(task, model="mockllm/model", max_samples=int(sys.argv[2]), display="none", log_dir=sys.argv[3])
print(time.perf_counter() - started)
"""


@dataclass
class Figures:
    """One row of the table.

    Attributes:
        what: the runner.
        jobs: the number of trials.
        ms_per_job: wall time per trial, in ms.
        beyond_bare_ms: how much longer that is than for bare child processes of the same round.
        processor_ms: processor time of the whole command and its children per trial, in ms; other work on the machine
            disturbs it less than wall time.
        running_mb: maximum memory while trials ran.
        peak_mb: maximum memory of the whole command, including the analysis.
    """

    what: str
    jobs: int = 0
    ms_per_job: float | None = None
    beyond_bare_ms: float | None = None
    processor_ms: float | None = None
    running_mb: float | None = None
    peak_mb: float | None = None
    note: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.trials", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"Parts, of {','.join(PARTS)}.")
    parser.add_argument("--trials", type=int, default=10_000, help="Trials of the local sandbox, and bare children.")
    parser.add_argument("--docker-trials", type=int, default=100)
    parser.add_argument("--inspect-samples", type=int, default=1_000)
    parser.add_argument("--analysed", type=int, default=100_000, help="Trials whose analysis is timed.")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="How often all parts are measured, in turn.")
    parser.add_argument("--no-telemetry", action="store_true", help="Do not record trials as agent runs.")
    parser.add_argument("--peers-dir", type=Path, default=Path(".bench/peers"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    with TemporaryDirectory(prefix="relab-trials-") as top:
        rows = _rounds(args, Path(top))
    if args.json:
        print(json.dumps({"cores": os.cpu_count(), "load": load, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(f"load {load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end")
        _show(rows, args.concurrency)


def _rounds(args: argparse.Namespace, top: Path) -> list[Figures]:
    """Measure all parts in turn, for the requested number of rounds; runs are written to `top`."""
    parts: dict[str, Callable[[], Figures]] = {
        "bare": lambda: bare(args.trials, args.concurrency),
        "local": lambda: relab("local", args.trials, args, top),
        "bwrap": lambda: relab("bwrap", args.trials, args, top),
        "docker": lambda: relab("container", args.docker_trials, args, top),
        "parallel": lambda: gnu_parallel(args.trials, args.concurrency),
        "analysis": lambda: analysis(args.analysed),
        "inspect": lambda: inspect_ai(args.inspect_samples, args.concurrency, args.peers_dir.absolute()),
    }
    rows: list[Figures] = []
    for _ in range(args.rounds):
        measured = list(_round(args, parts))
        base = next((row.ms_per_job for row in measured if row.what.startswith("bare")), None)
        for row in measured:
            if base is not None and row.ms_per_job is not None and not row.what.startswith("bare"):
                row.beyond_bare_ms = row.ms_per_job - base
        rows += measured
    return rows


def _round(args: argparse.Namespace, parts: Mapping[str, Callable[[], Figures]]) -> Iterator[Figures]:
    """Measure each requested part once, with its processor time."""
    for part in args.only.split(","):
        print(f"{part} ...", file=sys.stderr)
        before = sum(os.times()[:4])
        row = parts[part]()
        if row.jobs and part not in {"docker", "analysis"}:
            row.processor_ms = (sum(os.times()[:4]) - before) / row.jobs * 1_000
        yield row
        if part == "docker":
            yield docker_run(args.docker_trials, args.concurrency)


def bare(count: int, concurrency: int) -> Figures:
    """Measure `count` child processes that a Python program starts directly, `concurrency` at a time."""
    started = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(lambda _: subprocess.run(["/bin/true"], check=True), range(count)))
    return Figures("bare child processes", count, (time.perf_counter() - started) / count * 1_000)


def relab(mode: str, count: int, args: argparse.Namespace, top: Path) -> Figures:
    """Measure `lab run` with `count` trials in the sandbox `mode` (`local`, `bwrap`, `container`), below `top`."""
    root = Path(mkdtemp(dir=top))
    _project(root, mode, count, args.concurrency)
    environment = {"PATH": os.environ["PATH"], "RELAB_HOME": str(root / "home"), "LOG_LEVEL": "ERROR"}
    lab = [sys.executable, "-m", "relab", "run", "--json", "--quiet"]
    if args.no_telemetry:
        lab.append("--no-telemetry")
    # The journal gives the time of the trials only, without the start of Python and without the analysis.
    running, peak, done = _watched([*lab, str(root / ".lab/experiment.yaml")], root, environment)
    # `/bin/true` writes no output, so that no variant has a result: `lab run` then ends with 1.
    if done.returncode not in {0, 1} or not json.loads(done.stdout).get("finished"):
        return Figures(f"relab, {mode}", note=f"failed: {(done.stdout + done.stderr)[-300:]}")
    run_dir = Path(json.loads(done.stdout)["run"]["run_dir"])
    seconds, wall = _trial_seconds(run_dir)
    note = f"whole command {wall:.1f} s" + (", no telemetry" if args.no_telemetry else "")
    each = seconds / count * 1_000
    return Figures(f"relab, {mode}", count, each, running_mb=running, peak_mb=peak, note=note)


def _watched(
    command: list[str], cwd: Path, environment: dict[str, str]
) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """Run a command; return its maximum MB while trials ran, its maximum MB in total, and the completed process."""
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        running, peak, watched = 0.0, 0.0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss / 1_048_576)
                if not list(cwd.glob(".lab/runs/*/analysis")):
                    running = peak
                process.wait(0.5)
            except (subprocess.TimeoutExpired, psutil.Error):
                continue
        assert process.stdout is not None
        assert process.stderr is not None
        found = subprocess.CompletedProcess(command, process.returncode, process.stdout.read(), process.stderr.read())
    return running, peak, found


def _trial_seconds(run_dir: Path) -> tuple[float, float]:
    """Return the seconds from the start of the first trial to the last journal line, and to the end of the run."""
    first = (run_dir / "manifest.json").stat().st_mtime
    last = (run_dir / "journal.jsonl").stat().st_mtime
    end = (run_dir / "attestation.json").stat().st_mtime
    return last - first, end - first


def _project(root: Path, mode: str, count: int, concurrency: int) -> None:
    (root / ".lab").mkdir()
    (root / "src").mkdir()
    for number in range(5):
        (root / "src" / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 20)
    with (root / "tasks.jsonl").open("w") as file:
        for number in range(count):
            file.write(json.dumps({"task_id": f"task_{number}", "prompt": "nothing"}) + "\n")
    image = f"\n    image: {DOCKER_IMAGE}" if mode == "container" else ""
    (root / ".lab" / "experiment.yaml").write_text(f"""\
version: "0.3"
experiment: {{id: overhead, name: Overhead}}
dataset: {{path: ../tasks.jsonl}}
design: {{max_concurrency: {concurrency}}}
baseline: {{variant_id: control}}
runtime:
  harness: {{command: [/bin/true]}}
  sandbox:
    mode: {mode}{image}
  network: {{mode: none}}
  workspace: {{ignore: [home, tasks.jsonl]}}
""")


def docker_run(count: int, concurrency: int) -> Figures:
    """Measure `count` times `docker run` with the same program, `concurrency` at a time."""
    if shutil.which("docker") is None:
        return Figures("docker run", note="no docker command on this machine")
    command = ["docker", "run", "--rm", "--network", "none", DOCKER_IMAGE, "/bin/true"]

    def once(_: int) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stderr[-200:] or f"exit code {done.returncode}"

    started = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        failed = next(filter(None, pool.map(once, range(count))), None)
    if failed is not None:
        return Figures("docker run", note=f"failed: {failed}")
    return Figures("docker run", count, (time.perf_counter() - started) / count * 1_000)


def gnu_parallel(count: int, concurrency: int) -> Figures:
    """Measure GNU parallel with `count` jobs of the same program."""
    if shutil.which("parallel") is None:
        return Figures("GNU parallel", note="not installed: .ci/system-packages --peers")
    numbers = "\n".join(map(str, range(count)))
    started = time.perf_counter()
    command = ["parallel", "--will-cite", "-j", str(concurrency), "/bin/true"]
    subprocess.run(command, input=numbers, text=True, check=True, capture_output=True)
    return Figures("GNU parallel", count, (time.perf_counter() - started) / count * 1_000)


def inspect_ai(count: int, concurrency: int, environments: Path) -> Figures:
    """Measure Inspect AI with `count` samples; each runs the same program in a separate local sandbox.

    `environments` is the folder of the peers' Python environments.
    """
    PEERS["inspect"] = "inspect-ai"
    with TemporaryDirectory() as logs:
        try:
            python = install("inspect", environments)
            command = [str(python), "-c", _INSPECT, str(count), str(concurrency), logs]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return Figures("Inspect AI", note=f"failed: {said[-300:]}")
    return Figures("Inspect AI", count, float(done.stdout.split()[-1]) / count * 1_000)


def analysis(count: int) -> Figures:
    """Measure how long the tables, the analysis and the report of `count` trials take, in a separate process."""
    command = [sys.executable, "-m", "bench.trial_analysis", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    note = ", ".join(f"{part} {found[f'{part}_s']:.1f} s" for part in ("tables", "analysis", "report"))
    return Figures("analysis", found["trials"], peak_mb=found["peak_mb"], note=note)


def _show(rows: list[Figures], concurrency: int) -> None:
    title = f"Trials on {os.cpu_count()} cores, {concurrency} at a time"
    table = Table(title=title, title_justify="left")
    for column in ("what", "n", "ms per job", "beyond bare ms", "processor ms", "running MB", "peak MB", "note"):
        table.add_column(column, justify="left" if column in {"what", "note"} else "right")
    for row in rows:
        figures = (row.ms_per_job, row.beyond_bare_ms, row.processor_ms, row.running_mb, row.peak_mb)
        texts = ("" if value is None else f"{value:,.2f}" for value in figures)
        table.add_row(row.what, f"{row.jobs:,}", *texts, row.note)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
