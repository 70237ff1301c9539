"""A process that uses the database on request: `python -m support.storage.child COMMAND URL …`."""

from __future__ import annotations

import sys

from sqlalchemy import text

from relab.storage import Database
from relab.storage.migrate import upgrade
from relab.storage.preparing import prepare
from relab.storage.schema import head


def increment(database: Database, times: int) -> None:
    """Read a number and write it back incremented, each time in a separate transaction."""
    for _ in range(times):
        with database.write() as unit:
            number = unit.session.execute(text("SELECT number FROM counter")).scalar_one()
            unit.session.execute(text("UPDATE counter SET number = :number"), {"number": number + 1})


def main(command: str, url: str, *arguments: str) -> None:
    """Report ready, wait for the start signal, run the command, and report the end."""
    database = Database.open(url)
    head()  # Read the migrations now, so that the processes of a race start at the same time.
    print("ready", flush=True)
    sys.stdin.readline()
    if command == "increment":
        increment(database, int(arguments[0]))
    elif command == "upgrade":
        upgrade(database)
    else:
        prepare(database)
    database.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
