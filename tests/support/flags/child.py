"""A process that increments a flag's number on request: `python -m support.flags.child URL KEY TIMES`."""

from __future__ import annotations

import sys

from relab.core.clock import SystemClock
from relab.core.errors import PreconditionFailedError
from relab.flags.service import FlagService
from relab.storage import Database
from support.flags.contents import content


def main(url: str, key: str, times: str) -> None:
    """Report ready, wait for the start signal, increment the number `TIMES` times, and report the end."""
    database = Database.open(url)
    flags = FlagService(database, SystemClock())
    print("ready", flush=True)
    sys.stdin.readline()
    done = 0
    while done < int(times):
        seen = flags.get(key)
        value = seen.content.variants["n"]
        assert isinstance(value, int)
        raised = content(value_type="number", variants={"n": value + 1}, default_variant="n")
        try:
            flags.update(key, raised, expected={seen.version}, author="child")
        except PreconditionFailedError:
            continue
        done += 1
    database.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
