"""Run Inspect in its environment, and record the fixtures: `python -m rig.inspect_logs.peer FOLDER [record]`.

The environment is outside the project, because Inspect installs some 90 packages, such as cloud clients and a debugger.
To record, use a neutral folder such as `/opt/inspect`: its name is in the tracebacks of the logs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig.frameworks.environments import InstallError

_HERE = Path(__file__).parent
FIXTURES = _HERE.parents[1] / "tests" / "fixtures" / "inspect"
EXPECTED = "expected.json"
_STAMP = ".installed"


def prepare(folder: Path) -> Path:
    """Install Inspect into the environment `folder`, unless it is installed; return its Python program.

    Raises:
        InstallError: a package cannot be installed.
    """
    wanted, stamp = (_HERE / "requirements.txt").read_text(), folder / _STAMP
    python = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "-r", str(_HERE / "requirements.txt")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InstallError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2_000:]}")
    stamp.write_text(wanted)
    return python


def write_logs(python: Path, folder: Path) -> dict[str, Path]:
    """Write the logs with Inspect to `folder`; return `{name of the model: path}`."""
    _run(python, "write_logs.py", str(folder))
    return {
        facts["model"].rpartition("/")[2]: path for path in folder.glob("*.eval") for facts in read_logs(python, path)
    }


def read_logs(python: Path, *paths: Path) -> Sequence[dict[str, Any]]:
    """Read logs with Inspect, and return one object for each (see `programs/read_logs.py`)."""
    return [json.loads(line) for line in _run(python, "read_logs.py", *map(str, paths)).splitlines()]


def _run(python: Path, program: str, *arguments: str) -> str:
    # The copy is beside the environment, so that tracebacks in a recorded log contain no folder of the project.
    placed = python.parents[1] / program
    shutil.copyfile(_HERE / "programs" / program, placed)
    command = [str(python), str(placed), *arguments]
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PATH": "/usr/bin:/bin", "INSPECT_DISABLE_UPDATE_CHECK": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=home)
    if done.returncode:
        raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stderr[-3_000:]}")
    return done.stdout


if __name__ == "__main__":
    interpreter = prepare(Path(sys.argv[1]).absolute())
    if sys.argv[2:] == ["record"]:
        with tempfile.TemporaryDirectory() as made:
            logs = write_logs(interpreter, Path(made))
            expected = {}
            for name, path in sorted(logs.items()):
                shutil.copyfile(path, FIXTURES / f"{name}.eval")
                [expected[name]] = read_logs(interpreter, path)
        (FIXTURES / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n")
