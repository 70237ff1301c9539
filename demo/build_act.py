"""The fourth act: builds of a small project really fail; relab explains why, and finds settings that repair them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from demo.lab_server import end_process, impatience_ignored, server_environment
from demo.report_view import as_data
from relab.testbed.errors import MissingProgramError

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "build"
PROJECT: Final = "build-project"
"""The folder of the act's copy of the example, below the folder of the tour."""
MISSING_HEADER: Final = "queue_client.h"
PASSES: Final = 3
"""A pass has three retries. The optimizer starts without experience, so more passes than one may be needed."""
_TOOL_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class BuildsEnd:
    """How the builds of the act ended.

    Attributes:
        explanation: the responder's lines after the build without the header.
        builds: the recorded builds, the oldest first, as `lab builds list --json` prints them.
        memory_code: exit code of the last pass over the project whose builds need more memory than the limit.
    """

    explanation: str
    builds: list[dict[str, Any]]
    memory_code: int

    @property
    def problems(self) -> list[str]:
        """One sentence per problem; empty if the failures were recorded and explained, and a build succeeded later."""
        found = []
        failures = [build["result"]["failure"] for build in self.builds]
        if MISSING_HEADER not in self.explanation:
            found.append(f"The responder does not quote the line about the missing {MISSING_HEADER}.")
        if "exit_code" not in failures or "out_of_memory" not in failures:
            found.append(f"The monitor should have recorded a missing header and a lack of memory, not {failures}.")
        if self.memory_code != 0:
            found.append("The optimizer found no action with which the build succeeds.")
        return found


def check_build_tools() -> None:
    """Check that the example can be built on this machine.

    Raises:
        MissingProgramError: a tool is missing, or does not start; the remedy says how to install it.
    """
    if sys.platform != "linux":
        raise MissingProgramError(
            "Linux is needed: elsewhere relab cannot measure the memory of builds.", remedy="Run it in a container."
        )
    for tool in ("make", "cc", "python3"):
        if not _works(tool):
            raise MissingProgramError(
                f"The example is built with make, a C compiler and Python, and there is no working `{tool}` in PATH.",
                remedy="Install them. On Debian: apt-get install make gcc libc6-dev python3",
            )


def _works(tool: str) -> bool:
    # PATH may contain a stub that does not work without its tool, such as a version manager's or macOS's.
    try:
        ended = subprocess.run([tool, "--version"], capture_output=True, timeout=_TOOL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def play_builds(console: Console, home: Path) -> int:
    """Build the example with two faults in turn; return 0 if relab explains the first and overcomes the second.

    Args:
        console: the console for all output.
        home: the folder of the tour, which is the home of `lab`; the copy of the example is made there.

    Raises:
        OSError: the copy cannot be written, or `lab` cannot be started.
    """
    console.print(Text("\nrelab: builds fail, and relab learns what makes them succeed", style="bold"))
    project = home / PROJECT
    shutil.copytree(EXAMPLE, project)
    console.print(as_data("A commit includes a header that is missing. No knob helps, so a person gets the lines:"))
    set_fault(project, "dependency")
    _, explanation = _run(console, project, home, ["--set", "retries=0"])
    console.print(as_data("The header is mended. Now the build needs more memory than its limit; relab may retry:"))
    set_fault(project, "memory")
    code = 1
    for _ in range(PASSES):
        code, _ = _run(console, project, home, [])
        if code == 0:
            break
    end = BuildsEnd(explanation, _recorded(home), code)
    for note in _notes(end.builds):
        console.print(as_data(note, "dim"))
    for problem in end.problems:
        console.print(as_data(problem, "bold red"))
    if not end.problems:
        console.print(Text("Each failure has its cause, and the last build succeeded.", style="bold green"))
    return 1 if end.problems else 0


def set_fault(project: Path, fault: str) -> None:
    """Set the fault of the builds in the settings of a copy of the example."""
    settings = project / "settings.mk"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub(r"(?m)^FAULT = .*$", f"FAULT = {fault}", text), encoding="utf-8")


def _run(console: Console, project: Path, home: Path, options: list[str]) -> tuple[int, str]:
    """Run `lab builds run`, print its lines as they come, and return its exit code and these lines."""
    shown = " ".join(["lab builds run", os.path.relpath(project), *options])
    console.print(as_data(shown, "bold"))
    lines = []
    with _lab(["builds", "run", str(project), *options], home) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            console.print(as_data(f"  {line.rstrip()}"))
        code = process.wait()
    return code, "".join(lines)


@contextmanager
def _lab(arguments: list[str], home: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a running `lab` whose output is read as text; after the block it has ended, with its builds."""
    command = [str(Path(sys.executable).with_name("lab")), *arguments]
    # In a new session, Ctrl-C reaches only this program, which ends the command with SIGTERM.
    process = subprocess.Popen(
        command,
        cwd=home,
        env=server_environment(os.environ, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with impatience_ignored():
            end_process(process)
            if process.stdout is not None:
                process.stdout.close()


def _recorded(home: Path) -> list[dict[str, Any]]:
    with _lab(["builds", "list", "--json"], home) as process:
        text, _ = process.communicate()
    builds: list[dict[str, Any]] = json.loads(text)["items"]
    return builds[::-1]


def _notes(builds: list[dict[str, Any]]) -> list[str]:
    """Return one line about the sandbox of the builds: whether they were isolated, and if not, why."""
    note = next((build["sandbox_note"] for build in builds if build["sandbox_note"]), None)
    kinds = sorted({str(build["sandbox"]) for build in builds})
    return [f"sandbox of the {len(builds)} builds: {', '.join(kinds)}{'' if note is None else f' ({note})'}"]
