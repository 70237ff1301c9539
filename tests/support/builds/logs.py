"""Logs of real tools, and the envelopes of CI systems around them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from relab.builds.logs.models import BuildLog, RelevantLine
from relab.builds.logs.reading import read_log
from relab.builds.logs.relevance import relevant_lines

FOLDER = Path(__file__).parents[2] / "fixtures" / "builds"


def recorded(name: str) -> str:
    """Return a log that a real tool printed."""
    return (FOLDER / f"{name}.log").read_text()


def log_of(text: str) -> BuildLog:
    """Return a log as it is read from a file with this text."""
    return read_log(io.BytesIO(text.encode()))


def chosen(text: str, passing: str | None = None) -> list[RelevantLine]:
    """Return the relevant lines of a log with this text."""
    return relevant_lines(log_of(text), log_of(passing) if passing is not None else None)


def numbers(lines: Sequence[RelevantLine]) -> list[int]:
    """Return the numbers of these lines."""
    return [line.number for line in lines]


def as_github_step(command: str, output: str, *, code: int = 1) -> str:
    """Return the raw log of a failed step of GitHub Actions, after the logs of the steps before it."""
    lines = [
        "##[group]Run actions/checkout@v4",
        "##[endgroup]",
        "warning: error in an optional hook was ignored",
        f"##[group]Run {command}",
        f"\x1b[36;1m{command}\x1b[0m",
        "shell: /usr/bin/bash -e {0}",
        "##[endgroup]",
        *output.splitlines(),
        f"##[error]Process completed with exit code {code}.",
        "Post job cleanup.",
        "[command]/usr/bin/git version",
        "Cleaning up orphan processes",
    ]
    return "".join(f"2024-05-01T10:00:{index % 60:02}.1234567Z {line}\n" for index, line in enumerate(lines))
