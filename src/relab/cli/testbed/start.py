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

    `home` is relab's home folder; `options` are further arguments of `relab.testbed.service.up`.

    On Ctrl-C or SIGTERM, stop the testbed again, and print to stderr whether it is stopped.

    Raises:
        RelabError: the name or the ports are invalid, the testbed runs already, or a component is not ready in time.
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
