"""Small projects with their own harness, and the `lab` processes that run them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from rig.waiting import wait_until
from support.lab.cli import Outcome
from support.lab.preloaded import Command, run_command
from support.lab.process import lab_environment
from support.storage.migrated import prepare_home

TIMEOUT_S = 100

PREAMBLE = """\
import json, os, signal, subprocess, sys, time
from datetime import datetime, timezone
from pathlib import Path

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
given = json.loads(Path(arguments["--input"]).read_bytes())
ids, task, bindings, paths = given["ids"], given["task"], given["bindings"], given["runtime"]["paths"]
output, events = Path(arguments["--output"]), Path(paths["out"], "harness_events.jsonl")
seq = 0


def answer(outcome="success", **more):
    document = {"schema_version": "trial_output_v1", "ids": ids, "outcome": outcome, **more}
    output.write_text(json.dumps(document))


def event(kind, **fields):
    global seq
    seq += 1
    ts = datetime.now(timezone.utc).isoformat()
    with events.open("a") as file:
        file.write(json.dumps({"event_type": kind, "ts": ts, "seq": seq, "ids": ids, **fields}) + "\\n")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


"""
"""The first lines of the Python harnesses: the wire contract, without any library."""

WAITING = """\
Path(bindings["meet"], "started-" + ids["trial_id"]).write_text(str(os.getpid()))
if task.get("waits"):
    wait_for(bindings["meet"] + "/go")
answer()
"""
"""A harness whose trials write a file when they start; trials of a task with `waits` end when the file `go` exists."""


def answering(outcome: str = "success") -> str:
    """Return a harness for /bin/sh that gives the same answer for every task."""
    return f"""\
#!/bin/sh
ids=$(sed -n '/"ids": {{/,/}}/p' "$2" | sed '$s/,$//' | tr -d '\\n')
printf '{{"schema_version": "trial_output_v1", %s, "outcome": "{outcome}"}}' "${{ids%,}}" > "$4"
"""


@dataclass
class Project:
    """A project folder with an experiment, and a home of relab.

    Attributes:
        settings: environment variables of every `lab` process of the project.
    """

    root: Path
    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    tasks: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def make(cls, folder: Path, harness: str = "answer()\n", tasks: int | Sequence[Mapping[str, Any]] = 2) -> Self:
        """Write a project with a harness in Python and an experiment of one variant over these tasks."""
        made = cls(folder / "project", folder / "home")
        (made.root / "data").mkdir(parents=True)
        made.home.mkdir(exist_ok=True)
        prepare_home(made.home, {})
        made.write_harness(PREAMBLE + harness)
        rows = [{"task_id": f"task_{number:03}"} for number in range(1, tasks + 1)] if isinstance(tasks, int) else tasks
        made.write_tasks(rows)
        made.configure()
        return made

    @property
    def experiment(self) -> Path:
        """The path of the experiment file."""
        return self.root / ".lab" / "experiment.yaml"

    @property
    def dataset(self) -> Path:
        """The path of the file of tasks."""
        return self.root / "data" / "tasks.jsonl"

    def write_harness(self, text: str) -> None:
        """Write the harness as an executable file."""
        path = self.root / "harness"
        path.write_text(text)
        path.chmod(0o755)

    def write_tasks(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the data set."""
        self.tasks = rows
        self.dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def configure(self, **sections: Any) -> None:
        """Write the experiment file: the defaults, merged with `sections`.

        `command` stands for `runtime.harness.command`.
        """
        command = sections.pop("command", [sys.executable, "-S", "harness"])
        document: dict[str, Any] = {
            "version": "0.3",
            "experiment": {"id": "trying", "name": "Trying"},
            "dataset": {"path": "../data/tasks.jsonl"},
            "design": {"sanitization_profile": "hermetic_functional"},
            "baseline": {"variant_id": "control"},
            "runtime": {"harness": {"command": command}, "network": {"mode": "full"}},
        }
        self.experiment.parent.mkdir(exist_ok=True)
        # JSON is YAML too.
        self.experiment.write_text(json.dumps(_merged(document, sections), indent=2))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a `lab` command."""
        return [sys.executable, "-W", "error", "-m", "relab", *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment for `lab`."""
        return lab_environment(self.home, {"COLUMNS": "200", **self.settings, **more})

    def lab(
        self, *arguments: str, code: int | None = 0, under: Sequence[str] = (), cwd: Path | None = None, **more: str
    ) -> Outcome:
        """Run a command in the project and assert its exit code (None: any).

        Args:
            arguments: the command line after `lab`.
            code: the expected exit code.
            under: the words before the command line, of a program that starts `lab`.
            cwd: the folder to start it in, if not the project's.
            more: additional environment variables.
        """
        environment, folder = self.environment(**more), cwd or self.root
        if under:
            done = subprocess.run(
                [*under, *self.command(*arguments)],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        else:
            done = run_command(arguments, environment=environment, cwd=folder, within_s=TIMEOUT_S)
        outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in outcome.err, outcome.err
        assert code is None or outcome.code == code, f"lab {arguments} ended with {outcome}"
        return outcome

    def json(self, *arguments: str, code: int = 0, **more: Any) -> dict[str, Any]:
        """Run a command with --json and return the one object that it printed."""
        return self.lab(*arguments, "--json", code=code, **more).json

    def run(self, *options: str, telemetry: bool = False, code: int | None = None, **more: Any) -> Run:
        """Run the experiment to its end, assert its exit code (by default the reported one) and return the run."""
        kept = () if telemetry else ("--no-telemetry",)
        done = self.lab("run", *options, *kept, "--json", code=code, **more)
        assert done.code == done.json["exit_code"] in {0, 1}, done
        return Run(Path(done.json["run"]["run_dir"]), done.json)

    def start(self, *options: str, **more: str) -> Runner:
        """Start `lab run` and return the running process; use it as a context manager."""
        return Runner(self, ("run", *options, "--json"), more)

    def runs(self) -> list[Path]:
        """Return the folders of the runs that have a manifest."""
        return sorted(path.parent for path in self.root.glob(".lab/runs/*/manifest.json"))

    def processes(self) -> list[psutil.Process]:
        """Return the running harnesses of this project, including detached ones."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                marker = process.environ().get("AGENTLAB_TRIAL_INPUT", "")
                if marker.startswith(str(self.root)) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@dataclass(frozen=True)
class Run:
    """The files of a run."""

    path: Path
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of `trials.jsonl` by trial id; fails if a trial has more than one row."""
        rows = self.table("trials")
        assert len({row["trial_id"] for row in rows}) == len(rows)
        return {row["trial_id"]: row for row in rows}

    @property
    def by_task(self) -> dict[str, dict[str, Any]]:
        """The rows by task id, for a run with one trial per task."""
        found = {row["task_id"]: row for row in self.rows.values()}
        assert len(found) == len(self.rows)
        return found

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table."""
        return read_lines(self.path / "analysis" / "tables" / f"{name}.jsonl")

    def json(self, name: str) -> Any:
        """Return a JSON document in the run's folder."""
        return json.loads((self.path / name).read_bytes())

    def trial(self, trial_id: str) -> Path:
        """Return the folder of a trial."""
        return self.path / "trials" / trial_id

    def journal(self) -> list[dict[str, Any]]:
        """Return the rows of the journal in the order in which the trials ended, without an incomplete last line."""
        path = self.path / "journal.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line["row"] for line in lines if "row" in line]


class Runner:
    """A running `lab run`; after the block the process and every harness of its project have ended."""

    def __init__(self, project: Project, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.project = project
        project.home.mkdir(exist_ok=True)
        self._out, self._err = project.home / f"out-{id(self)}", project.home / f"err-{id(self)}"
        with Path(os.devnull).open("rb") as nothing, self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = Command(
                arguments,
                environment=project.environment(**environment),
                cwd=project.root,
                streams=(nothing, out, err),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT_S)
        for process in self.project.processes():
            # A harness may end by itself at this moment.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until(lambda: not self.project.processes(), what="the end of all harnesses")
        if kind is not None:
            print(f"--- lab run ---\n{self._err.read_text()[-3_000:]}")

    def wait_for(self, *paths: Path) -> None:
        """Wait until all these files exist."""
        wait_until(lambda: self._alive() and all(path.exists() for path in paths), what=f"{paths}")

    def wait_done(self, count: int) -> Run:
        """Wait until `count` trials of the project's only run have a result; return the run."""
        (path,) = wait_until(lambda: self._alive() and self.project.runs(), what="the run")
        run = Run(path)
        wait_until(lambda: self._alive() and len(run.journal()) >= count, what=f"{count} results")
        return run

    def says(self, text: str) -> None:
        """Wait until the runner has written a text to stderr."""
        wait_until(lambda: text in self._err.read_text(), what=f"{text!r} on stderr")

    def press(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal to the runner, but not to its harnesses."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the runner with SIGKILL, but not its harnesses."""
        self.process.kill()
        assert self.process.wait(TIMEOUT_S) == -signal.SIGKILL

    def end(self, code: int | None = 0) -> Outcome:
        """Wait until the runner ends and assert its exit code (None: any)."""
        outcome = Outcome(self.process.wait(TIMEOUT_S), self._out.read_text(), self._err.read_text())
        assert "Traceback" not in outcome.err, outcome.err
        assert code is None or outcome.code == code, outcome
        return outcome

    def _alive(self) -> bool:
        code = self.process.poll()
        assert code is None, f"lab run ended with {code}: {self._out.read_text()} {self._err.read_text()}"
        return True


def without_privileges() -> list[str]:
    """Return the words before a command that make file permissions apply to it even as root."""
    if os.geteuid() != 0:
        return []
    capabilities = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={capabilities}", f"--bounding-set={capabilities}"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_with(folder: Path, needles: Iterable[bytes]) -> list[Path]:
    """Return the files below a folder whose content or name has one of these texts."""
    found = []
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            content = os.fsencode(name)
            if path.is_file() and not path.is_symlink():
                content += path.read_bytes()
            if any(needle in content for needle in needles):
                found.append(path)
    return found


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
