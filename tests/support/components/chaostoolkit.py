"""chaostoolkit's command and library, which tests compare with relab's runner of scenarios."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from support.components.required import leave_out

_INSTALL = "pip install chaostoolkit 'chaostoolkit-lib[jsonpath]'"


def chaos_command() -> str:
    """Return the path of `chaos`; if it is missing, skip the test, or fail it where no test may be skipped."""
    # The interpreter may run without its virtual environment being active.
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = shutil.which("chaos", path=beside)
    return found or leave_out("chaos", _INSTALL)


def require_chaoslib() -> None:
    """Return if `chaoslib` and `jsonpath2` are installed; else skip the test, or fail it where none may be skipped."""
    for module in ("chaoslib", "jsonpath2"):
        if importlib.util.find_spec(module) is None:
            leave_out(module, _INSTALL)
