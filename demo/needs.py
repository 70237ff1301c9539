"""Check what the second and third act need on this machine besides relab itself."""

from __future__ import annotations

import importlib.util

from relab.testbed.errors import MissingProgramError
from relab.testbed.supervisor.programs import check_platform, find_postgres, find_redis

MODULES = ("faiss", "psycopg", "qdrant_edge", "redis")
"""Modules that the shop imports; relab[testbed] installs all of them."""


def check_needs() -> None:
    """Check that the shop of the second and third act can be started on this machine.

    Raises:
        MissingProgramError: a requirement is missing; the message names it, the remedy says how to install it.
    """
    check_platform()
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingProgramError(
            f"The shop's libraries are not installed: {', '.join(missing)}.", remedy="pip install -e '.[testbed]'"
        )
    find_postgres()
    find_redis()
