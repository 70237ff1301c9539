"""`python -m relab.testbed.scoring --input TRIAL_INPUT --output TRIAL_OUTPUT`: run one trial of `lab run`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from relab.core.errors import RelabError
from relab.testbed.scoring.harness import error_output, read_trial, run_trial

EXIT_FAILED: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial (one test of a responder) in `--input`, write its output to `--output`, and return the exit code.

    The exit code is 0 if an output was written, even if the output reports an error. It is 1 if the input is not a
    trial.
    """
    parser = argparse.ArgumentParser(prog="python -m relab.testbed.scoring")
    parser.add_argument("--input", type=Path, required=True, help="The trial's input file.")
    parser.add_argument("--output", type=Path, required=True, help="The trial's output file.")
    args = parser.parse_args(arguments)
    stop = threading.Event()
    # On these signals, stop the testbed and the responder in order, so that none of their processes is left behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        trial: dict[str, Any] = read_trial(args.input)
    except RelabError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    try:
        output = run_trial(trial, stop=stop, out=args.output.parent)
    except RelabError as error:
        sys.stderr.write(f"{error}\n")
        output = error_output(trial["ids"], error.code, str(error)[:2_000])
    except Exception as error:  # noqa: BLE001 whatever it was, the episode says nothing of the responder, and is to be counted
        traceback.print_exc()
        output = error_output(trial["ids"], "harness_failed", f"{type(error).__name__}: {error}"[:2_000])
    args.output.write_text(json.dumps(output), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
