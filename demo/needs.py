"""What the incident needs beside relab itself, and why it cannot be shown where that is missing."""

from __future__ import annotations

import importlib.util

from relab.testbed.errors import MissingProgramError
from relab.testbed.supervisor.programs import check_platform, find_postgres, find_redis

MODULES = ("faiss", "psycopg", "qdrant_edge", "redis")
"""What the shop imports; all of it comes with relab[testbed]."""


def check_needs() -> None:
    """See that a shop can be brought up here.

    Raises:
        MissingProgramError: it cannot; the message says why, the remedy what to do.
    """
    check_platform()
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingProgramError(
            f"The shop's libraries are not installed: {', '.join(missing)}.", remedy="pip install -e '.[testbed]'"
        )
    find_postgres()
    find_redis()
