"""Open the service of experiments for a command, and let Ctrl-C or a closed terminal stop a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relab.cli.context import open_services
from relab.cli.stopping import at_hangup, stop_signals

if TYPE_CHECKING:
    from relab.experiments.models import StopSwitch
    from relab.experiments.service import ExperimentService


@contextmanager
def open_experiments(*, telemetry: bool) -> Iterator[ExperimentService]:
    """Yield the service of experiments.

    If `telemetry` is true, the service stores each trial as an agent run in the configured database.
    """
    from relab.core.clock import SystemClock
    from relab.core.home import default_home, signing_key_path
    from relab.core.memory import give_large_blocks_back
    from relab.experiments.service import ExperimentService

    # A run may have a hundred thousand trials.
    give_large_blocks_back()
    if not telemetry:
        yield ExperimentService(SystemClock(), signing_key=signing_key_path(default_home()))
        return

    with open_services() as services:
        yield services.experiments()


@contextmanager
def stoppable_run() -> Iterator[StopSwitch]:
    """Yield a switch that stops a run: after the first Ctrl-C or SIGTERM, running trials finish, and no new ones start.

    A second Ctrl-C or SIGTERM ends the running trials immediately. A closed terminal counts as one Ctrl-C.
    """
    from relab.experiments.models import StopSwitch

    switch = StopSwitch()

    def pressed() -> None:
        message = (
            "ending the running trials"
            if switch.finish.is_set()
            else ("finishing the running trials; press Ctrl-C again to end them immediately")
        )
        print(f"lab: {message}", file=sys.stderr)
        switch.press()

    def hung_up() -> None:
        # The shell and the kernel may both report that the terminal was closed.
        if not switch.finish.is_set():
            pressed()

    with stop_signals(pressed), at_hangup(hung_up):
        yield switch
