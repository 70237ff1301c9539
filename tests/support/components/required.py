"""System components that some tests need: if one is missing, the test is skipped with a hint, or fails in CI."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

_MISSING = re.compile(
    r"(?:Skipped: )?(?P<component>[^;:]+) is missing(?:: .*)?; install it with: (?P<install>.+)", re.DOTALL
)


def require_program(program: str, install: str) -> None:
    """Return if the program is installed; else skip the test, or fail it where no test may be skipped."""
    if shutil.which(program) is None:
        leave_out(program, install)


def leave_out(component: str, install: str, why: str = "") -> NoReturn:
    """Skip the test because a component is missing, or fail it where no test may be skipped (`RELAB_REQUIRE_ALL=1`).

    Args:
        component: its name, without `;` and `:`.
        install: the one command that installs it.
        why: how the test found out that it is missing.
    """
    detail = f": {why}" if why else ""
    message = f"{component} is missing{detail}; install it with: {install}"
    if os.environ.get("RELAB_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def summary_of(reasons: Iterable[str]) -> list[str]:
    """Return one line per missing component: the number of skipped tests, and the command that installs it.

    Args:
        reasons: the reasons of all skipped tests; reasons that are not from `leave_out` are ignored.
    """
    found = Counter((match["component"], match["install"]) for reason in reasons if (match := _MISSING.search(reason)))
    return [
        f"{component} is missing, so {count} {'test was' if count == 1 else 'tests were'} left out; install it with: {install}"
        for (component, install), count in sorted(found.items())
    ]
