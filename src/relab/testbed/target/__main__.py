"""`python -m relab.testbed.target --settings FILE --worker N`: run one worker, as the supervisor does."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run a worker until a signal ends it; return its exit code.

    The code is 0 after a signal, 1 if the worker cannot serve, 3 for bad settings.
    """
    parser = argparse.ArgumentParser(prog="shop", description="One worker of the shop.")
    parser.add_argument("--settings", type=Path, required=True, help="the settings file, JSON")
    parser.add_argument("--worker", type=int, required=True, help="the worker's number, from 1")
    arguments = parser.parse_args()
    if arguments.worker < 1:
        parser.error("--worker is 1 or more")
    # The libraries take a second to load, so check the arguments first.
    from relab.testbed.target.worker import run_worker  # noqa: PLC0415

    return run_worker(arguments.settings, worker=arguments.worker, qdrant_url=os.environ.get("QDRANT_URL"))


if __name__ == "__main__":
    sys.exit(main())
