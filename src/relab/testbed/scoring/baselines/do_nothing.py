"""`python -m relab.testbed.scoring.baselines.do_nothing`: a responder that counts polls and does nothing else."""

from __future__ import annotations

import os
import time

from relab.testbed.scoring.baselines.status_page import State, status_page


def main() -> None:
    """Run a responder that repairs nothing, as a baseline for real responders, until the process is killed.

    The responder serves a page with its status. At each poll interval, the count of polls on this page increases, but
    the responder sends no request to the target.
    """
    state = State()
    with status_page(state):
        while True:
            time.sleep(float(os.environ["POLL_INTERVAL_SECONDS"]))
            state.polls += 1


if __name__ == "__main__":
    main()
