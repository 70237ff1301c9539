"""`python -m relab.load.clients`: clients of a service, as a process that is told what to send.

Each line of standard input is a plan as JSON; it takes the place of the one before, which ends at once. A line without
one (`null`) means silence. The end of the input is the end of the process, so that it never outlives whoever holds
the other end, however that one ends. Nothing is measured; an error ends the process with 1 and a line that names it.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from relab.core.errors import RelabError
from relab.load.models import LoadPlan
from relab.load.service import make_plan, run_load

EXIT_FAILED = 1


class Clients:
    """The load of the moment, on a thread of its own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def become(self, plan: LoadPlan | None) -> None:
        """Put a load in the place of the one before."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        if plan is not None:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=_send, args=(plan, self._stop), daemon=True)
            self._thread.start()


def _send(plan: LoadPlan, stop: threading.Event) -> None:
    try:
        run_load(plan, stop=stop)
    except RelabError as error:
        _fail(error)


def _fail(error: RelabError) -> None:
    os.write(2, f"{error}\n".encode())
    # The main thread waits for input, and would not hear of an exception.
    os._exit(EXIT_FAILED)


def main() -> None:
    """Send what the lines of the input say, until there are no more."""
    clients = Clients()
    try:
        for line in sys.stdin:
            fields = json.loads(line)
            clients.become(None if fields is None else make_plan(**fields))
    except RelabError as error:
        _fail(error)
    # Requests under way are not waited for: nobody is there any more who wants them.
    os._exit(0)


if __name__ == "__main__":
    main()
