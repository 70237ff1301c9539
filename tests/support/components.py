"""System programs that some tests need: skipped with a hint where missing, and never in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(program: str, install: str) -> None:
    """Return if the program is there; else skip the test, or fail it where nothing may be skipped."""
    if shutil.which(program) is not None:
        return
    message = f"{program} is missing; install it with: {install}"
    if os.environ.get("RELAB_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)
