"""Start a testbed from a command, and stop it again if the command is interrupted before the testbed is ready."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.cli.stopping import interruptible

if TYPE_CHECKING:
    from relab.testbed.models import TestbedStatus


def start_testbed(home: Path, name: str, **options: Any) -> TestbedStatus:
    """Start the testbed `name`, and return its status when all components are ready.

    `home` and the options are those of `service.up`.

    On Ctrl-C or SIGTERM, stop the testbed again, and print to stderr whether it is stopped.

    Raises:
        RelabError: the same errors as `service.up`.
        KeyboardInterrupt: Ctrl-C or SIGTERM came before all components were ready.
    """
    from relab.testbed import service

    try:
        with interruptible():
            return service.up(home, name, **options)
    except KeyboardInterrupt as interruption:
        said = str(interruption) or f"The testbed {name} may still run; end it: lab testbed down --name {name}"
        print(f"lab: interrupted. {said}", file=sys.stderr)
        raise
