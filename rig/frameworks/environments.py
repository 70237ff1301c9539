"""Make the environments of the frameworks: `python -m rig.frameworks.environments FOLDER [framework ...]`.

One virtual environment (or, for Node.js, one folder of modules) per framework, outside the project, from its pinned
packages. An environment is made again when its list of packages has changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from rig.frameworks.catalogue import PROGRAMS, Framework, frameworks

_STAMP = ".installed"


class InstallError(Exception):
    """The packages of a framework cannot be installed; the message has the end of the installer's output."""


def command(framework: Framework, environments: Path) -> list[str]:
    """Return the command that runs the framework's program; the caller must add the name of a case.

    A program for Node.js is copied into its environment first.

    Args:
        framework: the framework.
        environments: the folder with the environments of all frameworks.
    """
    home = environments / framework.folder
    if not framework.is_node:
        return [str(home / "bin" / "python"), str(PROGRAMS / framework.folder / framework.main)]
    # Node.js looks for modules beside the program.
    for path in (PROGRAMS / framework.folder / framework.main, *PROGRAMS.glob("*.mjs")):
        shutil.copy(path, home)
    return ["node", str(home / framework.main)]


def prepare(framework: Framework, environments: Path) -> None:
    """Install the pinned packages of a framework, unless they are installed already.

    Args:
        framework: the framework.
        environments: the folder with the environments of all frameworks.

    Raises:
        InstallError: a package cannot be installed.
    """
    home = environments / framework.folder
    wanted = _packages(framework).read_text()
    stamp = home / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(home, ignore_errors=True)
    if framework.is_node:
        home.mkdir(parents=True)
        shutil.copy(_packages(framework), home)
        _run(["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"], home)
    else:
        home.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(home)], home.parent)
        packages = str(_packages(framework))
        _run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", packages], home.parent)
    stamp.write_text(wanted)


def _packages(framework: Framework) -> Path:
    name = "package.json" if framework.is_node else "requirements.txt"
    return PROGRAMS / framework.folder / name


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InstallError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise InstallError(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for framework in frameworks().values():
        if framework.folder in names or not names:
            prepare(framework, Path(folder).absolute())
            print(f"{framework.folder}: ready")
