"""chaostoolkit itself, beside which scenarios are run: its command, and its library."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from support.components.required import leave_out

_INSTALL = "pip install chaostoolkit 'chaostoolkit-lib[jsonpath]'"


def chaos_command() -> str:
    """Return the path of `chaos`; skip the test where it is missing, or fail it where nothing may be skipped."""
    # The interpreter may be run without its environment being active.
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = shutil.which("chaos", path=beside)
    return found or leave_out("chaos", _INSTALL)


def require_chaoslib() -> None:
    """Return if chaostoolkit's library and its paths into JSON can be imported; else as for the command."""
    for module in ("chaoslib", "jsonpath2"):
        if importlib.util.find_spec(module) is None:
            leave_out(module, _INSTALL)
