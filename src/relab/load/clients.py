"""`python -m relab.load.clients`: a process that sends load to a service, controlled over standard input.

Each line of standard input is a plan as JSON; it replaces the previous plan, whose load ends at once. The line `null`
stops the load. The process exits at the end of the input, so that it never outlives its parent, even if the parent
crashes. It measures nothing. If a plan is invalid or its load fails, it prints one line with the error to stderr, and
exits with 1.
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
    """Sends one load at a time, in a separate thread, until another load replaces it or `become(None)` stops it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def become(self, plan: LoadPlan | None) -> None:
        """Stop the load that runs now, then start the load of `plan`; with None, start nothing."""
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
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 without an exit, the parent would not notice that no load is sent
        _fail(f"{type(error).__name__}: {error}")


def _fail(reason: str) -> None:
    os.write(2, f"{reason}\n".encode(errors="replace"))
    # The main thread is blocked on input and would not see an exception of this thread.
    os._exit(EXIT_FAILED)


def main() -> None:
    """Read load plans from standard input, one JSON value per line, and send the load of the latest plan.

    Each line ends the previous load at once; `null` starts no new load. The process exits at the end of the input.
    """
    clients = Clients()
    try:
        for line in sys.stdin:
            fields = json.loads(line)
            clients.become(None if fields is None else make_plan(**fields))
    except RelabError as error:
        _fail(str(error))
    # Do not wait for requests in flight: the parent process has ended and needs no results.
    os._exit(0)


if __name__ == "__main__":
    main()
